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
"""The proximal map of the total variation, by fast gradient projection on its dual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat

import torch

from monai_lipcar.types import ImageBatch, PerSample

from .differences import axis_weights, squared_norm_bound, voxel_norms

__all__ = ["Bounds", "Proximal", "clamp", "prox_tv"]

Bounds = tuple["float | torch.Tensor", "float | torch.Tensor"]
"""Smallest and largest value: numbers, or one for each voxel."""

_CHECK_EVERY = 8
"""Steps between two looks at the gap: each costs about a step, and a transfer from a GPU."""


@dataclass(frozen=True)
class Proximal:
    """A proximal point and what certifies it.

    Args:
        image: (B, 1, *spatial), within the bounds.
        dual: (B, D, *spatial) in the unit ball of each voxel (isotropic) or of each component; to start the next call
            for the same images from, whatever its weight.
        gap: duality gap (B,), float64: the objective is at most this above the minimum, so the image is within
            ``sqrt(2 gap)`` of the minimizer in the l2 norm.
        iterations: steps (B,).
    """

    image: ImageBatch
    dual: torch.Tensor
    gap: PerSample
    iterations: torch.Tensor


@torch.no_grad()
def prox_tv(
    image: ImageBatch,
    weight: float | PerSample,
    *,
    isotropic: bool = True,
    spacing: Sequence[float] | None = None,
    bounds: Bounds | None = None,
    metric: torch.Tensor | None = None,
    dual: torch.Tensor | None = None,
    tolerance: float | PerSample = 1e-6,
    max_iterations: int = 1000,
) -> Proximal:
    r"""Denoise by total variation, each sample of the batch by itself.

    .. math:: \mathrm{argmin}_{l \le x \le u} \; \tfrac12 \|x - v\|_M^2 + w \sum_i \|(\nabla x)_i\|_2

    (isotropic), or with the 1-norm of each gradient (anisotropic), where :math:`\|d\|_M^2 = \sum_i m_i d_i^2`. Fast
    gradient projection: with :math:`x(p) = P_{[l,u]}(v - w M^{-1} \nabla^T p)` for a dual p of norm at most 1 in each
    voxel, the gap :math:`w\,TV(x) - w \langle p, \nabla x \rangle` is a sum of numbers that are not negative, so
    float32 resolves it. Each sample stops when its gap is at most its tolerance, and then no longer takes part.

    Args:
        image: v, (B, 1, *spatial), 2-D or 3-D.
        weight: w, not negative, one number or (B,).
        isotropic: one norm per voxel, or one per voxel and axis.
        spacing: voxel size per spatial axis, see :func:`~monai_lipcar.problem.finite_differences`.
        bounds: l and u, numbers or tensors like the image; none by default.
        metric: m, like the image, positive; 1 by default. The steps of the dual differ from voxel to voxel with it.
        dual: where to start, from a former result for the same images; zero by default.
        tolerance: on the gap (absolute), one number or (B,).
        max_iterations: cap on the steps.

    Raises:
        ValueError: shapes that do not belong together, or a negative weight.

    Source: Beck and Teboulle, IEEE TIP 2009 (constrained, FGP); restart after O'Donoghue and Candes, FoCM 2015.

    Example:
        >>> step = torch.zeros(1, 1, 4, 6); step[..., 3:] = 1.0
        >>> result = prox_tv(step, 0.3, tolerance=1e-6)  # each side moves by weight / width
        >>> [round(value, 3) for value in result.image[0, 0, 0].tolist()], bool(result.gap <= 1e-6)
        ([0.1, 0.1, 0.1, 0.9, 0.9, 0.9], True)
    """
    shape = image.shape
    if len(shape) not in (4, 5) or shape[1] != 1:
        raise ValueError(f"image: expected shape (B, 1, *spatial) with 2 or 3 spatial axes, got {tuple(shape)}")
    if metric is not None and metric.shape != shape:
        raise ValueError(f"metric of shape {tuple(metric.shape)} does not belong to an image of shape {tuple(shape)}")
    if dual is not None and dual.shape != (shape[0], len(shape) - 2, *shape[2:]):
        raise ValueError(f"dual of shape {tuple(dual.shape)} does not belong to an image of shape {tuple(shape)}")
    weights = _per_sample(weight, image, image.dtype)
    if not bool((weights >= 0).all()):
        raise ValueError(f"weight: expected numbers that are not negative, got {weight}")
    tolerances = _per_sample(tolerance, image, torch.float64).tolist()

    scales = weights.reshape(-1, *[1] * (len(shape) - 1))
    start = image.new_zeros(shape[0], len(shape) - 2, *shape[2:]) if dual is None else dual * scales
    inverse = None if metric is None else metric[:, 0].reciprocal()
    limits = _limits(bounds, image)
    state = _State(start.transpose(0, 1).contiguous(), image[:, 0].contiguous(), scales[:, 0], inverse, *limits)
    descent = _Descent(state, axis_weights(image, spacing), squared_norm_bound(image, spacing), isotropic)
    if dual is not None:
        descent.start_within()

    result, result_dual = torch.empty_like(state.image), torch.empty_like(state.dual)
    gaps, steps = torch.zeros(shape[0], dtype=torch.float64), torch.zeros(shape[0], dtype=torch.int64)
    active, taken, momentum = list(range(shape[0])), 0, [1.0] * shape[0]
    while True:
        point, values = descent.point_and_gap()
        gap, slope = values.tolist()
        # not "gap <= tolerance": a sample that is not finite is done as well
        done = [taken >= max_iterations or not gap[row] > tolerances[index] for row, index in enumerate(active)]
        left = [row for row, over in enumerate(done) if not over]
        for row, index in enumerate(active):
            if done[row]:
                result[index], result_dual[:, index] = point[row], descent.dual[:, row]
                gaps[index], steps[index] = gap[row], taken
        if not left:
            break
        # the last steps led past the maximum: forget their direction (gradient restart)
        momentum = [1.0 if slope[row] < 0 else momentum[row] for row in left]
        if len(left) < len(active):
            active = [active[row] for row in left]
            descent = descent.select(torch.tensor(left, device=image.device))
        count = min(_CHECK_EVERY, max_iterations - taken)
        momentum = descent.advance(momentum, count)
        taken += count

    result_dual = result_dual.transpose(0, 1)
    # with weight 0 every dual is right; the one that was given is as good as any
    kept = torch.zeros_like(result_dual) if dual is None else dual
    unit = torch.where(scales > 0, result_dual / scales.clamp_min(torch.finfo(image.dtype).tiny), kept)
    return Proximal(result[:, None], unit, gaps.to(image.device), steps.to(image.device))


@dataclass
class _State:
    """What the samples that take part have: dual (D, B, *spatial) of norm up to weight, the others (B, *spatial)."""

    dual: torch.Tensor
    image: torch.Tensor
    weight: torch.Tensor
    inverse: torch.Tensor | None
    lower: torch.Tensor | None
    upper: torch.Tensor | None


class _Descent:
    """Accelerated projected gradient steps on the dual, in place: each operation on a small image costs its call."""

    def __init__(self, state: _State, axes: tuple[float, ...], norm: float, isotropic: bool) -> None:
        self.state, self.axes, self.isotropic = state, axes, isotropic
        self.norm = norm
        self.step = 1.0 / norm if norm else 0.0
        self.steps = None if state.inverse is None else _voxel_steps(state.inverse, axes, isotropic)
        self.dual = state.dual
        self.former = self.dual.clone()
        self.ahead = self.dual.clone()  # where the gradient is taken
        self.gradient = torch.zeros_like(self.dual)
        self.primal = torch.empty_like(state.image)
        self.length = torch.empty_like(self.dual[0] if isotropic else self.dual)
        self.squared_weight = state.weight.square()
        self.pieces = []  # views, once: (axis weight, near and far side of each difference)
        for axis, weight in enumerate(axes):
            size = state.image.shape[axis + 1] - 1
            if size > 0:
                near, far = self.primal.narrow(axis + 1, 0, size), self.primal.narrow(axis + 1, 1, size)
                self.pieces.append((axis, weight, size, near, far, self.gradient[axis].narrow(axis + 1, 0, size)))

    def start_within(self) -> None:
        """Make the start feasible: outside of the balls, as a dual of the other norm may be, the gap is no bound."""
        self._project()
        self.former.copy_(self.dual)
        self.ahead.copy_(self.dual)

    def select(self, rows: torch.Tensor) -> _Descent:
        """The same for some of the samples."""
        old = self.state
        lower = None if old.lower is None else old.lower.index_select(0, rows)
        upper = None if old.upper is None else old.upper.index_select(0, rows)
        image, weight = old.image.index_select(0, rows), old.weight.index_select(0, rows)
        inverse = None if old.inverse is None else old.inverse.index_select(0, rows)
        state = _State(self.dual.index_select(1, rows), image, weight, inverse, lower, upper)
        other = _Descent(state, self.axes, self.norm, self.isotropic)
        other.former, other.ahead = self.former.index_select(1, rows), self.ahead.index_select(1, rows)
        return other

    def _image_of(self, dual: torch.Tensor) -> None:
        """primal = P(v - transposed differences of dual), gradient = differences of primal."""
        if self.state.inverse is None:
            self.primal.copy_(self.state.image)
        else:
            self.primal.zero_()
        for axis, weight, size, near, far, _ in self.pieces:
            flow = dual[axis].narrow(axis + 1, 0, size)
            near.add_(flow, alpha=weight)
            far.sub_(flow, alpha=weight)
        if self.state.inverse is not None:
            self.primal.mul_(self.state.inverse).add_(self.state.image)
        if self.state.lower is not None:
            torch.maximum(self.primal, self.state.lower, out=self.primal)
        if self.state.upper is not None:
            torch.minimum(self.primal, self.state.upper, out=self.primal)
        for _, weight, _, near, far, difference in self.pieces:
            torch.sub(far, near, out=difference)
            if weight != 1.0:
                difference.mul_(weight)

    def advance(self, momentum: list[float], count: int) -> list[float]:
        """Take steps; momentum is t of each sample (1: restart), returned as it is after them."""
        sequences = [
            list(accumulate(repeat(t, count + 1), lambda t, _: (1.0 + (1.0 + 4.0 * t * t) ** 0.5) / 2.0))
            for t in momentum
        ]
        factors = [[1.0 + (ts[k] - 1.0) / ts[k + 1] for ts in sequences] for k in range(count)]
        shape = (count, -1, *[1] * (self.primal.dim() - 1))
        factor = torch.tensor(factors, dtype=self.dual.dtype, device=self.dual.device).reshape(shape)
        for k in range(count):
            self._image_of(self.ahead)
            self.dual, self.former = self.former, self.dual
            if self.steps is None:
                torch.add(self.ahead, self.gradient, alpha=self.step, out=self.dual)
            else:
                torch.addcmul(self.ahead, self.gradient, self.steps, out=self.dual)
            self._project()
            # former + (1 + beta) (dual - former)
            torch.lerp(self.former, self.dual, factor[k], out=self.ahead)
        return [ts[-1] for ts in sequences]

    def _project(self) -> None:
        """Shorten each dual vector to at most the weight."""
        weight, dual = self.state.weight, self.dual
        if not self.isotropic:
            torch.minimum(dual, weight, out=dual)
            torch.maximum(dual, -weight, out=dual)
            return
        torch.mul(dual[0], dual[0], out=self.length)
        for component in dual[1:]:
            self.length.addcmul_(component, component)
        # tiny: where weight and dual are both zero
        torch.maximum(self.length, self.squared_weight, out=self.length)
        torch.rsqrt(self.length.clamp_min_(torch.finfo(dual.dtype).tiny), out=self.length).mul_(weight)
        dual.mul_(self.length)

    def point_and_gap(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Image of the dual; gap (first row) and slope of the dual objective along the last step, per sample."""
        axes = tuple(range(1, self.primal.dim()))
        self._image_of(self.dual)
        along = (self.gradient * (self.dual - self.former)).sum(dim=0).sum(dim=axes, dtype=torch.float64)
        norm = voxel_norms(self.gradient, dim=0, isotropic=self.isotropic)
        # rounding may leave a voxel's share a little below zero
        share = norm.mul_(self.state.weight).sub_((self.gradient * self.dual).sum(dim=0)).clamp_min_(0.0)
        gap = share.sum(dim=axes, dtype=torch.float64)
        return self.primal, torch.stack([gap, along])


