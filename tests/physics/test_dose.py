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
"""Dose response against a closed form, forward simulation and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import (
    CONVENTIONAL,
    HIGH_RELAXIVITY,
    ContrastAgent,
    DoseProtocol,
    DoseResponse,
    SignalModel,
    SpinEcho,
    SpoiledGradientEcho,
)

UNIT = ContrastAgent("unit", r1=10.0, r2=20.0)
SEQUENCES: list[SignalModel] = [SpinEcho(), SpinEcho(600.0, 12.0), SpoiledGradientEcho(7.0, 2.5, 15.0)]


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_protocol_of_the_paper() -> None:
    assert DoseProtocol().dose_fraction == pytest.approx(0.2, rel=1e-12)  # 0.01 / 0.05
    assert DoseProtocol(0.025, 0.1).dose_fraction == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.05), (0.1, 0.05), (-0.01, 0.05)])
def test_impossible_protocols_are_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigurationError, match="expected 0 < low dose <= high dose in mmol/kg"):
        DoseProtocol(low, high)


def test_closed_form_without_t2_decay() -> None:
    # TE = 0: S = 1 - E0 e with E0 = exp(-TR R10) and e = exp(-TR r1 C), so that a ratio q fixes
    # e = (1 - q (1 - E0)) / E0 and g = E0 (1 - e^f) / ((q - 1) (1 - E0)).
    # TR 360 ms, T1 1000 ms: E0 = exp(-0.36) = 0.69767633.
    # q = 2: e = (1 - 0.60464735) / 0.69767633 = 0.56667059, e^0.2 = 0.89261901,
    #        g = 0.69767633 * 0.10738099 / (1 * 0.30232367) = 0.24780451
    # q = 3: e = (1 - 0.90697102) / 0.69767633 = 0.13334117, e^0.2 = 0.66833292,
    #        g = 0.69767633 * 0.33166708 / (2 * 0.30232367) = 0.38269625
    response = DoseResponse(SpinEcho(360.0, 0.0), UNIT, t1_ms=1000.0, t2_ms=100.0, dose_fraction=0.2)
    assert response(double(2.0, 3.0)).tolist() == pytest.approx([0.24780451, 0.38269625], abs=2e-6)
    # the plateau is at 1 / (1 - E0) = 3.30771; 95 % of the way from 1: 1 + 0.95 * 2.30771 = 3.19232
    assert response.max_ratio == pytest.approx(3.19232, abs=1e-5)


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("agent", [HIGH_RELAXIVITY, CONVENTIONAL])
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_forward_simulation_of_the_reference_tissue_is_met(
    sequence: SignalModel, agent: ContrastAgent, fraction: float
) -> None:
    response = DoseResponse(sequence, agent, 1331.0, 110.0, fraction)
    concentrations = torch.linspace(0.0, 1.0, 501, dtype=torch.float64)

    def signal(c: Tensor) -> Tensor:
        return sequence.signal(1.0, 1331.0, 110.0, c, agent) / sequence.signal(1.0, 1331.0, 110.0, 0.0, agent)

    ratios, expected = signal(concentrations), signal(fraction * concentrations)
    rising = ratios.cummax(0).values.eq(ratios) & (ratios <= response.max_ratio)
    assert int(rising.sum()) > 40
    low = 1 + response(ratios) * (ratios - 1)
    assert float((low - expected)[rising].abs().max()) < 1e-3


def test_t2_cancels_and_t1_does_not() -> None:
    ratios = double(1.2, 2.0, 3.0)
    reference = DoseResponse(t1_ms=1331.0, t2_ms=110.0)(ratios)
    torch.testing.assert_close(DoseResponse(t1_ms=1331.0, t2_ms=40.0)(ratios), reference, rtol=1e-9, atol=0)
    assert (DoseResponse(t1_ms=900.0, t2_ms=110.0)(ratios) > reference + 1e-3).all()


def test_saturation_leaves_more_than_the_linear_share_and_more_so_for_stronger_enhancement() -> None:
    for sequence in SEQUENCES:
        response = DoseResponse(sequence, dose_fraction=0.2)
        kept = response(torch.linspace(1.0, response.max_ratio, 200, dtype=torch.float64))
        assert (kept[1:] > 0.2).all()
        assert (kept.diff() > 0).all()


def test_weak_or_negative_enhancement_takes_the_small_signal_limit() -> None:
    response = DoseResponse(dose_fraction=0.3)
    assert response(double(-2.0, 0.0, 0.5, 1.0)).tolist() == [0.3, 0.3, 0.3, 0.3]
    assert float(response(double(1.0001))) == pytest.approx(0.3, abs=1e-4)


def test_beyond_the_table_the_last_value_stays() -> None:
    response = DoseResponse(dose_fraction=0.2)
    end, beyond, far = response(double(response.max_ratio, response.max_ratio + 0.5, 1e6)).tolist()
    assert 0.2 < end < 1
    assert [end, far] == pytest.approx([beyond, beyond], rel=1e-12)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_extreme_fractions_are_exact(fraction: float) -> None:
    kept = DoseResponse(dose_fraction=fraction)(torch.linspace(0.5, 6.0, 100, dtype=torch.float64))
    assert (kept == fraction).all()


def test_slope_of_low_over_high_stays_below_five() -> None:
    for sequence in SEQUENCES:
        for fraction in (0.05, 0.2, 0.5, 0.9):
            response = DoseResponse(sequence, dose_fraction=fraction)
            ratios = torch.linspace(0.5, response.max_ratio + 0.5, 4001, dtype=torch.float64, requires_grad=True)
            (slopes,) = torch.autograd.grad((1 + response(ratios) * (ratios - 1)).sum(), ratios)
            assert float(slopes.min()) >= 0
            assert float(slopes.max()) < 5


def test_half_precision_is_computed_in_single() -> None:
    response = DoseResponse()
    kept = response(torch.tensor([2.0, 3.0], dtype=torch.bfloat16))
    assert kept.dtype == torch.float32
    torch.testing.assert_close(kept, response(torch.tensor([2.0, 3.0])))


def test_nothing_of_it_is_in_a_weights_file() -> None:
    assert DoseResponse().state_dict() == {}


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a dose fraction .* between 0 and 1, got"):
        DoseResponse(dose_fraction=fraction)


@pytest.mark.parametrize("saturation", [0.0, 1.0, float("nan")])
def test_impossible_saturation_is_refused(saturation: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a saturation between 0 and 1, got"):
        DoseResponse(saturation=saturation)


def test_a_sequence_without_enhancement_is_refused() -> None:
    # TR of 20 s and TE of 200 ms: T2 weighting, the agent only darkens
    with pytest.raises(ConfigurationError, match="shows no enhancement with agent 'unit' in tissue of T1 1000"):
        DoseResponse(SpinEcho(20000.0, 200.0), UNIT, 1000.0, 100.0, 0.2)
