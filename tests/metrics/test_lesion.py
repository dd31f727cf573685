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
"""Contrast of lesions by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_lipcar.metrics import (
    connected_components,
    contrast_enhancement_percentage,
    contrast_to_noise,
    lesion_to_brain_ratio,
    normal_tissue,
    tissue_noise,
)

SPACING = (5.0, 1.0, 1.0)


def noise(scale: float, *shape: int) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def scene() -> dict[str, Tensor]:
    """A lesion of 6x6 in tissue at 0.3, with fluid (0.1), fat (0.6) and a vessel that enhances around it."""
    lesion = torch.zeros(3, 64, 64, dtype=torch.bool)
    lesion[1, 29:35, 29:35] = True
    pre = torch.full((3, 64, 64), 0.3)
    pre[:, 20:24, 29:35] = 0.1
    pre[:, 40:44, 29:35] = 0.6
    high = pre + 0.3 * lesion
    high[1, 29:35, 42:46] += 0.4
    return {"lesion": lesion, "head": torch.ones_like(lesion), "pre": pre, "high": high}


def test_normal_tissue_leaves_out_what_is_not(scene: dict[str, Tensor]) -> None:
    tissue = normal_tissue(spacing=SPACING, **scene)
    assert tissue.dtype == torch.bool
    assert not tissue[1, 29:35, 29:35].any()  # the lesion
    assert not tissue[1, 31, 35:37].any()  # 1 and 2 mm away
    assert tissue[1, 31, 37]
    assert not tissue[1, 21, 31]  # fluid
    assert not tissue[1, 41, 31]  # fat
    assert not tissue[1, 31, 43]  # a vessel
    assert tissue[1, 31, 54]  # 20 mm
    assert not tissue[1, 31, 55]  # 21 mm
    assert tissue[0, 31, 31]  # the next slice, 5 mm away
    scene["head"][1, 31, 37] = False
    assert not normal_tissue(spacing=SPACING, **scene)[1, 31, 37]


def test_distances_are_in_millimeters(scene: dict[str, Tensor]) -> None:
    tissue = normal_tissue(spacing=(1.5, 0.5, 0.5), **scene)
    assert not tissue[1, 31, 35:39].any()
    assert tissue[1, 31, 39]
    assert not tissue[0, 31, 31]
    assert tissue[1, 0, 31]


def test_normal_tissue_without_pre(scene: dict[str, Tensor]) -> None:
    del scene["pre"]
    tissue = normal_tissue(spacing=SPACING, **scene)
    assert not tissue[1, 31, 43]  # as bright as a vessel
    assert tissue[1, 31, 37]


def test_too_little_normal_tissue_is_none(scene: dict[str, Tensor]) -> None:
    scene["head"][:] = False
    assert not normal_tissue(spacing=SPACING, **scene).any()
    scene["head"][1, 31, 37:45] = True
    assert not normal_tissue(spacing=SPACING, **scene).any()
    scene["lesion"][:] = False
    assert not normal_tissue(spacing=SPACING, **scene).any()


def test_noise_is_not_the_difference_between_tissues() -> None:
    image = 0.3 + noise(0.01, 2, 40, 40)
    image[:, :, 20:] += 0.1
    everywhere = torch.ones(2, 40, 40, dtype=torch.bool)
    assert image.std() > 0.05
    assert tissue_noise(image, everywhere) == pytest.approx(0.01, rel=0.05)
    # offsets cost no digits
    assert tissue_noise(image + 1000, everywhere) == pytest.approx(0.01, rel=0.06)


def test_noise_of_one_region_by_hand() -> None:
    image = torch.zeros(1, 5, 5)
    image[0, 2, 1:4] = torch.tensor([0.3, 0.6, 0.9])
    tissue = torch.ones(1, 5, 5, dtype=torch.bool)
    tissue[0, :2] = False
    # in the lower three rows the regions around the second and third column, and the middle, hold 12 pixels or more
    inside = image[0, 2:]
    regions = [inside[:, :4], inside, inside[:, 1:]]
    assert [region.numel() for region in regions] == [12, 15, 12]
    assert tissue_noise(image, tissue) == pytest.approx(float(inside.std()), rel=1e-6)
    assert math.isnan(tissue_noise(image, torch.zeros_like(tissue)))


def test_contrasts_by_hand(scene: dict[str, Tensor]) -> None:
    tissue = normal_tissue(spacing=SPACING, **scene)
    lesion, pre, high = scene["lesion"], scene["pre"], scene["high"]
    assert lesion_to_brain_ratio(high, lesion, tissue) == pytest.approx(2.0, rel=1e-6)
    assert contrast_enhancement_percentage(high, pre, lesion) == pytest.approx(100.0, rel=1e-5)
    assert contrast_to_noise(high, lesion, tissue, noise=0.05) == pytest.approx(6.0, rel=1e-5)
    noisy = high + noise(0.02, 3, 64, 64)
    assert contrast_to_noise(noisy, lesion, tissue) == pytest.approx(15.0, rel=0.05)
    (part,) = connected_components(lesion, SPACING)
    assert contrast_to_noise(noisy, part, tissue) == contrast_to_noise(noisy, lesion, tissue)
    assert lesion_to_brain_ratio(high, part, tissue) == lesion_to_brain_ratio(high, lesion, tissue)


def test_amplified_noise_costs_contrast_to_noise(scene: dict[str, Tensor]) -> None:
    """Why the noise is that of the image that is judged: linear extrapolation has all of the contrast."""
    tissue = normal_tissue(spacing=SPACING, **scene)
    pre, high, lesion = scene["pre"], scene["high"], scene["lesion"]
    low = pre + 0.2 * (high - pre) + noise(0.01, 3, 64, 64)
    extrapolated = pre + (low - pre) / 0.2
    acquired = high + noise(0.01, 3, 64, 64).flip(-1)
    assert lesion_to_brain_ratio(extrapolated, lesion, tissue) == pytest.approx(2.0, rel=0.02)
    assert contrast_to_noise(extrapolated, lesion, tissue) == pytest.approx(
        contrast_to_noise(acquired, lesion, tissue) / 5, rel=0.05
    )


def test_nothing_to_measure_is_nan(scene: dict[str, Tensor]) -> None:
    lesion, pre, high = scene["lesion"], scene["pre"], scene["high"]
    nothing = torch.zeros_like(lesion)
    values = (
        contrast_to_noise(high, lesion, nothing),
        contrast_to_noise(high, nothing, ~lesion),
        contrast_to_noise(torch.full_like(high, 0.5), lesion, ~lesion),
        lesion_to_brain_ratio(high, lesion, nothing),
        lesion_to_brain_ratio(high, nothing, ~lesion),
        lesion_to_brain_ratio(0 * high, lesion, ~lesion),
        contrast_enhancement_percentage(high, pre, nothing),
        contrast_enhancement_percentage(high, 0 * pre, lesion),
    )
    assert [value for value in values if not math.isnan(value)] == []


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 1000.0))
def test_units_do_not_matter(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    pre = 0.3 + 0.02 * torch.randn(2, 40, 40, generator=generator)
    lesion = torch.zeros(2, 40, 40, dtype=torch.bool)
    lesion[0, 15:20, 12:20] = True
    high = pre + lesion * torch.rand(2, 40, 40, generator=generator)
    head = torch.ones_like(lesion)
    tissue = normal_tissue(lesion, head, high, SPACING, pre)
    # voxels at the very border may fall to the other side
    changed = tissue != normal_tissue(lesion, head, factor * high, SPACING, factor * pre)
    assert int(changed.sum()) <= 2
    assert contrast_to_noise(factor * high, lesion, tissue) == pytest.approx(
        contrast_to_noise(high, lesion, tissue), rel=1e-4
    )
    assert lesion_to_brain_ratio(factor * high, lesion, tissue) == pytest.approx(
        lesion_to_brain_ratio(high, lesion, tissue), rel=1e-4
    )
    assert contrast_enhancement_percentage(factor * high, factor * pre, lesion) == pytest.approx(
        contrast_enhancement_percentage(high, pre, lesion), rel=1e-4
    )