def _voxel_steps(inverse: torch.Tensor, axes: tuple[float, ...], isotropic: bool) -> torch.Tensor:
    r"""Step of each dual, (D or 1, B, *spatial), at which the scaled dual problem has no eigenvalue above 1.

    For the differences K and each dual i, :math:`1 / \sigma_i = \sum_j |K_{ij}| m_j^{-1} \sum_k |K_{kj}|` (Pock and
    Chambolle, ICCV 2011). Components that are projected together need one step.
    """
    touching = 2.0 * sum(axes)
    curvatures = torch.zeros(len(axes), *inverse.shape, dtype=inverse.dtype, device=inverse.device)
    for axis, weight in enumerate(axes):
        size = inverse.shape[axis + 1] - 1
        if size > 0:
            pair = inverse.narrow(axis + 1, 0, size) + inverse.narrow(axis + 1, 1, size)
            curvatures[axis].narrow(axis + 1, 0, size).copy_(pair.mul_(weight * touching))
    if isotropic:
        curvatures = curvatures.amax(dim=0, keepdim=True)
    return torch.where(curvatures > 0, curvatures.reciprocal(), 0.0)


def clamp(image: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """The image within bounds, numbers or tensors."""
    lower, upper = (torch.as_tensor(limit, dtype=image.dtype, device=image.device) for limit in bounds)
    return torch.minimum(torch.maximum(image, lower), upper)


def _per_sample(value: float | torch.Tensor, image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    values = torch.as_tensor(value, dtype=dtype, device=image.device)
    if values.shape not in ((), image.shape[:1]):
        raise ValueError(f"expected a number or shape ({image.shape[0]},), got {tuple(values.shape)}")
    return values.expand(image.shape[0])


def _limits(bounds: Bounds | None, image: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if bounds is None:
        return None, None
    lower, upper = (torch.as_tensor(limit, dtype=image.dtype, device=image.device) for limit in bounds)
    return lower.expand_as(image)[:, 0].contiguous(), upper.expand_as(image)[:, 0].contiguous()
