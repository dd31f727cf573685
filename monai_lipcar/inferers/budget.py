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
"""How many slices fit into memory together."""

from __future__ import annotations

import math

import torch
from torch import nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.problem import LearnedInverseProblem, frozen

__all__ = ["checked_budget", "evaluation_bytes", "slices_within"]


def checked_budget(budget_gib: float) -> float:
    """The budget as it is.

    Raises:
        ConfigurationError: no finite number above 0.
    """
    number = isinstance(budget_gib, (int, float)) and not isinstance(budget_gib, bool)
    if not number or not 0 < budget_gib < math.inf:
        raise ConfigurationError(f"memory_budget_gib: expected a finite number above 0, got {budget_gib!r}")
    return budget_gib


def evaluation_bytes(problem: LearnedInverseProblem) -> int:
    """Bytes that one evaluation of the network keeps for its gradient: nearly all that a solve needs.

    Measured by a forward pass; the weights do not count.

    Example:
        >>> from monai_lipcar.problem import TotalVariation
        >>> image = torch.rand(1, 1, 8, 8)
        >>> evaluation_bytes(LearnedInverseProblem(lambda x: x.exp(), image, TotalVariation(), 1e-3)) >= 8 * 8 * 4
        True
    """
    operator = problem.operator
    weights = (
        {tensor.untyped_storage().data_ptr() for tensor in [*operator.parameters(), *operator.buffers()]}
        if isinstance(operator, nn.Module)
        else set()
    )
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would refer to what saves it: a cycle that is never freed

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(problem.observed.device.type, enabled=False),
        frozen(operator),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        # referred to until all is counted, as storage that is freed is used again
        fidelity = problem.data_fidelity(problem.observed.detach().clone().requires_grad_(True))
    del fidelity
    return sum(size for place, size in kept.items() if place not in weights)


def slices_within(problem: LearnedInverseProblem, budget_gib: float, most: int) -> int:
    """Slices like that of a problem that can be solved together: at least 1, and no more than ``most``."""
    return max(1, min(most, int(budget_gib * 2**30 // max(1, evaluation_bytes(problem)))))
