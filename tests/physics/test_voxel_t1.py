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
"""Tests of the signal equation with a T1 of its own in every voxel, against forward simulation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import (
    CONVENTIONAL,
    HIGH_RELAXIVITY,
    DoseResponse,
    SpinEcho,
    SpoiledGradientEcho,
    VoxelT1DoseOperator,
)

GRADIENT_ECHO = SpoiledGradientEcho(8.0, 3.0, 20.0)


def tissues() -> tuple[Tensor, Tensor, Tensor]:
    """Proton density, T1 from 600 to 4000 ms and uptake up to 0.5 mM of 4000 voxels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(3, 2, 1, 50, 40, generator=generator, dtype=torch.float64)
    return 0.5 + draw[0], 600.0 * (4000.0 / 600.0) ** draw[1], 0.5 * draw[2]


@pytest.mark.parametrize(
    ("sequence", "agent"),
    [(SpinEcho(), HIGH_RELAXIVITY), (SpinEcho(500.0, 10.0), CONVENTIONAL), (GRADIENT_ECHO, CONVENTIONAL)],
)
@pytest.mark.parametrize("fraction", [0.1, 0.33])
def test_matches_the_forward_simulation_of_every_tissue(sequence: Any, agent: Any, fraction: float) -> None:
    density, t1, uptake = tissues()
    # not beyond the peak of the signal, where a ratio says nothing about the concentration
    uptake = uptake if agent is CONVENTIONAL else 0.4 * uptake
    pre, low, high = (sequence.signal(density, t1, 110.0, dose * uptake, agent) for dose in (0.0, fraction, 1.0))
    operator = VoxelT1DoseOperator(fraction, sequence, agent, floor=1e-6)
    error = (operator(torch.cat((pre, high), dim=1), t1) - low).abs()
    # one tissue in all voxels is an order of magnitude worse
    alone = pre + DoseResponse(sequence, agent, dose_fraction=fraction)(high / pre) * (high - pre)
    assert float((error / high).max()) < 2e-3
    assert float((alone - low).abs().max()) > 10.0 * float(error.max())


def test_is_the_dose_response_of_the_voxels_t1() -> None:
    ratio = torch.linspace(0.5, 6.0, 100)
    pre = torch.full((1, 1, 100), 0.3)
    operator = VoxelT1DoseOperator(0.2, GRADIENT_ECHO, CONVENTIONAL, (700.0, 2800.0))
    for t1 in (700.0, 1234.0, 2800.0):
        low = operator(torch.cat((pre, ratio * pre), dim=1), torch.full((1, 1, 100), t1))
        kept = DoseResponse(GRADIENT_ECHO, CONVENTIONAL, t1, dose_fraction=0.2, saturation=0.99)(ratio)
        torch.testing.assert_close(low, pre + kept * (ratio - 1.0) * pre, rtol=2e-3, atol=0)


def test_t1_outside_of_the_range_counts_as_its_end() -> None:
    pair = torch.tensor([[[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.5, 0.5]]])
    low = VoxelT1DoseOperator(t1_range_ms=(600.0, 4000.0))(pair, torch.tensor([[[10.0, 600.0, 4000.0, 1e9]]]))[0, 0]
    assert float(low[0]) == float(low[1]) > float(low[2]) == float(low[3])


def test_refuses_what_makes_no_sense() -> None:
    for t1_range in ((0.0, 1000.0), (1000.0, 1000.0), (1000.0, float("inf"))):
        with pytest.raises(ConfigurationError, match="range of T1"):
            VoxelT1DoseOperator(t1_range_ms=t1_range)
    with pytest.raises(ConfigurationError, match="floor"):
        VoxelT1DoseOperator(floor=0.0)
    with pytest.raises(ConfigurationError, match="dose fraction"):
        VoxelT1DoseOperator(dose_fraction=1.1)
    with pytest.raises(ValueError, match=r"T1 of \(B, 1"):
        VoxelT1DoseOperator()(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4))
