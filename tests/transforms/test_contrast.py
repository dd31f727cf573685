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
"""Contrast of one sequence matched to another: what is brought together, and what must not be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.data.phantom import AcquisitionOptions, acquire, random_head
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics import SpinEcho
from monai_lipcar.transforms import MatchContrastD, MatchContrastd, MatchContrastDict, match_contrast
from monai_lipcar.transforms.foreground import head_mask


def pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pre of another sequence, pre of the same sequence, high, and where it enhances clearly."""
    maps = random_head(np.random.default_rng(seed), shape=(96, 96, 6))
    still = AcquisitionOptions(noise_level=0.003, motion_voxels=0.0, rotation_deg=0.0, gain=0.0, units=(1000.0, 1000.0))
    same = acquire(maps, np.random.default_rng(1), options=still, signal_model=SpinEcho(360.0, 5.5))
    other = acquire(maps, np.random.default_rng(1), options=still, signal_model=SpinEcho(700.0, 14.0))
    high, pre, differing = same["high"], same["pre"], other["pre"]
    quiet = maps.head & (np.abs(high - pre) < 0.03 * np.median(pre[maps.head]))
    differing = differing * np.median(pre[quiet]) / np.median(differing[quiet])  # as MatchIntensity does
    return differing, pre, high, maps.head & (high - pre > 0.5 * np.median(pre[maps.head]))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_nearer_to_the_image_of_the_same_sequence_and_the_enhancement_stays(seed: int) -> None:
    differing, pre, high, enhancing = pair(seed)
    head = head_mask(high)
    matched = match_contrast(differing, high, head, np.array([1.0, 1.0, 5.0]))
    quiet = head & ~enhancing
    before, after = (np.abs(image - pre)[quiet].mean() for image in (differing, matched))
    assert after < 0.85 * before
    assert (high - matched)[enhancing].mean() == pytest.approx((high - pre)[enhancing].mean(), rel=0.15)
    np.testing.assert_array_equal(matched[~head], differing[~head].astype(np.float32))


def test_the_same_image_stays() -> None:
    image = np.random.default_rng(0).uniform(50, 100, (24, 24, 6)).astype(np.float32)
    matched = match_contrast(image, image, image > 0, np.ones(3))
    np.testing.assert_allclose(matched, image, rtol=1e-3)
    nothing = match_contrast(image, image, np.zeros(image.shape, dtype=bool), np.ones(3))
    np.testing.assert_array_equal(nothing, image)


def test_dictionary_keeps_metadata_and_the_other_members() -> None:
    affine = torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0], dtype=torch.float64))
    pre = MetaTensor(100 + 10 * torch.rand(1, 24, 24, 6), affine=affine)
    study = {"study_id": "s", "pre": pre, "high": MetaTensor(0.8 * pre.as_tensor() + 10, affine=affine)}
    result = MatchContrastd("pre", "high")(study)
    assert isinstance(result["pre"], MetaTensor)
    assert result["pre"].affine.equal(affine)
    assert result["high"] is study["high"]
    assert (result["pre"] - study["high"]).abs().mean() < (study["pre"] - study["high"]).abs().mean()
    assert MatchContrastD is MatchContrastDict is MatchContrastd
    with pytest.raises(StudyError, match=r"study s, pre: expected the shape of high, \(1, 24, 24, 6\)"):
        MatchContrastd("pre", "high")({**study, "pre": pre[..., :3]})
    with pytest.raises(ConfigurationError, match="above 0 mm, got 0"):
        MatchContrastd("pre", field_mm=0)
