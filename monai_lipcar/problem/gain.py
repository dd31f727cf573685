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
"""The gain of an operator: how much it can enlarge a change of its input."""

from __future__ import annotations

from collections.abc import Callable

import torch

from monai_lipcar.types import ImageBatch, PerSample

from .objective import frozen

__all__ = ["operator_gain"]


def operator_gain(
    operator: Callable[[ImageBatch], ImageBatch], inputs: ImageBatch, iterations: int = 12, seed: int = 0
) -> PerSample:
    r"""Largest eigenvalue of :math:`J^T J`, for the Jacobian J of the operator in the dose image.

    Power iteration from a random image. The gradient of the data fidelity changes with the image at most this fast
    (to first order): 1 / gain is a safe step of a gradient method. For enhancement proportional to the dose it is the
    square of the dose fraction.

    Args:
        operator: called with ``inputs``; a module is evaluated frozen.
        inputs: where to linearize, (B, 2, *spatial) with channels (pre, dose) or (B, 1, *spatial).
        iterations: of the power method, which approaches the gain from below.
        seed: of the first image.

    Returns:
        (B,), one for each sample.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> round(operator_gain(LinearDoseOperator(0.2), torch.rand(1, 2, 8, 8)).item(), 4)
        0.04
    """
    dose = inputs[:, -1:].detach()
    pre = inputs[:, :-1].detach()

    def apply(image: torch.Tensor) -> torch.Tensor:
        return operator(torch.cat([pre, image], dim=1))

    def norm(image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1).norm(dim=1).reshape(-1, *[1] * (image.ndim - 1))

    direction = torch.randn(dose.shape, generator=torch.Generator().manual_seed(seed)).to(dose)
    direction = direction / norm(direction)
    gain = torch.zeros(len(dose), device=dose.device)
    with torch.inference_mode(False), frozen(operator):
        for _ in range(iterations):
            change = torch.func.jvp(apply, (dose,), (direction,))[1]
            gain = norm(change).square().flatten()
            direction = torch.func.vjp(apply, dose)[1](change)[0]
            direction = direction / norm(direction).clamp(min=1e-30)
    return gain.detach()
