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
"""What a solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from monai_lipcar.types import ImageBatch

__all__ = ["Solution", "Status"]

Status = Literal["converged", "max_iterations", "stalled", "non_finite"]
"""How a solve ended: see :class:`Solution`."""


@dataclass(frozen=True)
class Solution:
    """Result of a solve, with the record that lets a reader judge it.

    Args:
        image: (B, 1, *spatial) in [0, 1].
        objective: (B, steps + 1), the problem's objective at the start, then after each step (of the sample that took
            most; the others keep their last value); the last column is that of ``image``.
        status: why each sample stopped.
        iterations: steps each sample took, the network being evaluated once in each, and once at the start.
        network_evaluations: evaluations of the operator for the batch: forward and backward pass, or a forward pass
            alone, count as one; so does one for what is left of the batch when some samples are done.
        certificate: measures of how stationary ``image`` is, each (B,).
    """

    image: ImageBatch
    objective: torch.Tensor
    status: tuple[Status, ...]
    iterations: tuple[int, ...]
    network_evaluations: int
    certificate: dict[str, torch.Tensor] = field(default_factory=dict)
