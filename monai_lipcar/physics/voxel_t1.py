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
"""The signal equation with a native T1 of its own in every voxel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import REFERENCE_T2_MS, SIMULATED_SATURATION, DoseResponse, check_dose_fraction
from monai_lipcar.physics.signal_model import SignalModel

__all__ = ["VoxelT1DoseOperator"]

_TISSUES = 24


class VoxelT1DoseOperator(nn.Module):
    """The signal equation of every voxel's own tissue: x_L = x_P + g(x_H / x_P, T1) (x_H - x_P).

    g is that of :class:`~monai_lipcar.physics.DoseResponse`, tabulated for 24 values of T1, evenly spaced in the
    logarithm, and interpolated linearly in the ratio and in log T1. The same ratio is more contrast agent in tissue of
    short T1 than in tissue of long T1, and saturates the signal more.

    Args:
        dose_fraction: f = reduced dose over full dose, in [0, 1].
        signal_model: sequence of the examination; by default :class:`~monai_lipcar.physics.SpinEcho` as in the paper.
        agent: contrast agent.
        t1_range_ms: shortest and longest native T1 in ms; others count as the nearer of the two.
        t2_ms: native T2 in ms, of all tissues: it cancels in the ratio but for the range of the table.
        floor: the ratio is x_H / max(x_P, floor), see :class:`~monai_lipcar.physics.SignalEquationOperator`.

    Shape:
        - Input: (B, 2, *spatial), channels (pre, high), and the native T1 in ms, (B, 1, *spatial).
        - Output: (B, 1, *spatial).

    Raises:
        ConfigurationError: for an f not in [0, 1], a range that is none, a floor that is not positive, or a sequence
            without enhancement.

    Example:
        >>> import torch
        >>> operator = VoxelT1DoseOperator(dose_fraction=0.2, t1_range_ms=(600.0, 4000.0))
        >>> pair, t1 = torch.tensor([[[0.2, 0.2], [0.4, 0.4]]]), torch.tensor([[[800.0, 2000.0]]])
        >>> [round(float(value), 4) for value in operator(pair, t1)[0, 0]]  # twice the signal in both voxels
        [0.2564, 0.2438]
    """

    def __init__(
        self,
        dose_fraction: float = 0.2,
        signal_model: SignalModel | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        t1_range_ms: tuple[float, float] = (600.0, 4000.0),
        t2_ms: float = REFERENCE_T2_MS,
        floor: float = 0.02,
    ) -> None:
        super().__init__()
        shortest, longest = t1_range_ms
        if not 0 < shortest < longest or not math.isfinite(longest):
            raise ConfigurationError(f"expected a range of T1 in ms, 0 < shortest < longest, got {t1_range_ms}")
        if not floor > 0:
            raise ConfigurationError(f"voxel T1 dose operator: expected a floor > 0, got {floor}")
        self.dose_fraction = check_dose_fraction(dose_fraction)
        self.floor = float(floor)
        self.first = math.log(shortest)
        self.step = (math.log(longest) - self.first) / (_TISSUES - 1)
        tissues = [math.exp(self.first + index * self.step) for index in range(_TISSUES)]
        responses = [
            DoseResponse(signal_model, agent, t1, t2_ms, dose_fraction, SIMULATED_SATURATION) for t1 in tissues
        ]
        # recomputed from the arguments, so no part of a weights file
        rows = torch.stack([response.tables[0] for response in responses])  # g over x_H / x_P - 1, and where it ends
        self.tables: Tensor
        self.register_buffer("tables", rows[:, :-1].contiguous(), persistent=False)
        self.steps: Tensor
        self.register_buffer("steps", rows[:, -1] / (rows.shape[1] - 2), persistent=False)

    def forward(self, inputs: Tensor, t1_ms: Tensor) -> Tensor:
        """Low-dose image of (pre, high)."""
        if inputs.shape[1] != 2 or t1_ms.shape != inputs[:, :1].shape:
            raise ValueError(
                "expected (B, 2, *spatial) with channels (pre, high) and T1 of (B, 1, *spatial), "
                f"got shapes {list(inputs.shape)} and {list(t1_ms.shape)}"
            )
        pre, high = inputs[:, 0:1], inputs[:, 1:2]
        ratio = high / pre.clamp(min=self.floor)
        place = ((t1_ms.log() - self.first) / self.step).clamp(0.0, _TISSUES - 1.0)
        below = place.floor().clamp(max=_TISSUES - 2.0)
        weight = (place - below).to(ratio.dtype)
        tissue = below.long()
        kept = torch.lerp(self._response(ratio, tissue), self._response(ratio, tissue + 1), weight)
        return pre + kept * (high - pre)

    def _response(self, ratio: Tensor, tissue: Tensor) -> Tensor:
        """g of tissues given by the number of their table."""
        last = self.tables.shape[1] - 1
        position = ((ratio - 1.0) / self.steps.to(ratio.dtype)[tissue]).clamp(0.0, float(last))
        index = position.floor().clamp(max=float(last - 1))
        start = tissue * (last + 1) + index.long()
        table = self.tables.to(ratio.dtype).flatten()
        return torch.lerp(table[start], table[start + 1], position - index)
