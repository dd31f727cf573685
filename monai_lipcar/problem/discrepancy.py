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
"""The weight of the prior by the discrepancy principle: leave as residual what noise and operator explain, no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from monai_lipcar.types import ImageBatch

from .objective import LearnedInverseProblem, frozen
from .solution import Solution

__all__ = ["AlphaRule", "AlphaSearch", "DiscrepancyPrinciple", "discrepancy"]

SearchStatus = Literal["met", "alpha_limit", "max_solves", "non_finite"]
_SMALLEST = 1e-12
_SLOPE = 0.25
"""Of the logarithm of the discrepancy over that of alpha, before two points tell: flat, for steps that bracket."""
_LONGEST_STEP = math.log(30.0)
"""In the logarithm of alpha; the discrepancy hardly changes at both of its ends, where a secant would run away."""
_INSIDE = 0.1
"""Share of a bracket that a step keeps from its ends, so that the bracket shrinks."""


class _Solver(Protocol):
    def solve(
        self, problem: LearnedInverseProblem, initial: torch.Tensor, callback: Callable[[], None] | None = None
    ) -> Solution: ...


@dataclass(frozen=True)
class AlphaRule:
    r"""How alpha follows from the noise, for one operator and prior.

    Noise of level sigma and the error of the operator are, together,

    .. math:: w = \sqrt{\sigma^2 + \kappa \rho^2}.

    With a ratio r and a scale s,

    .. math:: \alpha = r \, \frac{w^2}{w + s}.

    Without a scale that is r w: the weight that removes noise from an image is proportional to the noise. It removes as
    much of what should stay, however little noise there is. The weight that loses least of an image whose differences
    from voxel to voxel have a deviation d is proportional to the variance of the noise over d (Chang et al., 2000), as
    long as the noise is the smaller of the two: the scale leads from the one to the other.

    Without a ratio, alpha is what leaves w as residual (:class:`DiscrepancyPrinciple`). Which loses less is measured
    for each operator: where the operator passes on a fifth of a change, the residual hardly grows while the solution
    is smoothed away, so that a small error of w is a large one of alpha.

    Args:
        operator_error: rho, the root mean square of :math:`\Psi(x_H) - x_L` over the head on studies without noise.
        kappa: how much of it counts.
        ratio: alpha over w, where w is large against the scale; None for the discrepancy principle.
        scale: s, in the unit of w.

    Raises:
        ValueError: a number that is negative or not finite.

    References:
        S. G. Chang, B. Yu, M. Vetterli, "Adaptive wavelet thresholding for image denoising and compression", IEEE
        Trans. Image Process. 9(9), 2000.

    Example:
        >>> rule = AlphaRule(operator_error=0.004, kappa=0.0, ratio=0.25)
        >>> rule.alpha(sigma=0.003), round(rule.discrepancy(sigma=0.003), 6)
        (0.00075, 0.005)
        >>> rule = AlphaRule(operator_error=0.0, kappa=0.0, ratio=0.4, scale=0.02)
        >>> [round(rule.alpha(sigma) / sigma, 3) for sigma in (0.005, 0.02, 0.06)]
        [0.08, 0.2, 0.3]
    """

    operator_error: float
    kappa: float
    ratio: float | None = None
    scale: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "ratio" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a number that is not negative, got {value!r}")

    def alpha(self, sigma: float) -> float | None:
        """The weight for this noise level; None where it has to be searched for."""
        if self.ratio is None:
            return None
        noise = math.hypot(sigma, math.sqrt(self.kappa) * self.operator_error)
        return self.ratio * noise * (noise / (noise + self.scale)) if noise else 0.0

    def discrepancy(self, sigma: float) -> float:
        """The residual that noise and operator explain: w; with a ratio, which kappa belongs to, w for a kappa of 1."""
        kappa = self.kappa if self.ratio is None else 1.0
        return math.hypot(sigma, math.sqrt(kappa) * self.operator_error)


@dataclass(frozen=True)
class AlphaSearch:
    """An alpha, and how it was found.

    Args:
        alpha: the weight of the prior.
        wanted: discrepancy to be reached.
        reached: discrepancy of the solution with ``alpha``.
        solves: how many solutions were computed.
        network_evaluations: in all of them.
        status: ``"met"`` when the two differ by the tolerance at most; ``"alpha_limit"`` when no alpha of the allowed
            range reaches it; ``"max_solves"`` when the search ended before; ``"non_finite"`` when the residual is not
            finite.
        solution: with ``alpha``.
    """

    alpha: float
    wanted: float
    reached: float
    solves: int
    network_evaluations: int
    status: SearchStatus
    solution: Solution


def discrepancy(problem: LearnedInverseProblem, image: ImageBatch, mask: torch.Tensor | None = None) -> float:
    r"""Root mean square of the residual :math:`\Psi(x) - y` over a mask, of all samples together.

    Args:
        problem: gives operator and observed image.
        image: x, (B, 1, *spatial).
        mask: boolean, (B, 1, *spatial); everywhere by default.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> from monai_lipcar.problem import TotalVariation
        >>> low, zero = torch.full((1, 1, 8, 8), 0.3), torch.zeros(1, 1, 8, 8)
        >>> problem = LearnedInverseProblem(LinearDoseOperator(0.2), low, TotalVariation(), alpha=1e-3, pre=zero)
        >>> round(discrepancy(problem, zero), 3)
        0.3
    """
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False), frozen(problem.operator):
        residual = problem.residual(image)
    chosen = residual.flatten() if mask is None else residual[mask]
    return float(chosen.double().square().mean().sqrt())


@dataclass(frozen=True)
class DiscrepancyPrinciple:
    r"""Choose alpha such that the residual is as large as noise and the error of the operator make it.

    .. math:: \mathrm{RMS}(\Psi(x_\alpha) - y) = w

    The larger alpha, the larger the residual of the solution, so a secant in the logarithms of both finds it, kept in
    the bracket of what was seen. Every solve starts from the solution before, unless ``warm_start`` is False.

    Args:
        first: alpha to begin with; by default a fifth of the wanted discrepancy, which is near where the operator
            passes a fifth of a change on.
        limits: smallest and largest alpha to try. Where the operator cannot explain the data to the wanted
            discrepancy, no alpha reaches it, and ever smaller ones would only fit the noise.
        tolerance: of the discrepancy, relative.
        max_solves: cap on the solves.
        warm_start: start from the solution before; not for a solver whose result depends on where it starts, because
            it takes a fixed number of steps.

    Raises:
        ValueError: a first alpha outside of the limits, or a setting that is not positive.

    Source: V. A. Morozov's principle; for nonlinear operators and convex penalties S. Anzengruber and R. Ramlau,
    Inverse Problems 26, 2010.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> from monai_lipcar.problem import ProximalSolver, TotalVariation
        >>> generator = torch.Generator().manual_seed(0)
        >>> pre, high = torch.full((1, 1, 32, 32), 0.2), torch.full((1, 1, 32, 32), 0.7)
        >>> low = pre + 0.2 * (high - pre) + 0.02 * torch.randn(1, 1, 32, 32, generator=generator)
        >>> problem = LearnedInverseProblem(LinearDoseOperator(0.2), low, TotalVariation(), alpha=0.0, pre=pre)
        >>> search = DiscrepancyPrinciple().choose(problem, ProximalSolver(), wanted=0.02)
        >>> search.status, 0.0194 <= search.reached <= 0.0206
        ('met', True)
    """

    first: float | None = None
    limits: tuple[float, float] = (1e-5, 0.3)
    tolerance: float = 0.02
    max_solves: int = 8
    warm_start: bool = True

    def __post_init__(self) -> None:
        smallest, largest = self.limits
        if not 0 < smallest <= (smallest if self.first is None else self.first) <= largest:
            raise ValueError(f"expected 0 < {smallest} <= first <= {largest}, got first={self.first}")
        if not self.tolerance > 0 or self.max_solves < 1:
            raise ValueError(
                f"expected a positive tolerance and at least 1 solve, got {self.tolerance} and {self.max_solves}"
            )

    def choose(
        self,
        problem: LearnedInverseProblem,
        solver: _Solver,
        wanted: float,
        mask: torch.Tensor | None = None,
        callback: Callable[[], None] | None = None,
    ) -> AlphaSearch:
        """Find the alpha for which the solutions of ``problem`` leave the wanted discrepancy.

        Args:
            problem: representative samples; one alpha is chosen for all of them, its own does not matter.
            solver: solves the problem with any alpha, from any image.
            wanted: discrepancy, see :func:`discrepancy`.
            mask: where it counts, (B, 1, *spatial).
            callback: called after each iteration of the solver.

        Raises:
            ValueError: a wanted discrepancy that is no positive number.
        """
        if not 0 < wanted < math.inf:
            raise ValueError(f"wanted: expected a positive number, got {wanted}")
        smallest, largest = (math.log(limit) for limit in self.limits)
        below: tuple[float, float] | None = None
        above: tuple[float, float] | None = None
        seen: list[tuple[float, float]] = []  # logarithms of alpha, and of the discrepancy over the wanted one
        best: tuple[float, float, float, Solution] | None = None
        first = math.log(0.2 * wanted if self.first is None else self.first)
        position, image, evaluations = min(max(first, smallest), largest), problem.observed, 0
        while True:
            alpha = math.exp(position)
            solution = solver.solve(problem.at_alpha(alpha), image, callback)
            image = solution.image if self.warm_start else image
            evaluations += solution.network_evaluations
            reached = discrepancy(problem, solution.image, mask)
            miss = math.log(max(reached, _SMALLEST) / wanted)
            seen.append((position, miss))
            if best is None or abs(miss) < best[0]:
                best = (abs(miss), alpha, reached, solution)
            status: SearchStatus | None = None
            if not math.isfinite(reached):
                status = "non_finite"
            elif abs(miss) <= math.log1p(self.tolerance):
                status = "met"
            elif position == (largest if miss < 0 else smallest):
                status = "alpha_limit"
            elif len(seen) == self.max_solves:
                status = "max_solves"
            if status is not None:
                if status == "max_solves":
                    _, alpha, reached, solution = best
                return AlphaSearch(alpha, wanted, reached, len(seen), evaluations, status, solution)
            if miss < 0:
                below = seen[-1]
            else:
                above = seen[-1]
            position = min(max(_next_position(seen, below, above), smallest), largest)


def _next_position(
    seen: list[tuple[float, float]], below: tuple[float, float] | None, above: tuple[float, float] | None
) -> float:
    """Logarithm of the next alpha, from the logarithms of alphas and of discrepancies over the wanted one."""
    position, miss = seen[-1]
    slope = _SLOPE
    if len(seen) > 1:
        before, miss_before = seen[-2]
        slope = (miss - miss_before) / (position - before)
    secant = position - miss / slope if slope > 0 else None
    if below is not None and above is not None:
        left, right = sorted((below[0], above[0]))
        margin = _INSIDE * (right - left)
        if secant is None or not left + margin <= secant <= right - margin:
            return 0.5 * (left + right)
        return secant
    step = _LONGEST_STEP if secant is None else min(abs(secant - position), _LONGEST_STEP)
    return position - math.copysign(step, miss)
