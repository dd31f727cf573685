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
"""The published solver: a fixed number of Adam steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from monai_lipcar.types import ImageBatch

from .objective import LearnedInverseProblem, frozen
from .solution import Solution, Status

__all__ = ["AdamSolver"]


class AdamSolver:
    r"""Adam on the smoothed objective, as published: 150 steps of size 1e-2, no stopping rule.

    The iterates are free; the result is the last one, clipped to [0, 1]. Adam works on every pixel by itself, so a
    batch of slices gives what the slices give one by one: to the bit when the operator's arithmetic does not depend on
    the batch size. That of a large network does in its last bits, and where the image is flat Adam makes a step of any
    gradient however small, so single pixels may differ by up to about a step size.

    The certificate is the projected gradient :math:`x - P_{[0,1]}(x - \nabla F(x))`, whose norm is zero at a
    stationary point: ``projected_gradient`` and, relative to the start's, ``relative_projected_gradient``. A fixed
    number of Adam steps does not bring it to zero; the number says how far it came.

    Args:
        max_iterations: number of steps.
        step_size: Adam's learning rate.

    Raises:
        ValueError: a setting that is not positive.

    Source: LIP-CAR (arXiv 2407.10559), experiments; Kingma and Ba, ICLR 2015.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> from monai_lipcar.problem import LearnedInverseProblem, TotalVariation
        >>> pre, high = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.7)
        >>> problem = LearnedInverseProblem(
        ...     LinearDoseOperator(0.2), pre + 0.2 * (high - pre), TotalVariation(), alpha=1e-4, pre=pre)
        >>> solution = AdamSolver(max_iterations=300).solve(problem, problem.observed)
        >>> round(solution.image.mean().item(), 2), solution.status
        (0.7, ('max_iterations',))
    """

    def __init__(self, max_iterations: int = 150, step_size: float = 1e-2) -> None:
        if max_iterations < 1:
            raise ValueError(f"max_iterations: expected at least 1, got {max_iterations}")
        if not step_size > 0:
            raise ValueError(f"step_size: expected a positive number, got {step_size}")
        self.max_iterations = max_iterations
        self.step_size = step_size

    def describe(self) -> dict[str, Any]:
        """Name and settings, for the record of a result."""
        return {"name": "paper", "max_iterations": self.max_iterations, "step_size": self.step_size}

    def solve(
        self, problem: LearnedInverseProblem, initial: ImageBatch, callback: Callable[[], None] | None = None
    ) -> Solution:
        """Minimize ``problem.objective`` from ``initial`` (B, 1, *spatial), usually the observed image.

        ``callback`` is called after each step.
        """
        # Callers compute without gradients (evaluators, MONAI Label), in inference mode, or under autocast; a tensor
        # made in inference mode can never carry a gradient, so everything starts from copies made outside of it.
        device_type = problem.observed.device.type
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device_type, enabled=False),
            frozen(problem.operator),
        ):
            image = initial.detach().clone().float().requires_grad_(True)
            optimizer = torch.optim.Adam([image], lr=self.step_size)
            history, first_gradient = [], torch.empty(0)
            for step in range(self.max_iterations):
                optimizer.zero_grad()
                objective = problem.objective(image)
                objective.sum().backward()
                if step == 0:
                    first_gradient = _projected_gradient_norm(image)
                history.append(objective.detach())
                optimizer.step()
                if callback is not None:
                    callback()
            final = image.detach().clamp(0.0, 1.0).requires_grad_(True)
            objective = problem.objective(final)
            objective.sum().backward()
            history.append(objective.detach())
            gradient = _projected_gradient_norm(final)
        objectives = torch.stack(history, dim=1)
        status: tuple[Status, ...] = tuple(
            "max_iterations" if finite else "non_finite" for finite in objectives[:, -1].isfinite().tolist()
        )
        return Solution(
            image=final.detach(),
            objective=objectives,
            status=status,
            iterations=(self.max_iterations,) * len(status),
            network_evaluations=self.max_iterations + 1,
            certificate={
                "projected_gradient": gradient,
                "relative_projected_gradient": gradient / first_gradient.clamp_min(torch.finfo(gradient.dtype).tiny),
            },
        )


def _projected_gradient_norm(image: torch.Tensor) -> torch.Tensor:
    assert image.grad is not None
    point = image.detach()
    step = point - (point - image.grad).clamp(0.0, 1.0)
    return step.flatten(1).norm(dim=1)
