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
"""One proximal gradient step: what the network says at a point, and what the convex model there predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from monai_lipcar.types import ImageBatch, PerSample

from .objective import LearnedInverseProblem

__all__ = ["STEPS", "Point", "Trial", "evaluate", "first_step", "free_step", "sum_per_sample", "try_step", "wide"]

STEPS = (1e-9, 1e9)
"""Where the objective says nothing about the step size, this keeps float32 from overflow."""


@dataclass
class Point:
    """An image, and what the network says about it."""

    image: ImageBatch
    gradient: ImageBatch
    """Of the data fidelity."""
    fidelity: PerSample
    prior: PerSample
    """R, exact."""
    exact: PerSample
    """Objective with R exact, which the solver works with."""
    objective: PerSample
    """The problem's, which is reported."""
    metric: torch.Tensor
    """M: about the curvature of the data fidelity in each voxel."""


@dataclass
class Trial:
    """A proximal gradient step."""

    image: ImageBatch
    prior: PerSample
    """R there, exact."""
    dual: torch.Tensor
    squared: PerSample
    """Norm of the change in the metric, squared."""
    slope: PerSample
    """Of the data fidelity along the change."""
    decrease: PerSample
    """Of the objective, that the convex model predicts."""
    gap: PerSample
    """What the decrease may fall short of the largest possible, as the proximal map is not exact."""

    @property
    def bound(self) -> PerSample:
        """At least the largest decrease of the convex model."""
        return self.decrease + self.gap


def evaluate(problem: LearnedInverseProblem, image: ImageBatch, prior: PerSample | None = None) -> Point:
    """One evaluation of the network with its gradient, at ``image`` (B, 1, *spatial); ``prior``: R there, if known."""
    with torch.enable_grad():
        image = image.detach().requires_grad_(True)
        fidelity = problem.data_fidelity(image)
        (gradient,) = torch.autograd.grad(fidelity.sum(), image)
    image, fidelity = image.detach(), fidelity.detach()
    prior = problem.prior.exact(image).double() if prior is None else prior
    return Point(
        image=image,
        gradient=gradient,
        fidelity=fidelity.double(),
        prior=prior,
        exact=fidelity + problem.alpha * prior,
        objective=fidelity + problem.alpha * problem.prior(image),
        metric=problem.curvature(image),
    )


def try_step(
    problem: LearnedInverseProblem,
    point: Point,
    step: PerSample,
    dual: torch.Tensor | None,
    gap: PerSample,
    max_iterations: int,
) -> Trial:
    r"""The proximal gradient step from ``point``; no evaluation of the network.

    With :math:`x^+ = \mathrm{prox}^M_{\tau \alpha R + [0,1]} (x - \tau M^{-1} \nabla f(x))` and :math:`d = x^+ - x`,
    the convex model of the objective predicts the decrease :math:`-\langle \nabla f(x), d \rangle - \tfrac1{2\tau}
    \|d\|_M^2 - \alpha (R(x + d) - R(x))`, which is the largest possible up to the gap.

    Args:
        problem: of the samples of ``point``.
        point: where the step starts.
        step: tau, (B,).
        dual: of a former step of these samples, to start the proximal map from.
        gap: at which the proximal map is done, in units of the objective, (B,).
        max_iterations: cap on the steps of the proximal map.
    """
    proximal = problem.prior.prox(
        point.image - wide(step, point.image) * point.gradient / point.metric,
        (problem.alpha * step).to(point.image.dtype),
        metric=point.metric,
        dual=dual,
        tolerance=gap * step,
        max_iterations=max_iterations,
    )
    change = proximal.image - point.image
    squared, slope = sum_per_sample(point.metric * change.square()), sum_per_sample(change * point.gradient)
    prior = problem.prior.exact(proximal.image).double()
    return Trial(
        image=proximal.image,
        prior=prior,
        dual=proximal.dual,
        squared=squared,
        slope=slope,
        decrease=-(slope + squared / (2.0 * step) + problem.alpha * (prior - point.prior)),
        gap=proximal.gap / step,
    )


def first_step(point: Point) -> PerSample:
    """Right for an operator that multiplies: ||r||^2 / ||J^T r||^2."""
    squared = sum_per_sample(point.gradient.square() / point.metric)
    usable = (squared > 0) & squared.isfinite() & point.fidelity.isfinite()  # an operator may overflow
    return torch.where(usable, 2.0 * point.fidelity / squared, 1.0).clamp(*STEPS)


def free_step(point: Point) -> PerSample:
    """:func:`first_step` of the voxels that can move: the others, held by a bound, may be much steeper than all."""
    image, gradient = point.image, point.gradient
    held = ((image <= 0.0) & (gradient > 0.0)) | ((image >= 1.0) & (gradient < 0.0))
    return first_step(replace(point, gradient=gradient.masked_fill(held, 0.0)))


def sum_per_sample(values: torch.Tensor) -> PerSample:
    """Sum over all but the first axis, in float64, (B,)."""
    return values.flatten(1).sum(dim=1, dtype=torch.float64)


def wide(values: PerSample, image: ImageBatch) -> torch.Tensor:
    """(B,) or a number, to multiply images with."""
    return values.to(image.dtype).reshape(-1, *[1] * (image.dim() - 1))
