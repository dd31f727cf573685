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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho

__all__ = [
    "REFERENCE_T1_MS",
    "REFERENCE_T2_MS",
    "SIMULATED_SATURATION",
    "DoseProtocol",
    "DoseResponse",
    "check_dose_fraction",
    "kept_enhancement",
    "voxel_slope",
]

REFERENCE_T1_MS = 1331.0
"""T1 of the reference tissue: gray matter at 3 T (Wansapura et al., J Magn Reson Imaging 1999;9:531-538)."""

REFERENCE_T2_MS = 110.0
"""T2 of the reference tissue: gray matter at 3 T (same source)."""

SIMULATED_SATURATION = 0.99
"""How far up the signal's curve simulations follow it: they are not inverted, so it may be steep."""

# Concentrations searched for the signal's peak: first-pass blood stays below 10 mM.
_MAX_CONCENTRATION_MM = 10.0
_SEARCH_POINTS = 20001
_TABLE_POINTS = 1024


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

    g is tabulated on even grids of ratios, from 1 to nearly the signal's peak, and interpolated linearly,
    which is differentiable almost everywhere. Below 1 (no enhancement) g = f; beyond the table g keeps its last value.

    Args:
        signal_model: sequence of the examination.
        agent: contrast agent.
        t1_ms: native T1 of the reference tissue in ms.
        t2_ms: native T2 of the reference tissue in ms.
        dose_fraction: f = reduced dose over full dose, in [0, 1].
        saturation: how much of the way to the signal's peak the table goes, in (0, 1). Near the peak the curve is
            flat, so noise decides the concentration, and the slope d x_L / d x_H grows without bound: for f = 0.2 it
            stays below 4.1 with 0.99, below 1.9 with 0.95, and below 1.3 with 0.9 (spin echo and gradient echo).

    Attributes:
        max_ratio: the ratio x_H / x_P where the table ends.
        tables: (2, points + 1): g over x_H / x_P - 1 and over x_L / x_P - 1, and in the last column where each table
            ends. What :func:`kept_enhancement` reads; the first value is f.

    Raises:
        ConfigurationError: when f is not in [0, 1], the saturation not in (0, 1), or the sequence shows no enhancement
            with this agent and tissue.

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
        saturation: float = 0.95,
    ) -> None:
        super().__init__()
        self.dose_fraction = check_dose_fraction(dose_fraction)
        if not 0 < saturation < 1:
            raise ConfigurationError(f"dose response: expected a saturation between 0 and 1, got {saturation}")
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
        # relative enhancements x / x_P - 1 as the signal rises, and where the table ends: in them and in concentration
        rising, rise = ratios[: peak + 1] - 1.0, concentrations[: peak + 1]
        end = saturation * float(rising[-1])
        self.max_ratio = 1.0 + end
        fraction = self.dose_fraction

        def kept(concentration: Tensor) -> Tensor:
            return _interpolate(fraction * concentration, rise, rising) / _interpolate(concentration, rise, rising)

        steps = torch.linspace(0.0, 1.0, _TABLE_POINTS, dtype=torch.float64)[1:]
        highest = _interpolate(torch.tensor([end], dtype=torch.float64), rising, rise)
        low_end = float(_interpolate(fraction * highest, rise, rising)) if fraction else end
        from_high = kept(_interpolate(steps * end, rising, rise))
        # a low dose tells its own concentration, f C
        from_low = kept(_interpolate(steps * low_end, rising, rise) / fraction) if fraction else torch.zeros_like(steps)
        first = torch.tensor([fraction], dtype=torch.float64)
        ends = torch.tensor([[end], [low_end]], dtype=torch.float64)
        rows = [(first, from_high, ends[0]), (first, from_low, ends[1])]
        # Recomputed from the arguments, so it is not part of a weights file.
        # (Annotated here, not in the class body, where a string annotation would break torch.jit.script.)
        self.tables: Tensor
        self.register_buffer("tables", torch.stack([torch.cat(row) for row in rows]), persistent=False)

    def forward(self, ratio: Tensor) -> Tensor:
        """Fraction of the enhancement that is left.

        Args:
            ratio: x_H / x_P, any shape, floating point.

        Returns:
            g, of the same shape, in [f, 1]; float32 for half precision, as the table's index needs it.
        """
        return kept_enhancement(self.tables.unsqueeze(0), ratio.reshape(1, -1), 0).reshape(ratio.shape)

    def from_low(self, ratio: Tensor) -> Tensor:
        """The same fraction from the low dose: x_H = x_P + (x_L - x_P) / g.

        Args:
            ratio: x_L / x_P, any shape, floating point.

        Returns:
            g, of the same shape.
        """
        return kept_enhancement(self.tables.unsqueeze(0), ratio.reshape(1, -1), 1).reshape(ratio.shape)


def kept_enhancement(tables: Tensor, ratio: Tensor, row: int) -> Tensor:
    """Look g up in the tables of a :class:`DoseResponse`, images of several examinations at once.

    Args:
        tables: (B, 2, points + 1), or (1, 2, points + 1) for all images.
        ratio: x / x_P, (B, ...), floating point.
        row: 0 for x = x_H, 1 for x = x_L.

    Returns:
        g, of the shape of ``ratio``; float32 for half precision.

    Example:
        >>> import torch
        >>> tables = torch.stack([DoseResponse(dose_fraction=f).tables for f in (0.1, 0.2)])
        >>> [round(float(g), 3) for g in kept_enhancement(tables, torch.tensor([[2.0], [2.0]]), 0)]
        [0.119, 0.233]
    """
    ratio = ratio.to(torch.promote_types(ratio.dtype, torch.float32))
    flat = ratio.flatten(1)
    table = tables[:, row, :-1].to(ratio.dtype)
    last = table.shape[1] - 1
    position = ((flat - 1.0) * (last / tables[:, row, -1:].to(ratio.dtype))).clamp(0.0, float(last))
    # Not the last node, so that there is always a segment above. What is not a number has no node, and stays that.
    index = position.detach().nan_to_num(0.0).floor().clamp(max=float(last - 1))
    table = table.expand(flat.shape[0], -1)
    lower, upper = table.gather(1, index.long()), table.gather(1, index.long() + 1)
    return (lower + (position - index) * (upper - lower)).reshape(ratio.shape)


def voxel_slope(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Derivative of a function that treats every voxel by itself, of the shape of the image.

    Where the image has more channels than what the function gives, the derivative in each of them.

    Example:
        >>> import torch
        >>> voxel_slope(lambda image: image**2, torch.tensor([1.0, 3.0])).tolist()
        [2.0, 6.0]
    """
    # a copy: a tensor made in inference mode can never carry a gradient
    with torch.inference_mode(False), torch.enable_grad():
        image = image.detach().clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(function(image).sum(), image)
    return slope


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation of (xs, ys), xs increasing, at x inside its range."""
    index = torch.searchsorted(xs, x).clamp(1, xs.numel() - 1)
    weight = (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    return ys[index - 1] + weight * (ys[index] - ys[index - 1])
