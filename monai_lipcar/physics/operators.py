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
"""Forward operators that need no training: from the pre-dose and the full-dose image to the low-dose image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import REFERENCE_T1_MS, REFERENCE_T2_MS, DoseResponse, check_dose_fraction, voxel_slope
from monai_lipcar.physics.signal_model import SignalModel

__all__ = ["LinearDoseOperator", "SignalEquationOperator", "linear_extrapolation"]


class LinearDoseOperator(nn.Module):
    """Enhancement proportional to the dose: x_L = x_P + f (x_H - x_P).

    Exact for CT, first order for MR.

    Args:
        dose_fraction: f = reduced dose over full dose, in [0, 1].

    Shape:
        - Input: (B, 2, *spatial), channels (pre, high).
        - Output: (B, 1, *spatial).

    Raises:
        ConfigurationError: when f is not in [0, 1].

    Example:
        >>> import torch
        >>> pre, high = torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.7)
        >>> low = LinearDoseOperator(dose_fraction=0.2)(torch.cat((pre, high), dim=1))
        >>> low.shape, round(float(low.mean()), 3)
        (torch.Size([1, 1, 4, 4]), 0.3)
    """

    def __init__(self, dose_fraction: float = 0.2) -> None:
        super().__init__()
        self.dose_fraction = check_dose_fraction(dose_fraction)

    def forward(self, inputs: Tensor) -> Tensor:
        """Low-dose image of (pre, high)."""
        pre, high = _channels(inputs)
        return pre + self.dose_fraction * (high - pre)

    def slope(self, inputs: Tensor) -> Tensor:
        """d x_L / d x_H of (pre, high), (B, 1, *spatial): the dose fraction."""
        return torch.full_like(inputs[:, :1], self.dose_fraction)


class SignalEquationOperator(nn.Module):
    """The signal equation of a reference tissue: x_L = x_P + g(x_H / x_P) (x_H - x_P).

    g is :class:`~monai_lipcar.physics.DoseResponse`. Differentiable with respect to both channels.

    Args:
        dose_fraction: f = reduced dose over full dose, in [0, 1].
        signal_model: sequence of the examination; by default :class:`~monai_lipcar.physics.SpinEcho` as in the paper.
        agent: contrast agent.
        t1_ms: native T1 of the reference tissue in ms.
        t2_ms: native T2 of the reference tissue in ms.
        floor: the ratio is x_H / max(x_P, floor), so that air does not look like enhancement; in the image's units,
            the default is meant for intensities in [0, 1].
        saturation: how far up the signal's curve is followed, see :class:`~monai_lipcar.physics.DoseResponse`; to be
            inverted it should not be too steep, to simulate it may be.

    Shape:
        - Input: (B, 2, *spatial), channels (pre, high).
        - Output: (B, 1, *spatial).

    Raises:
        ConfigurationError: for an f not in [0, 1], a floor that is not positive, or a sequence without enhancement.

    Example:
        >>> import torch
        >>> pre, high = torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.4)
        >>> low = SignalEquationOperator(dose_fraction=0.2)(torch.cat((pre, high), dim=1))
        >>> round(float(low.mean()), 3)  # the linear operator says 0.24
        0.247
    """

    def __init__(
        self,
        dose_fraction: float = 0.2,
        signal_model: SignalModel | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        t1_ms: float = REFERENCE_T1_MS,
        t2_ms: float = REFERENCE_T2_MS,
        floor: float = 0.02,
        saturation: float = 0.95,
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ConfigurationError(f"signal equation operator: expected a floor > 0, got {floor}")
        self.dose_fraction = check_dose_fraction(dose_fraction)
        self.floor = float(floor)
        self.response = DoseResponse(signal_model, agent, t1_ms, t2_ms, dose_fraction, saturation)

    def forward(self, inputs: Tensor) -> Tensor:
        """Low-dose image of (pre, high)."""
        pre, high = _channels(inputs)
        kept: Tensor = self.response(high / pre.clamp(min=self.floor))
        return pre + kept.to(pre.dtype) * (high - pre)

    def slope(self, inputs: Tensor) -> Tensor:
        """d x_L / d x_H of (pre, high), (B, 1, *spatial); the solvers' measure of how much each voxel counts."""
        # not by a call, which hooks would count as an evaluation of the operator
        return voxel_slope(self.forward, inputs)[:, 1:]


def linear_extrapolation(pre: Tensor, low: Tensor, dose_fraction: float) -> Tensor:
    """The trivial full-dose estimate x_P + (x_L - x_P) / f, which also multiplies the noise by about 1 / f.

    Args:
        pre: image before contrast, any shape.
        low: image at reduced dose, the same shape and scale.
        dose_fraction: f = reduced dose over full dose, in (0, 1].

    Returns:
        The estimate, of the same shape.

    Raises:
        ConfigurationError: when f is not in (0, 1].

    Example:
        >>> import torch
        >>> float(linear_extrapolation(torch.tensor(0.25), torch.tensor(0.5), 0.5))
        0.75
    """
    if check_dose_fraction(dose_fraction) == 0:
        raise ConfigurationError("linear extrapolation: expected a dose fraction > 0, got 0")
    return pre + (low - pre) / dose_fraction


def _channels(inputs: Tensor) -> tuple[Tensor, Tensor]:
    if inputs.shape[1] != 2:
        raise ValueError(f"expected (B, 2, *spatial) with channels (pre, high), got shape {list(inputs.shape)}")
    return inputs[:, 0:1], inputs[:, 1:2]
