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
"""Components and their diameters by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_lipcar.metrics import connected_components
from monai_lipcar.metrics.components import in_size


def ball(diameter: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> torch.Tensor:
    axes = [(np.arange(size) - size // 2) * step for size, step in zip(shape, spacing, strict=True)]
    distance = sum(part**2 for part in np.meshgrid(*axes, indexing="ij"))
    return torch.from_numpy(distance <= (diameter / 2) ** 2)


def test_the_largest_cross_section_decides() -> None:
    mask = torch.zeros(4, 10, 10, dtype=torch.bool)
    mask[1, 2:4, 2:5] = True  # 6 pixels of 0.5 x 2 mm
    mask[2, 2, 2] = True
    (part,) = connected_components(mask, (3.0, 0.5, 2.0))
    assert part.diameter_mm == pytest.approx(2 * math.sqrt(6.0 / math.pi))
    assert part.volume_mm3 == pytest.approx(7 * 3.0)
    values = torch.arange(400.0).reshape(4, 10, 10)
    assert part.values(values).tolist() == [122, 123, 124, 132, 133, 134, 222]


def test_corners_connect_also_across_slices() -> None:
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[2, 5, 5] = True
    assert [part.volume_mm3 for part in connected_components(mask, (1, 1, 1))] == [3.0, 1.0]
    assert connected_components(torch.zeros_like(mask), (1, 1, 1)) == []


@pytest.mark.parametrize("diameter", [4.0, 9.0])
@pytest.mark.parametrize("thickness", [1.0, 2.0, 5.0])
def test_a_ball_has_its_diameter_whatever_the_slice_thickness(diameter: float, thickness: float) -> None:
    mask = ball(diameter, (thickness, 0.5, 0.5), (31, 61, 61))
    (part,) = connected_components(mask, (thickness, 0.5, 0.5))
    assert part.diameter_mm == pytest.approx(diameter, rel=0.03)
    # and also where only the middle slices were kept
    (part,) = connected_components(mask[15:16], (thickness, 0.5, 0.5))
    assert part.diameter_mm == pytest.approx(diameter, rel=0.03)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10.0))
def test_lengths_scale(seed: int, factor: float) -> None:
    mask = np.random.default_rng(seed).random((3, 9, 9)) < 0.2
    plain = connected_components(mask, (5.0, 1.0, 0.8))
    scaled = connected_components(mask, (5.0 * factor, factor, 0.8 * factor))
    assert sum(part.mask.sum() for part in plain) == mask.sum()
    for one, other in zip(plain, scaled, strict=True):
        assert other.diameter_mm == pytest.approx(factor * one.diameter_mm)
        assert other.volume_mm3 == pytest.approx(factor**3 * one.volume_mm3)


def test_sizes() -> None:
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[0, 0:4, 0:4] = True  # 4.51 mm
    mask[0, 10:15, 10:15] = True  # 5.64 mm
    components = connected_components(mask, (1, 1, 1))
    assert in_size(components, "all") == components
    assert in_size(components, "small") == components[:1]
    assert in_size(components, "large") == components[1:]
    with pytest.raises(ValueError, match="expected a size of all, small, large, got 'huge'"):
        in_size(components, "huge")


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"expected a mask \(slices, rows, columns\), got shape \(4, 4\)"):
        connected_components(torch.zeros(4, 4), (1, 1, 1))
    for spacing in ((1, 1), (1, 1, 0), (1, float("nan"), 1)):
        with pytest.raises(ValueError, match="expected the distance in mm of slices, rows and columns"):
            connected_components(torch.zeros(1, 4, 4), spacing)
