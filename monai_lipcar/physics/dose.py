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
"""From a dose fraction to the enhancement that it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho

__all__ = ["REFERENCE_T1_MS", "REFERENCE_T2_MS", "DoseProtocol", "DoseResponse", "check_dose_fraction"]

REFERENCE_T1_MS = 1331.0
"""T1 of the reference tissue: gray matter at 3 T (Wansapura et al., J Magn Reson Imaging 1999;9:531-538)."""

REFERENCE_T2_MS = 110.0
"""T2 of the reference tissue: gray matter at 3 T (same source)."""

# Concentrations searched for the signal's peak: first-pass blood stays below 10 mM.
_MAX_CONCENTRATION_MM = 10.0
_SEARCH_POINTS = 20001
_TABLE_POINTS = 4096
# The last percent before the signal's peak is left out of the table. There the curve is flat, so noise decides the
# concentration, and the slope d low / d high grows without bound; with 0.99 it stays below 5.
_SATURATION = 0.99


def check_dose_fraction(dose_fraction: float) -> float:
    """Return the dose fraction as a float.

    Args:
        dose_fraction: reduced dose over full dose.

    Raises:
        ConfigurationError: unless it is in [0, 1].

    Example:
        >>> check_dose_fraction(0.2)
        0.2
    """
    if not 0 <= dose_fraction <= 1:
        raise ConfigurationError(
            f"expected a dose fraction (reduced dose over full dose) between 0 and 1, got {dose_fraction}"
        )
    return float(dose_fraction)


@dataclass(frozen=True)
class DoseProtocol:
    """The two doses of an examination, each in total since the start.

    The defaults are the paper's (arXiv 2407.10559): 0.01 and 0.05 mmol/kg of a high-relaxivity agent.

    Args:
        low_mmol_per_kg: dose in the body when ``low`` is acquired, mmol per kg of body weight.
        high_mmol_per_kg: dose in the body when ``high`` is acquired.

    Raises:
        ConfigurationError: unless 0 < low <= high.

    Example:
        >>> round(DoseProtocol().dose_fraction, 3)
        0.2
    """

    low_mmol_per_kg: float = 0.01
    high_mmol_per_kg: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.low_mmol_per_kg <= self.high_mmol_per_kg:
            raise ConfigurationError(
                f"expected 0 < low dose <= high dose in mmol/kg, got {self.low_mmol_per_kg} and {self.high_mmol_per_kg}"
            )

    @property
    def dose_fraction(self) -> float:
        """Reduced dose over full dose, in (0, 1]."""
        return self.low_mmol_per_kg / self.high_mmol_per_kg


class DoseResponse(nn.Module):
    """How much of the full dose's enhancement is left at a fraction of the dose.

    A voxel's ratio q = x_H / x_P tells the concentration C of a reference tissue, as S(C) = q S(0); the reduced dose
    leaves f C, so that x_L = x_P + g (x_H - x_P) with g = (S(f C) - S(0)) / (S(C) - S(0)). The T1-weighted signal
    saturates, so g > f, and g tends to f for weak enhancement. Gain, coil sensitivity, proton density and T2 cancel in
    the ratio; the native T1 does not, and is the reference tissue's everywhere. The low dose tells C just as well,
    as S(f C) = (x_L / x_P) S(0): :meth:`from_low`.

    The signal S and its inverse are tabulated up to 99 % of the way to the signal's peak and interpolated linearly,
    which is differentiable almost everywhere. Without enhancement g = f; beyond the table g keeps its last value.

    Args:
        signal_model: sequence of the examination.
        agent: contrast agent.
        t1_ms: native T1 of the reference tissue in ms.
        t2_ms: native T2 of the reference tissue in ms.
        dose_fraction: f = reduced dose over full dose, in [0, 1].

    Attributes:
        max_ratio: the ratio x_H / x_P where the table ends.

    Raises:
        ConfigurationError: when f is not in [0, 1], or the sequence shows no enhancement with this agent and tissue.

    Example:
        >>> import torch
        >>> response = DoseResponse(dose_fraction=0.2)
        >>> [round(float(g), 3) for g in response(torch.tensor([0.5, 1.0, 2.0, 3.0]))]
        [0.2, 0.2, 0.233, 0.294]
        >>> low = 1 + response(torch.tensor(3.0)) * (3.0 - 1)
        >>> round(float(response.from_low(low)), 3)
        0.294
    """

    def __init__(
        self,
        signal_model: SignalModel | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        t1_ms: float = REFERENCE_T1_MS,
        t2_ms: float = REFERENCE_T2_MS,
        dose_fraction: float = 0.2,
    ) -> None:
        super().__init__()
        self.dose_fraction = check_dose_fraction(dose_fraction)
        model: SignalModel = SpinEcho() if signal_model is None else signal_model

        def signal(concentration: Tensor) -> Tensor:
            return model.signal(1.0, t1_ms, t2_ms, concentration, agent)

        concentrations = torch.linspace(0.0, _MAX_CONCENTRATION_MM, _SEARCH_POINTS, dtype=torch.float64)
        ratios = signal(concentrations) / signal(concentrations[0])
        peak = int(ratios.argmax())
        if peak == 0:
            raise ConfigurationError(
                f"{model} shows no enhancement with agent {agent.name!r} in tissue of T1 {t1_ms} ms and T2 {t2_ms} ms; "
                "expected a T1-weighted sequence (is the echo time too long?)"
            )
        # x_H / x_P - 1, the relative enhancement, of concentrations from 0 to the end of the table, and the inverse
        self.max_ratio = 1.0 + _SATURATION * (float(ratios[peak]) - 1.0)
        enhancements = torch.linspace(0.0, self.max_ratio - 1.0, _TABLE_POINTS, dtype=torch.float64)
        inverse = _interpolate(enhancements, ratios[: peak + 1] - 1.0, concentrations[: peak + 1])
        self.max_concentration = float(inverse[-1])
        nodes = torch.linspace(0.0, self.max_concentration, _TABLE_POINTS, dtype=torch.float64)
        # Recomputed from the arguments, so they are not part of a weights file.
        # (Annotated here, not in the class body, where a string annotation would break torch.jit.script.)
        self.concentration: Tensor
        self.enhancement: Tensor
        self.register_buffer("concentration", inverse, persistent=False)
        self.register_buffer("enhancement", signal(nodes) / signal(nodes[0]) - 1.0, persistent=False)

    def forward(self, ratio: Tensor, dose_fraction: Tensor | None = None) -> Tensor:
        """Fraction of the enhancement that is left.

        Args:
            ratio: x_H / x_P, any shape, floating point.
            dose_fraction: f, in [0, 1], of a shape that broadcasts with it; by default that of the module.

        Returns:
            g, of the same shape, in [f, 1]; float32 for half precision, as the table's index needs it.
        """
        ratio = ratio.to(torch.promote_types(ratio.dtype, torch.float32))
        return self._kept(self._concentration_at(ratio), self._fraction(ratio, dose_fraction))

    def from_low(self, ratio: Tensor, dose_fraction: Tensor | None = None) -> Tensor:
        """The same fraction from the low dose: x_H = x_P + (x_L - x_P) / g.

        Args:
            ratio: x_L / x_P, any shape, floating point.
            dose_fraction: f, in (0, 1], of a shape that broadcasts with it; by default that of the module.

        Returns:
            g, of the same shape.
        """
        ratio = ratio.to(torch.promote_types(ratio.dtype, torch.float32))
        fraction = self._fraction(ratio, dose_fraction)
        return self._kept((self._concentration_at(ratio) / fraction).clamp(max=self.max_concentration), fraction)

    def _fraction(self, ratio: Tensor, dose_fraction: Tensor | None) -> Tensor:
        if dose_fraction is None:
            return torch.full((), self.dose_fraction, dtype=ratio.dtype, device=ratio.device)
        return dose_fraction.to(ratio)

    def _concentration_at(self, ratio: Tensor) -> Tensor:
        concentration = _look_up(self.concentration, ratio - 1.0, self.max_ratio - 1.0)
        # not quite zero, where g would be a quotient of zeros; so near zero the signal is a straight line, and g = f
        return concentration.clamp(min=1e-6 * self.max_concentration)

    def _kept(self, concentration: Tensor, fraction: Tensor) -> Tensor:
        low = _look_up(self.enhancement, fraction * concentration, self.max_concentration)
        return low / _look_up(self.enhancement, concentration, self.max_concentration)


def _look_up(table: Tensor, x: Tensor, end: float) -> Tensor:
    """Linear interpolation, at x, of values on an even grid from 0 to ``end``; constant outside of it."""
    table = table.to(x.dtype)
    position = (x * ((table.numel() - 1) / end)).clamp(0.0, float(table.numel() - 1))
    # Not the last node, so that there is always a segment above.
    index = position.detach().floor().clamp(max=float(table.numel() - 2))
    lower, upper = table[index.long()], table[index.long() + 1]
    return lower + (position - index) * (upper - lower)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation of (xs, ys), xs increasing, at x inside its range."""
    index = torch.searchsorted(xs, x).clamp(1, xs.numel() - 1)
    weight = (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    return ys[index - 1] + weight * (ys[index] - ys[index - 1])
