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
"""The proximal gradient solver: few evaluations of the network, and a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from monai_lipcar.types import ImageBatch, PerSample

from .certificate import certificate
from .objective import LearnedInverseProblem, frozen
from .proximal_step import STEPS, Point, Trial, evaluate, first_step, free_step, sum_per_sample, try_step
from .solution import Solution, Status

__all__ = ["ProximalSolver"]

_SUFFICIENT = 1e-4
"""Share of the squared step over the step size that an accepted step decreases the objective by."""
_INNER = 0.1
"""Gap of the proximal map, relative to the model decrease of the step before."""
_INNER_FLOOR = 0.3
"""The same relative to the decrease that ends the solve: less is of no use."""
_MAX_REJECTIONS = 8
_SHORTEST = 0.05
"""Of the first longer step of Barzilai and Borwein: a few uneven voxels would make the shorter ones vanish."""
_LARGEST_CHANGE = 10.0
"""Of the step size, from one step to the next."""
_NEGLIGIBLE = 1e-6
"""Share of the first objective below which an objective counts as zero: what float32 resolves."""


class ProximalSolver:
    r"""Proximal gradient with a spectral step for each sample, until the image is stationary to a tolerance.

    For :math:`F = f + \alpha R` with :math:`f(x) = \tfrac12 \|\Psi(x) - y\|_2^2`, each iteration tries

    .. math:: x^+ = \mathrm{prox}^M_{\tau \alpha R + [0,1]} (x - \tau M^{-1} \nabla f(x)), \quad
        \mathrm{prox}^M_g(v) = \mathrm{argmin}_z \tfrac12 \|z - v\|_M^2 + g(z)

    and evaluates the network there once. The metric M is diagonal: the problem's
    :meth:`~monai_lipcar.problem.LearnedInverseProblem.curvature`, as a fifth of the dose moves the low dose little in
    weakly enhancing tissue and much where the signal saturates, and one step cannot suit both. It may change abruptly,
    as where the signal equation is no longer followed, in noisy air among others, and such voxels would go back and
    forth between the two sides: where the curvature is less than ``curvature_kept`` times what M was at the point
    before, M is that. The step size :math:`\tau` is the shorter one of Barzilai and Borwein in that metric, but no less
    than a twentieth of the first longer one unless a trial was refused; the first, :math:`\|\Psi(x) - y\|^2 /
    \|\nabla f(x)\|_{M^{-1}}^2`, is right for an operator that multiplies, and costs nothing. A trial may be worse
    than the last point, but not worse than the worst of the last ``memory`` ones (Grippo, Lampariello and Lucidi);
    one that is goes back to the best point, with a shorter step. The image returned is the best seen. The proximal
    map is solved to a duality gap of a tenth of the last decrease, from the dual of the step before.

    The problem is not convex. What can be certified is that the image is *stationary to* a tolerance: that the convex
    model of the objective there,

    .. math:: \Delta = \max_d -\langle \nabla f(x), d \rangle - \tfrac1{2\tau} \|d\|_M^2 - \alpha (R(x + d) - R(x)),

    predicts a decrease of at most ``tolerance`` times the objective, the remaining gap of the proximal map included.
    Delta grows with :math:`\tau`, and a short step sees little of what is left where the metric does not know that
    the curvature differs much between voxels. So :math:`\tau` is at least the longest step of Barzilai and Borwein
    (the longer of the two) of the solve, at the start the first step of the voxels that no bound holds: a proximal
    map, no evaluation. Where that predicts more, it is tried; where
    the objective there is worse, the short step decides (until one gains more than the tolerance), and the last
    ``memory`` points must lie within the tolerance as well.

    Each sample of the batch has its own step, rules and end, and leaves the batch when it is done. The certificate of
    the image returned, each (B,):

    - ``relative_model_decrease``: Delta, an upper bound, over the objective (over a millionth of the first one, where
      the objective is smaller, which float32 does not tell from zero), so at most ``tolerance`` where converged;
    - ``prox_gradient_residual``: :math:`\|x^+ - x\|_M / \tau`, and relative to the start's,
      ``relative_prox_gradient_residual``;
    - the dual witness, a subgradient s of R near x: ``stationarity``, :math:`\|x - P_{[0,1]}(x - \tau M^{-1} (\nabla
      f(x) + \alpha s))\|_M / \tau`, and ``complementarity``, :math:`\alpha (R(x) + R^*(s) - \langle s, x \rangle)`.
      Both are zero exactly at stationary points.

    All this is about the objective with R exact, which differs a little from the problem's where R is smoothed for the
    gradients of others (:class:`~monai_lipcar.problem.TotalVariation`); the problem's is what is reported.

    Args:
        max_iterations: cap on the iterations, each of which evaluates the network with its gradient once; so does the
            start.
        tolerance: predicted decrease over objective at which a sample is done.
        max_prox_iterations: cap on the steps of each proximal map.
        memory: objectives that a trial is compared with; 1 makes the objective decrease in every step.
        curvature_kept: share of M that counts at the next point, in [0, 1]; 0: the curvature of each point.

    Source: Wright, Nowak and Figueiredo, IEEE TSP 2009 (SpaRSA); Bonettini et al., arXiv 1605.03791 (inexact proximal
    maps by a primal-dual gap).

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> from monai_lipcar.problem import LearnedInverseProblem, TotalVariation
        >>> pre, high = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.7)
        >>> problem = LearnedInverseProblem(
        ...     LinearDoseOperator(0.2), pre + 0.2 * (high - pre), TotalVariation(), alpha=1e-4, pre=pre)
        >>> solution = ProximalSolver().solve(problem, problem.observed)
        >>> round(solution.image.mean().item(), 2), solution.status, solution.network_evaluations < 5
        (0.7, ('converged',), True)
    """

    def __init__(
        self,
        max_iterations: int = 30,
        tolerance: float = 1e-3,
        max_prox_iterations: int = 100,
        memory: int = 4,
        curvature_kept: float = 0.8,
    ) -> None:
        if max_iterations < 1:
            raise ValueError(f"max_iterations: expected at least 1, got {max_iterations}")
        if not tolerance >= 0:
            raise ValueError(f"tolerance: expected a number that is not negative, got {tolerance}")
        if max_prox_iterations < 1 or memory < 1:
            raise ValueError(
                f"max_prox_iterations and memory: expected at least 1, got {max_prox_iterations} and {memory}"
            )
        if not 0 <= curvature_kept <= 1:
            raise ValueError(f"curvature_kept: expected a number between 0 and 1, got {curvature_kept}")
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.max_prox_iterations = max_prox_iterations
        self.memory = memory
        self.curvature_kept = curvature_kept

    def describe(self) -> dict[str, Any]:
        """Name and settings, for the record of a result."""
        settings = ("max_iterations", "tolerance", "max_prox_iterations", "memory", "curvature_kept")
        return {"name": "proximal", **{name: getattr(self, name) for name in settings}}

    def solve(
        self, problem: LearnedInverseProblem, initial: ImageBatch, callback: Callable[[], None] | None = None
    ) -> Solution:
        """Minimize ``problem.objective`` from ``initial`` (B, 1, *spatial), clipped to [0, 1].

        ``callback`` is called after each evaluation of the network but the first. One evaluation is one forward and
        backward pass of the batch (or of what is left of it).

        Raises:
            NotImplementedError: a prior without ``prox`` and ``witness``.
        """
        device_type = problem.observed.device.type
        # Callers compute without gradients, in inference mode or under autocast, see AdamSolver
        with (
            torch.inference_mode(False),
            torch.autocast(device_type, enabled=False),
            frozen(problem.operator),
            torch.no_grad(),
        ):
            start = initial.detach().to(torch.promote_types(problem.observed.dtype, torch.float32), copy=True)
            return self._solve(problem, start.clamp_(0.0, 1.0), callback)

    def _solve(
        self, problem: LearnedInverseProblem, start: ImageBatch, callback: Callable[[], None] | None
    ) -> Solution:
        size = start.shape[0]
        first = evaluate(problem, start)
        samples = _Samples(
            index=torch.arange(size, device=start.device),
            point=first,
            step=first_step(first),
            best=first,
            best_step=first_step(first),
            recent=first.exact[:, None].repeat(1, self.memory),
            dual=None,
            decrease=first.exact,
            rejections=torch.zeros(size, dtype=torch.int64, device=start.device),
            shortest=torch.zeros_like(first.exact),
            longest=free_step(first),
            lengthened=torch.zeros(size, dtype=torch.bool, device=start.device),
            uneven=torch.zeros(size, dtype=torch.bool, device=start.device),
            faulty=torch.zeros(size, dtype=torch.bool, device=start.device),
        )
        final, final_step = _select(first, samples.index), samples.step.clone()
        negligible = (_NEGLIGIBLE * first.exact).clamp_min(torch.finfo(torch.float64).tiny)
        bound = torch.full_like(first.exact, torch.inf)
        status: list[Status] = ["max_iterations"] * size
        iterations = [0] * size
        history, current, first_residual, final_dual = [first.objective], problem, first.exact, first.image
        while True:
            enough = self.tolerance * torch.maximum(samples.point.exact, negligible[samples.index])
            inner = torch.maximum(_INNER * samples.decrease, _INNER_FLOOR * enough)
            trial = self._try(current, samples.point, samples.step, samples.dual, inner)
            self._look_closer(current, samples, trial, enough)
            self._look_further(current, samples, trial, enough)
            samples.dual = trial.dual
            if len(history) == 1:
                first_residual = trial.squared.sqrt() / samples.step
                final_dual = trial.dual.clone()
            ended = self._ended(samples, trial, enough, len(history) > self.max_iterations)
            if ended:
                rows = torch.tensor(list(ended), device=start.device)
                done = samples.index[rows]
                _put(final, done, _select(samples.best, rows))
                final_step[done], final_dual[done] = samples.best_step[rows], trial.dual[rows]
                # a settled sample's trial starts at its best point, which is what it returns
                bound[done] = trial.bound.where(samples.settled(trial, enough), torch.inf)[rows]
                for row, index in zip(ended, done.tolist(), strict=True):
                    status[index], iterations[index] = ended[row], len(history) - 1
                left = torch.tensor(
                    [row for row in range(len(samples.index)) if row not in ended],
                    dtype=torch.int64,
                    device=start.device,
                )
                if not len(left):
                    break
                samples, trial, enough = _select(samples, left), _select(trial, left), enough[left]
                current = problem.select(samples.index)
            reached = evaluate(current, trial.image, trial.prior)
            samples = self._decide(samples, trial, reached, enough)
            history.append(history[-1].index_copy(0, samples.index, samples.point.objective))
            if callback is not None:
                callback()
        history[-1] = final.objective
        scale = torch.maximum(final.exact, negligible)
        last = self._try(problem, final, final_step, final_dual, _INNER_FLOOR * self.tolerance * scale)
        return Solution(
            image=final.image,
            objective=torch.stack(history, dim=1),
            status=tuple(status),
            iterations=tuple(iterations),
            network_evaluations=len(history),
            certificate=certificate(
                problem, final, last, final_step, torch.minimum(last.bound, bound) / scale, first_residual
            ),
        )

    def _try(
        self,
        problem: LearnedInverseProblem,
        point: Point,
        step: PerSample,
        dual: torch.Tensor | None,
        gap: PerSample,
    ) -> Trial:
        return try_step(problem, point, step, dual, gap, self.max_prox_iterations)

    def _look_closer(self, problem: LearnedInverseProblem, samples: _Samples, trial: Trial, enough: PerSample) -> None:
        """Where the proximal map is too rough to tell what can be gained, as near a solution, make it exact."""
        rows = ((trial.decrease < trial.gap) & (trial.gap > _INNER_FLOOR * enough)).nonzero()[:, 0]
        if not len(rows):
            return
        self._again(problem, samples, trial, enough, rows)

    def _look_further(self, problem: LearnedInverseProblem, samples: _Samples, trial: Trial, enough: PerSample) -> None:
        """Where a short step leaves little to gain, see what a longer one does, which costs no evaluation."""
        samples.lengthened = samples.settled(trial, enough) & (samples.longest > samples.step) & ~samples.uneven
        rows = samples.lengthened.nonzero()[:, 0]
        if not len(rows):
            return
        samples.step[rows] = samples.best_step[rows] = samples.longest[rows]
        self._again(problem, samples, trial, enough, rows)

    def _again(
        self, problem: LearnedInverseProblem, samples: _Samples, trial: Trial, enough: PerSample, rows: torch.Tensor
    ) -> None:
        """Replace the trials of some samples by exact ones, with their steps as they are now."""
        exact = self._try(
            problem.select(rows),
            _select(samples.point, rows),
            samples.step[rows],
            trial.dual.index_select(0, rows),
            _INNER_FLOOR * enough[rows],
        )
        _put(trial, rows, exact)

    def _ended(self, samples: _Samples, trial: Trial, enough: PerSample, last: bool) -> dict[int, Status]:
        """Rows that are done, and why."""
        finite = samples.point.exact.isfinite() & trial.decrease.isfinite()
        converged = samples.settled(trial, enough)
        stalled = samples.rejections > _MAX_REJECTIONS
        ended: dict[int, Status] = {}
        rows = torch.stack([finite, converged, stalled, samples.faulty], dim=1).tolist()
        for row, (is_finite, is_converged, is_stalled, is_faulty) in enumerate(rows):
            if not is_finite or (is_stalled and is_faulty):
                ended[row] = "non_finite"
            elif is_converged:
                ended[row] = "converged"
            elif is_stalled:
                ended[row] = "stalled"
            elif last:
                ended[row] = "max_iterations"
        return ended

    def _decide(self, samples: _Samples, trial: Trial, reached: Point, enough: PerSample) -> _Samples:
        """Accept the trials that are good enough, and choose the next step of every sample."""
        point, step = samples.point, samples.step
        faulty = ~(reached.exact.isfinite() & sum_per_sample(reached.gradient).isfinite())
        limit = samples.recent.amax(dim=1) - _SUFFICIENT * trial.squared / step
        accepted = ~faulty & (reached.exact <= limit)
        reached = replace(reached, metric=torch.maximum(reached.metric, self.curvature_kept * point.metric))

        # accepted: the shorter step of Barzilai and Borwein, where the curvature along the change is positive. The
        # longer one is rejected often where the curvature differs much between voxels (the signal equation)
        moved = samples.shortest > 0  # a step was accepted before
        bend = reached.gradient - point.gradient
        along = sum_per_sample((reached.image - point.image) * bend)
        spectral = torch.where(along > 0, along / sum_per_sample(bend.square() / point.metric), _LARGEST_CHANGE * step)
        longer = torch.where(along > 0, trial.squared / along, _LARGEST_CHANGE * step)
        longest = torch.where(moved, samples.longest.maximum(longer), longer)
        shortest = torch.where(moved, samples.shortest, _SHORTEST * longer)
        onward = spectral.clamp(step / _LARGEST_CHANGE, step * _LARGEST_CHANGE).maximum(shortest)
        # rejected: what the curvature of the fidelity between the two points asks for
        curvature = 2.0 * (reached.fidelity - point.fidelity - trial.slope)
        shorter = (trial.squared / curvature).nan_to_num(0.0).clamp(0.1 * step, 0.5 * step)
        at_best = point.exact <= samples.best.exact
        back = torch.where(at_best, shorter, 0.5 * samples.best_step)

        better = accepted & (reached.exact <= samples.best.exact)
        elsewhere = better & (samples.best.exact - reached.exact > enough)  # than where longer steps gained nothing
        best = _where(better, reached, samples.best)
        recent = torch.cat([samples.recent[:, 1:], reached.exact[:, None]], dim=1)
        monotone = samples.best.exact[:, None].expand_as(recent)
        return _Samples(
            index=samples.index,
            point=_where(accepted, reached, samples.best),
            step=torch.where(accepted, onward, back).clamp(*STEPS),
            best=best,
            best_step=torch.where(better, onward, torch.where(accepted, samples.best_step, back)),
            recent=torch.where(accepted[:, None], recent, torch.where(at_best[:, None], samples.recent, monotone)),
            dual=trial.dual,
            decrease=trial.decrease.clamp_min(0.0).where(accepted, samples.decrease),
            rejections=torch.where(accepted | ~at_best, 0, samples.rejections + 1),
            shortest=torch.where(accepted, shortest, samples.shortest),
            longest=torch.where(accepted, longest.clamp(*STEPS), samples.longest),
            lengthened=torch.zeros_like(faulty),
            uneven=(samples.uneven & ~elsewhere) | (samples.lengthened & ~better),
            faulty=faulty,
        )


@dataclass
class _Samples:
    """The samples that are not done yet."""

    index: torch.Tensor
    point: Point
    step: PerSample
    best: Point
    best_step: PerSample
    recent: torch.Tensor
    dual: torch.Tensor | None
    decrease: PerSample
    """That the last accepted step was predicted to make."""
    rejections: torch.Tensor
    shortest: PerSample
    """Shorter ones are only taken after a rejection; 0 before the first accepted step."""
    longest: PerSample
    """The longer step of Barzilai and Borwein; before the first accepted step that of the voxels that can move."""
    lengthened: torch.Tensor
    """Whether the trial is that of the longer step."""
    uneven: torch.Tensor
    """Whether a longer step was no better where a short one left little to gain: the curvature differs much."""
    faulty: torch.Tensor
    """Whether the last trial was not finite."""

    def settled(self, trial: Trial, enough: PerSample) -> torch.Tensor:
        """Whether the trial leaves little to gain, and nor was there where the curvature hides it."""
        at_best = (self.point.exact <= self.best.exact) & (self.rejections == 0)
        flat = self.recent.amax(dim=1) - self.best.exact <= enough
        return at_best & (trial.bound <= enough) & (~self.uneven | flat)


def _select(values: Any, rows: torch.Tensor) -> Any:
    """Some samples of everything that a dataclass holds."""
    if values is None:
        return None
    if isinstance(values, torch.Tensor):
        return values.index_select(0, rows)
    return type(values)(**{entry.name: _select(getattr(values, entry.name), rows) for entry in fields(values)})


def _where(mask: torch.Tensor, yes: Point, no: Point) -> Point:
    pairs = {entry.name: (getattr(yes, entry.name), getattr(no, entry.name)) for entry in fields(yes)}
    return Point(**{name: torch.where(mask.reshape(-1, *[1] * (a.dim() - 1)), a, b) for name, (a, b) in pairs.items()})


def _put(target: Any, rows: torch.Tensor, values: Any) -> None:
    for entry in fields(target):
        getattr(target, entry.name)[rows] = getattr(values, entry.name)
