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
"""Another scanner for every study: sequence, contrast agent, dose and reduced dose, drawn for domain randomization."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from monai_lipcar.data.phantom.maps import TissueMaps
from monai_lipcar.physics.acquisition import Acquisition
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import DoseProtocol
from monai_lipcar.physics.spin_echo import SpinEcho

__all__ = ["Scanner", "draw_scanner"]

REDUCED_DOSES = (0.08, 0.45)
"""Smallest and largest dose fraction that is drawn."""
_USUAL_FRACTION = 0.2


@dataclass(frozen=True)
class Scanner:
    """How a study is acquired, beside the imperfections of the acquisition.

    Args:
        signal_model: sequence.
        agent: contrast agent.
        protocol: doses.
        uptake_factor: full dose's concentration in tissue relative to what the tissue maps say.

    Example:
        >>> round(Scanner().protocol.dose_fraction, 3)
        0.2
    """

    signal_model: SpinEcho = field(default_factory=SpinEcho)
    agent: ContrastAgent = HIGH_RELAXIVITY
    protocol: DoseProtocol = field(default_factory=DoseProtocol)
    uptake_factor: float = 1.0

    @property
    def acquisition(self) -> Acquisition:
        """Dose fraction, sequence and agent, which are known at the scanner."""
        return Acquisition.of(self.protocol.dose_fraction, self.signal_model, self.agent)

    def dose(self, maps: TissueMaps) -> TissueMaps:
        """The tissue maps with this scanner's uptake."""
        return replace(maps, uptake_mm=maps.uptake_mm * self.uptake_factor)


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Draw a T1-weighted spin echo, an agent and the doses.

    Repetition time 300 to 900 ms, echo time 4 to 16 ms, relaxivity r1 3.5 to 14 /(mM s) with r2 of 1.2 to 1.6 times r1:
    how much the signal saturates varies more than it does between the scanners of one hospital. The product of
    relaxivity and concentration stays within 0.6 to 1.6 times that of the tissue maps, since weaker agents are given
    in larger doses. The dose fraction is 0.2 in a third of the draws, and between 0.08 and 0.45 in the others.

    Example:
        >>> scanner = draw_scanner(np.random.default_rng(0))
        >>> 0.08 <= scanner.protocol.dose_fraction <= 0.45
        True
    """
    r1 = _log_uniform(rng, 3.5, 14.0)
    agent = ContrastAgent("drawn", r1=r1, r2=r1 * float(rng.uniform(1.2, 1.6)))
    sequence = SpinEcho(repetition_time_ms=_log_uniform(rng, 300.0, 900.0), echo_time_ms=float(rng.uniform(4.0, 16.0)))
    factor = HIGH_RELAXIVITY.r1 / r1 * _log_uniform(rng, 0.6, 1.6)
    usual = rng.random() < 1 / 3
    fraction = _log_uniform(rng, *REDUCED_DOSES)
    high = DoseProtocol().high_mmol_per_kg
    low = (_USUAL_FRACTION if usual else fraction) * high
    return Scanner(sequence, agent, DoseProtocol(low_mmol_per_kg=low, high_mmol_per_kg=high), factor)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
