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
"""A two-dimensional operator as one of volumes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from monai_lipcar.types import ImageBatch

__all__ = ["SlicewiseOperator"]


class SlicewiseOperator(nn.Module):
    r"""Apply a 2-D operator to every slice of a volume, so that a prior can join the slices.

    .. math:: \Psi(x)_s = \psi(x_s)

    for the slices s of an axis. The gradient through :math:`\psi` is computed some slices at a time, by evaluating it
    anew: memory grows with the volume itself, but not with what the operator keeps of every slice.

    Args:
        operator: :math:`\psi`, for (S, C, H, W).
        slice_axis: 0, 1 or 2.
        slice_batch_size: slices that are evaluated together.

    Example:
        >>> volume = torch.rand(1, 2, 8, 8, 3)
        >>> SlicewiseOperator(lambda slices: 2 * slices[:, 1:])(volume).equal(2 * volume[:, 1:])
        True
    """

    def __init__(
        self, operator: Callable[[torch.Tensor], ImageBatch], slice_axis: int = 2, slice_batch_size: int = 4
    ) -> None:
        super().__init__()
        self.operator = operator
        self.slice_axis = slice_axis
        self.slice_batch_size = slice_batch_size

    def of_same_slices(self, operator: Callable[[torch.Tensor], ImageBatch]) -> SlicewiseOperator:
        """Another operator for the same slices."""
        return SlicewiseOperator(operator, self.slice_axis, self.slice_batch_size)

    def forward(self, volume: torch.Tensor) -> ImageBatch:
        """(B, 1, X, Y, Z) of (B, C, X, Y, Z)."""
        return self._by_slice(self._evaluate, volume)

    def slope(self, volume: torch.Tensor) -> ImageBatch:
        """The operator's, 1 where it has none; see :meth:`~monai_lipcar.problem.LearnedInverseProblem.curvature`."""
        slope = getattr(self.operator, "slope", None)
        return torch.ones_like(volume[:, -1:]) if slope is None else self._by_slice(slope, volume)

    def _evaluate(self, slices: torch.Tensor) -> ImageBatch:
        if torch.is_grad_enabled() and slices.requires_grad:
            result: ImageBatch = checkpoint(self.operator, slices, use_reentrant=False)
            return result
        return self.operator(slices)

    def _by_slice(self, function: Callable[[torch.Tensor], ImageBatch], volume: torch.Tensor) -> ImageBatch:
        axis = self.slice_axis + 2
        slices = volume.movedim(axis, 1).flatten(0, 1)
        parts = [function(some.contiguous()) for some in slices.split(self.slice_batch_size)]
        return torch.cat(parts).unflatten(0, (volume.shape[0], volume.shape[axis])).movedim(1, axis)
