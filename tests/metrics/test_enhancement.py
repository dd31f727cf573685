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
"""Recovered enhancement by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_lipcar.metrics import (
    enhancement_bias,
    enhancement_recovery,
    enhancement_slope,
    enhancing_tissue,
    tissue_brightness,
)


def block(value: float) -> torch.Tensor:
    """A 5x5 block in the middle of the second of two slices."""
    image = torch.zeros(2, 11, 11)
    image[1, 3:8, 3:8] = value
    return image


def test_enhancing_tissue_is_a_block_without_the_corners_that_the_mean_takes() -> None:
    pre = torch.full((2, 11, 11), 0.2)
    # mean over 3x3: at an inner corner 4/9 of 0.14 is too little, at an edge 6/9 of it as well
    enhancing = enhancing_tissue(pre, pre + block(0.14))
    assert enhancing.dtype == torch.bool
    assert enhancing.sum().item() == 9
    assert enhancing[1, 4:7, 4:7].all()
    # at 0.2 the edge has 0.133
    assert enhancing_tissue(pre, pre + block(0.2)).sum().item() == 25 - 4
    # and one voxel outside of it 3/9
    assert enhancing_tissue(pre, pre + block(0.4)).sum().item() == 25 + 4 * 3


def test_threshold_mask_and_border() -> None:
    pre, high = torch.zeros(1, 6, 6), torch.full((1, 6, 6), 0.15)
    assert enhancing_tissue(pre, high).all()  # the mean at the border is over what there is
    assert not enhancing_tissue(pre, high, threshold=0.16).any()
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[:, 2] = True
    assert torch.equal(enhancing_tissue(pre, high, mask), mask)


def test_noise_of_single_voxels_is_not_enhancement() -> None:
    pre = torch.zeros(1, 9, 9)
    high = pre.clone()
    high[0, 4, 4] = 0.8
    assert not enhancing_tissue(pre, high).any()


def test_losing_signal_is_not_enhancement() -> None:
    assert not enhancing_tissue(torch.full((1, 5, 5), 0.6), torch.full((1, 5, 5), 0.2)).any()


def test_recovery_by_hand() -> None:
    # true enhancement 0.5 and 0.3, simulated 0.4 and 0.1; the third voxel does not enhance
    pre = torch.tensor([0.1, 0.2, 0.4])
    high, simulated = torch.tensor([0.6, 0.5, 0.4]), torch.tensor([0.5, 0.3, 0.9])
    enhancing = torch.tensor([True, True, False])
    assert enhancement_recovery(simulated, pre, high, enhancing) == pytest.approx(0.5 / 0.8, rel=1e-6)
    assert enhancement_recovery(high, pre, high, enhancing) == 1.0
    assert enhancement_recovery(pre, pre, high, enhancing) == 0.0
    assert math.isnan(enhancement_recovery(simulated, pre, high, torch.zeros(3, dtype=torch.bool)))
    assert math.isnan(enhancement_recovery(simulated, pre, pre, enhancing))


def test_meta_tensors() -> None:
    pre, high = MetaTensor(torch.full((1, 5, 5), 0.1)), MetaTensor(torch.full((1, 5, 5), 0.5))
    enhancing = enhancing_tissue(pre, high)
    assert type(enhancing) is torch.Tensor
    assert enhancement_recovery(0.5 * (pre + high), pre, high, enhancing) == pytest.approx(0.5, rel=1e-6)


def test_slope_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    pre, high, simulated = torch.rand(3, 2, 8, 8, generator=generator)
    mask = torch.rand(2, 8, 8, generator=generator) > 0.5
    expected = np.polyfit((high - pre)[mask].double(), (simulated - pre)[mask].double(), 1)[0]
    assert enhancement_slope(simulated, pre, high, mask) == pytest.approx(expected, rel=1e-6)


def test_the_slope_tells_what_recovery_and_bias_do_not() -> None:
    pre, high = torch.full((1, 4, 5), 0.3), 0.3 + torch.linspace(0.1, 0.5, 20).reshape(1, 4, 5)
    everywhere = high > 0
    flattened = pre + 0.3 + 0.5 * (high - pre - 0.3)  # all enhancement drawn towards its mean
    assert enhancement_recovery(flattened, pre, high, everywhere) == pytest.approx(1.0, rel=1e-6)
    assert enhancement_bias(flattened, high, everywhere) == pytest.approx(0.0, abs=1e-7)
    assert enhancement_slope(flattened, pre, high, everywhere) == pytest.approx(0.5, rel=1e-5)


def test_noise_in_the_acquired_image_flattens_the_slope() -> None:
    true = 0.3 + 0.1 * torch.randn(50000, generator=torch.Generator().manual_seed(0))
    high = true + 0.05 * torch.randn(50000, generator=torch.Generator().manual_seed(1))
    slope = enhancement_slope(true, torch.zeros(50000), high, high > -9)
    assert slope == pytest.approx(0.1**2 / (0.1**2 + 0.05**2), rel=0.02)


def test_no_line_through_too_little() -> None:
    pre, high = torch.zeros(12), torch.linspace(0.2, 0.6, 12)
    assert math.isnan(enhancement_slope(high, pre, high, torch.arange(12) < 9))
    assert enhancement_slope(high, pre, high, torch.arange(12) < 10) == pytest.approx(1.0)
    assert math.isnan(enhancement_slope(high, pre, torch.full((12,), 0.7), high > 0))
    assert math.isnan(enhancement_slope(high, high, high + 0.2, high > 0))  # alike but for rounding


def test_bias_by_hand() -> None:
    high, simulated = torch.tensor([0.6, 0.5, 0.4]), torch.tensor([0.5, 0.3, 0.9])
    mask = torch.tensor([True, True, False])
    assert enhancement_bias(simulated, high, mask) == pytest.approx(-0.15, rel=1e-5)
    assert enhancement_bias(high, high, mask) == 0.0
    assert math.isnan(enhancement_bias(simulated, high, ~mask & mask))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 1000.0), gain=st.floats(0.1, 3.0))
def test_units_scale_the_bias_and_not_the_slope(seed: int, factor: float, gain: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    pre, uptake = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    high, mask = pre + uptake, uptake > 0.2
    assert enhancement_slope(high, pre, high, mask) == pytest.approx(1.0)
    assert enhancement_bias(high, high, mask) == 0.0
    simulated = pre + gain * uptake
    assert enhancement_slope(factor * simulated, factor * pre, factor * high, mask) == pytest.approx(gain)
    assert enhancement_recovery(factor * simulated, factor * pre, factor * high, mask) == pytest.approx(gain)
    bias = enhancement_bias(simulated, high, mask)
    assert enhancement_bias(factor * simulated, factor * high, mask) == pytest.approx(factor * bias, abs=1e-9 * factor)


def test_brightness_is_a_median_over_the_head() -> None:
    pre = torch.tensor([[0.0, 0.1, 0.2], [0.25, 0.3, 0.9]])
    assert tissue_brightness(pre, pre > 0.05) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="the head mask is empty"):
        tissue_brightness(pre, pre > 1)
