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
"""Tests of the study's one intensity scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, DivisiblePadd, Invertd, SpatialPadd

from monai_lipcar.errors import StudyError
from monai_lipcar.transforms.scale import (
    FULL_DOSE_BRIGHTNESS,
    ScaleIntensityByReference,
    ScaleIntensityByReferenced,
    ScaleIntensityByReferenceDict,
)


def box(value: float, shape: tuple[int, int, int] = (20, 20, 10)) -> MetaTensor:
    """A bright box in empty space: its foreground percentile is ``value`` whatever the percentile."""
    volume = torch.zeros((1, *shape))
    volume[:, 4:16, 4:16] = value
    return MetaTensor(volume, affine=torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0], dtype=torch.float64)))


def study(**extra: Any) -> dict[Any, Any]:
    return {"study_id": "rat-0007", "pre": box(400.0), "low": box(500.0), **extra}


def test_scale_is_headroom_times_the_brightest_reference() -> None:
    d = ScaleIntensityByReferenced(keys=["pre", "low"])(study())
    assert d["scale"] == pytest.approx(1000.0)
    assert isinstance(d["scale"], float)
    assert float(d["low"].max()) == pytest.approx(0.5)
    assert float(d["pre"].max()) == pytest.approx(0.4)
    assert d["pre"].dtype == torch.float32


def test_percentile_is_over_the_foreground_only() -> None:
    volume = np.zeros((1, 10, 10, 10), dtype=np.float32)
    volume[:, :, :, :1] = np.linspace(500.0, 1000.0, 100).reshape(10, 10, 1)  # a tenth of the volume
    assert ScaleIntensityByReference(percentile=50.0, headroom=1.0).scale_of([volume]) == pytest.approx(750.0)


def test_scale_does_not_depend_on_how_much_air_there_is() -> None:
    padded = SpatialPadd(keys=["pre", "low"], spatial_size=(60, 60, 30))
    scale = ScaleIntensityByReferenced(keys=["pre", "low"])
    assert scale(padded(study()))["scale"] == pytest.approx(scale(study())["scale"])


def test_high_is_scaled_and_never_read() -> None:
    scale = ScaleIntensityByReferenced(keys=["pre", "low", "high"])
    first, second = scale(study(high=box(900.0))), scale(study(high=box(float("nan"))))
    assert first["scale"] == second["scale"] == pytest.approx(1000.0)
    assert float(first["high"].max()) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="does not exist at inference"):
        ScaleIntensityByReferenced(keys="pre", reference_keys=("pre", "high"))


def test_one_reference_alone_gives_the_scale() -> None:
    d = ScaleIntensityByReferenced(keys=["pre", "low"], allow_missing_keys=True)({"low": box(500.0)})
    assert d["scale"] == pytest.approx(1000.0)


def test_full_dose_gives_the_scale_only_where_there_is_nothing_else() -> None:
    scale = ScaleIntensityByReferenced(["pre", "low", "high"], allow_missing_keys=True, full_dose_key="high")
    alone = scale({"high": box(600.0)})
    assert alone["scale"] == pytest.approx(2.0 * 600.0 / FULL_DOSE_BRIGHTNESS)
    assert float(alone["high"].max()) == pytest.approx(FULL_DOSE_BRIGHTNESS / 2.0)
    assert scale({"low": box(500.0), "high": box(900.0)})["scale"] == pytest.approx(1000.0)
    with pytest.raises(StudyError, match="study rat-1, high: the volume is constant"):
        scale({"study_id": "rat-1", "high": torch.ones(1, 8, 8, 4)})
    with pytest.raises(StudyError, match="no volume to take the intensity scale from"):
        ScaleIntensityByReferenced(["high"])({"high": box(600.0)})


def test_offset_maps_empty_space_to_zero() -> None:
    volume = box(1200.0) - 1000.0  # CT: air -1000 HU, body 200 HU
    scaler = ScaleIntensityByReference(offset=-1000.0)
    scaled = scaler(volume)
    assert float(scaled.min()) == 0.0
    assert float(scaled.max()) == pytest.approx(0.5)
    torch.testing.assert_close(scaler.inverse(scaled).as_tensor(), volume.as_tensor(), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("kind", ["numpy", "tensor", "meta", "int16"])
def test_round_trip(kind: str) -> None:
    values = np.random.default_rng(1).uniform(0.0, 3000.0, (1, 12, 12, 6))
    image: Any = {
        "numpy": values,
        "tensor": torch.from_numpy(values),
        "meta": MetaTensor(values),
        "int16": values.astype(np.int16),
    }[kind]
    scaler = ScaleIntensityByReference()
    scaled = scaler(image)
    back = scaler.inverse(scaled)
    assert scaled.dtype == back.dtype == torch.float32
    expected = values.astype(np.int16) if kind == "int16" else values
    np.testing.assert_allclose(np.asarray(back), expected, rtol=1e-6)
    assert back.applied_operations == []


def test_inverse_of_the_dictionary_version() -> None:
    scale = ScaleIntensityByReferenced(keys=["pre", "low"])
    back = scale.inverse(scale(study()))
    torch.testing.assert_close(back["pre"].as_tensor(), box(400.0).as_tensor(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("batched", [False, True])
def test_invertd_brings_the_result_to_the_units_and_grid_of_the_low_dose(batched: bool) -> None:
    # only low is a key of the padding, only low and pre are scaled: the result has to follow low's record
    preprocessing = Compose([ScaleIntensityByReferenced(keys=["pre", "low"]), DivisiblePadd(keys=["pre", "low"], k=16)])
    invert = Invertd(keys="pred", transform=preprocessing, orig_keys="low", nearest_interp=False)
    d = preprocessing(study())
    d["pred"] = MetaTensor(d["low"].as_tensor() * 1.25)
    if batched:
        d = decollate_batch(list_data_collate([d]))[0]
    restored = invert(d)["pred"]
    torch.testing.assert_close(restored.as_tensor(), box(625.0).as_tensor(), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(restored.affine, box(1.0).affine)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (torch.zeros(1, 8, 8, 4), "constant \\(0 everywhere\\)"),
        (torch.full((1, 8, 8, 4), 7.0), "constant \\(7 everywhere\\)"),
        (torch.tensor([0.0, float("nan"), 2.0]).repeat(1, 4, 4, 1), "NaN or infinite"),
        (-torch.rand(1, 8, 8, 4) - 1.0, "no value above 0"),
    ],
)
def test_unusable_reference_is_refused_by_name(volume: torch.Tensor, message: str) -> None:
    with pytest.raises(StudyError, match=f"study rat-0007, low: .*{message}"):
        ScaleIntensityByReferenced(keys=["pre", "low"])(study(low=volume))


def test_no_reference_is_refused() -> None:
    with pytest.raises(StudyError, match=r"study rat-0007: .*expected pre or low"):
        ScaleIntensityByReferenced(keys="high")({"study_id": "rat-0007", "high": box(3.0)})


@pytest.mark.parametrize("options", [{"percentile": 0.0}, {"percentile": 101.0}, {"headroom": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ScaleIntensityByReference(**options)


def test_alias() -> None:
    assert ScaleIntensityByReferenceDict is ScaleIntensityByReferenced
