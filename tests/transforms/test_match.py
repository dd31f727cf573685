# Copyright (c) monai_lipcar contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Tests of the intensity matching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_lipcar.errors import StudyError
from monai_lipcar.transforms.match import IntensityMatch, MatchIntensity, MatchIntensityd, MatchIntensityDict

Head = Callable[..., np.ndarray]


def tissues(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of tissue of 100 to 400 units in air, and the fifth of them that enhances (twice as bright)."""
    rng = np.random.default_rng(7)
    blocks = np.kron(rng.uniform(100.0, 400.0, (5, 5, 5)), np.ones((8, 8, 4)))
    enhancing = np.kron(rng.permutation(125).reshape(5, 5, 5) < 25, np.ones((8, 8, 4), dtype=bool))
    volume = np.pad(blocks, [(6, 6), (6, 6), (2, 2)])
    mask = np.pad(enhancing, [(6, 6), (6, 6), (2, 2)])
    real, imaginary = noise * np.random.default_rng(seed).standard_normal((2, *volume.shape))
    return np.hypot(volume + real, imaginary), mask


def meta(volume: np.ndarray) -> MetaTensor:
    affine = torch.diag(torch.tensor([0.5, 0.5, 3.0, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(volume.astype(np.float32))[None], affine=affine)


@pytest.mark.parametrize("noise", [0.0, 15.0])
@pytest.mark.parametrize(("key", "reference_key"), [("pre", "low"), ("high", "pre")])
def test_gain_is_recovered_with_a_fifth_of_the_tissue_enhancing(noise: float, key: str, reference_key: str) -> None:
    (less, mask), (more, _) = tissues(noise, seed=1), tissues(noise, seed=2)
    more = np.where(mask, 1.7 * more, more)
    study = {"pre": less, "low": more, "high": more}
    d = {key: meta(study[key] / 1.37), reference_key: meta(study[reference_key])}
    matched = MatchIntensityd(keys=key, reference_key=reference_key)(d)
    assert matched[key].meta["match_gain"] == pytest.approx(1.37, rel=0.01)
    np.testing.assert_allclose(matched[key].numpy()[0], study[key] * matched[key].meta["match_gain"] / 1.37, rtol=1e-5)
    torch.testing.assert_close(matched[reference_key], d[reference_key])


def test_volumes_of_two_sessions_fall_back_to_the_mode(caplog: pytest.LogCaptureFixture) -> None:
    image, _ = tissues()
    waves = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(image.shape), (5.0, 5.0, 2.0))
    field = np.exp(0.1 * waves / waves.std())
    matched = MatchIntensityd(keys="pre", reference_key="low")({"pre": meta(image), "low": meta(image * field)})
    assert "differ by more than a receiver gain" in caplog.text
    assert 0.7 < matched["pre"].meta["match_gain"] < 1.4


def test_gain_and_offset_are_recovered() -> None:
    less, mask = tissues()
    more = np.where(mask, 1.7 * less, less)
    reference = np.where(less > 0, 0.8 * more + 60.0, 0.0)
    matched = MatchIntensityd(keys="pre", reference_key="low", offset=True)({"pre": meta(less), "low": meta(reference)})
    assert matched["pre"].meta["match_gain"] == pytest.approx(0.8, rel=0.01)
    assert matched["pre"].meta["match_offset"] == pytest.approx(60.0, rel=0.02)
    tissue = (less > 0) & ~mask
    np.testing.assert_allclose(matched["pre"].numpy()[0][tissue], reference[tissue], rtol=0.01)
    np.testing.assert_array_equal(matched["pre"].numpy()[0][less == 0], 0.0)  # air stays air


def test_smooth_gain_field_is_recovered() -> None:
    less, mask = tissues()
    field = np.exp(np.linspace(-0.2, 0.2, less.shape[0]))[:, None, None]
    d = {"pre": meta(less), "high": meta(np.where(mask, 1.7, 1.0) * less * 2.0 * field)}
    tissue = (less > 0) & ~mask
    plain, matched = (
        MatchIntensityd(keys="pre", reference_key="high", field_mm=width)(d)["pre"].numpy()[0] for width in (None, 3.0)
    )
    expected = (less * 2.0 * field)[tissue]
    assert np.abs(matched[tissue] / expected - 1.0).mean() < 0.03
    assert np.abs(plain[tissue] / expected - 1.0).mean() > 0.06


def test_head_at_two_doses(head: Head, thick_slices: np.ndarray) -> None:
    shape = (80, 96, 20)
    pre = head(thick_slices, shape, gain=0.6, noise=5.0, seed=1)
    high = head(thick_slices, shape, dose=1.0, noise=5.0, seed=2)
    d = MatchIntensityd(keys="pre", reference_key="high")({"pre": meta(pre), "high": meta(high)})
    assert d["pre"].meta["match_gain"] == pytest.approx(1 / 0.6, rel=0.01)


def test_array_version_takes_arrays_and_keeps_metadata() -> None:
    volume, _ = tissues()
    matched = MatchIntensity()(volume[None], 2.0 * volume[None])
    np.testing.assert_allclose(np.asarray(matched)[0], 2.0 * volume, rtol=1e-3)
    image = meta(volume)
    image.meta["filename_or_obj"] = "pre.nii.gz"
    matched = MatchIntensity()(image, meta(2.0 * volume))
    assert isinstance(matched, MetaTensor)
    assert matched.meta["filename_or_obj"] == "pre.nii.gz"
    assert matched.dtype == torch.float32
    torch.testing.assert_close(matched.affine, image.affine)
    assert "match_gain" not in image.meta


def test_offset_is_applied_to_tissue_only() -> None:
    up = IntensityMatch(gain=2.0, offset=10.0, foreground=20.0).apply(np.array([0.0, 5.0, 10.0, 50.0]))
    np.testing.assert_allclose(up, [0.0, 15.0, 30.0, 110.0])
    down = IntensityMatch(gain=2.0, offset=-30.0).apply(np.array([0.0, 10.0, 50.0]))
    np.testing.assert_allclose(down, [0.0, 0.0, 70.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": meta(np.zeros((52, 52, 23)))}, r"study rat-1, pre: expected the grid of the reference"),
        ({"low": meta(np.full((52, 52, 24), np.nan))}, "study rat-1, pre: .*NaN or infinite values; check pre and low"),
        ({"low": meta(np.zeros((52, 52, 24)))}, "study rat-1, pre: the intensities cannot be matched: .*100 voxels"),
        ({"low": None}, "study rat-1, low: the reference of the intensity matching is missing"),
    ],
)
def test_what_cannot_be_matched_is_refused(change: dict[str, Any], message: str) -> None:
    volume, _ = tissues()
    d = {"study_id": "rat-1", "pre": meta(volume), "low": meta(volume), **change}
    with pytest.raises(StudyError, match=message):
        MatchIntensityd(keys="pre", reference_key="low")({key: value for key, value in d.items() if value is not None})


def test_first_reference_that_is_there() -> None:
    volume, _ = tissues()
    match = MatchIntensityd(keys=["low", "high"], reference_key=["pre", "high"], allow_missing_keys=True)
    d = {"pre": meta(volume), "low": meta(volume / 2), "high": meta(volume / 4)}
    matched = match(d)
    assert matched["low"].meta["match_gain"] == pytest.approx(2.0, rel=0.02)
    assert matched["high"].meta["match_gain"] == pytest.approx(4.0, rel=0.02)
    del d["pre"]
    matched = match(d)
    assert matched["low"].meta["match_gain"] == pytest.approx(0.5, rel=0.02)
    assert matched["high"] is d["high"]
    with pytest.raises(StudyError, match="pre: the reference of the intensity matching is missing"):
        match({"low": meta(volume)})


def test_volumes_without_a_common_line_are_refused() -> None:
    volume, _ = tissues()
    with pytest.raises(StudyError, match="not related by an increasing line; match the gain alone"):
        MatchIntensity(offset=True)(volume[None], np.where(volume > 0, 500.0 - volume, 0.0)[None])


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="keys must not contain the reference key 'low'"):
        MatchIntensityd(keys=["pre", "low"], reference_key="low")
    with pytest.raises(ValueError, match="field_mm must be above 0 or None, got -1"):
        MatchIntensity(field_mm=-1.0)
    with pytest.raises(ValueError, match="enhancement must be -1, 0 or 1, got 2"):
        MatchIntensity(enhancement=2)
    volume, _ = tissues()
    d = {"low": meta(volume)}
    assert MatchIntensityDict(keys="pre", reference_key="low", allow_missing_keys=True)(d).keys() == d.keys()
