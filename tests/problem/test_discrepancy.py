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
"""The discrepancy principle: what it wants, that the search finds it, and what it says where it cannot."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_lipcar.physics import LinearDoseOperator, SignalEquationOperator
from monai_lipcar.problem import (
    AdamSolver,
    AlphaRule,
    DiscrepancyPrinciple,
    LearnedInverseProblem,
    ProximalSolver,
    TotalVariation,
    discrepancy,
)

NOISE = 0.02


def enhancing_disks(size: int = 40, noise: float = NOISE) -> tuple[LearnedInverseProblem, Tensor]:
    """Two slices with a bright and a faint disk, low dose by the signal equation with noise; and the head."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    head = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (0.45 * size) ** 2
    disk = (rows - 0.4 * size) ** 2 + (columns - 0.6 * size) ** 2 < (0.15 * size) ** 2
    pre = torch.where(head, 0.3 + 0.1 * torch.sin(columns / 5.0), 0.0).expand(2, 1, size, size).contiguous()
    high = pre + disk * torch.tensor([0.4, 0.2])[:, None, None, None]
    operator = SignalEquationOperator(0.2)
    low = operator(torch.cat([pre, high], dim=1))
    low = low + noise * torch.randn(low.shape, generator=torch.Generator().manual_seed(0))
    problem = LearnedInverseProblem(operator, low, TotalVariation().around(pre), alpha=0.0, pre=pre)
    return problem, head.expand(2, 1, size, size)


def test_what_noise_and_operator_explain() -> None:
    assert AlphaRule(operator_error=0.03, kappa=1.0).discrepancy(0.04) == pytest.approx(0.05)
    assert AlphaRule(operator_error=0.02, kappa=0.25).discrepancy(0.0) == pytest.approx(0.01)
    assert AlphaRule(operator_error=0.03, kappa=0.0, ratio=0.2).discrepancy(0.04) == pytest.approx(0.05)


def test_alpha_in_proportion_or_to_be_searched_for() -> None:
    assert AlphaRule(operator_error=0.03, kappa=1.0).alpha(0.04) is None
    assert AlphaRule(operator_error=0.03, kappa=1.0, ratio=0.2).alpha(0.04) == pytest.approx(0.01)
    assert AlphaRule(operator_error=0.03, kappa=0.0, ratio=0.2).alpha(0.04) == pytest.approx(0.008)
    assert AlphaRule(operator_error=0.03, kappa=0.0, ratio=0.2).alpha(0.0) == 0.0


def test_alpha_falls_with_the_variance_of_little_noise() -> None:
    rule = AlphaRule(operator_error=0.03, kappa=1.0, ratio=0.2, scale=0.05)
    assert rule.alpha(0.04) == pytest.approx(0.2 * 0.05 * 0.5)  # noise and error of the operator together are 0.05
    rule = AlphaRule(operator_error=0.0, kappa=0.0, ratio=0.2, scale=0.05)
    alphas = [rule.alpha(sigma) for sigma in (0.0, 1e-4, 2e-4, 50.0, 100.0)]
    assert all(alpha is not None for alpha in alphas)
    assert alphas[0] == 0.0
    assert alphas[2] / alphas[1] == pytest.approx(4.0, rel=0.01)  # type: ignore[operator]
    assert alphas[4] / alphas[3] == pytest.approx(2.0, rel=0.01)  # type: ignore[operator]


@pytest.mark.parametrize(
    "values", [(-0.1, 1.0), (0.1, -1.0), (math.nan, 1.0), (0.1, math.inf), ("much", 1.0), (0.1, 1.0, -1.0), (True, 1.0)]
)
def test_a_rule_of_something_else(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"(operator_error|kappa|ratio): expected a number that is not negative, got"):
        AlphaRule(*values)


def test_discrepancy_over_a_mask() -> None:
    pre, low = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.3)
    low[..., 2:] = 0.4
    problem = LearnedInverseProblem(LinearDoseOperator(0.2), low, TotalVariation(), 0.0, pre)
    assert discrepancy(problem, pre, low > 0.35) == pytest.approx(0.4)
    assert discrepancy(problem, pre) == pytest.approx(math.sqrt((0.09 + 0.16) / 2))


def test_the_discrepancy_grows_with_alpha() -> None:
    problem, head = enhancing_disks()
    reached = []
    for alpha in (1e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 3e-2):
        solution = ProximalSolver(tolerance=1e-4).solve(problem.at_alpha(alpha), problem.observed)
        reached.append(discrepancy(problem, solution.image, head))
    assert reached == sorted(reached)
    assert reached[-1] > 2 * reached[0]


@pytest.mark.parametrize("first", [1e-4, None, 3e-2])
@pytest.mark.parametrize("wanted", [0.5 * NOISE, 0.8 * NOISE, 0.98 * NOISE])
def test_the_search_reaches_what_is_wanted(first: float | None, wanted: float) -> None:
    problem, head = enhancing_disks()
    principle = DiscrepancyPrinciple(first=first)
    search = principle.choose(problem, ProximalSolver(), wanted, head)
    assert search.status == "met"
    assert search.reached == pytest.approx(wanted, rel=0.0201)
    assert discrepancy(problem, search.solution.image, head) == search.reached
    assert search.solves <= principle.max_solves
    # a user who gives this alpha gets it, without the solutions that led there
    cold = ProximalSolver().solve(problem.at_alpha(search.alpha), problem.observed)
    assert discrepancy(problem, cold.image, head) == pytest.approx(wanted, rel=0.05)


def test_warm_starts_do_not_change_alpha() -> None:
    problem, head = enhancing_disks()
    solver = ProximalSolver(tolerance=1e-4)
    warm = DiscrepancyPrinciple(tolerance=0.005).choose(problem, solver, 0.9 * NOISE, head)
    cold = DiscrepancyPrinciple(tolerance=0.005, warm_start=False).choose(problem, solver, 0.9 * NOISE, head)
    assert warm.status == cold.status == "met"
    assert warm.alpha == pytest.approx(cold.alpha, rel=0.1)
    assert (warm.solution.image - cold.solution.image).square().mean().sqrt() < 0.005


def test_the_published_solver_can_be_used_as_well() -> None:
    problem, head = enhancing_disks()
    principle = DiscrepancyPrinciple(warm_start=False)
    search = principle.choose(problem, AdamSolver(max_iterations=60), 0.9 * NOISE, head)
    assert search.status == "met"
    assert search.network_evaluations == search.solves * 61


@pytest.mark.parametrize(("wanted", "limit"), [(10 * NOISE, 0.3), (0.01 * NOISE, 1e-5)])
def test_what_no_alpha_reaches(wanted: float, limit: float) -> None:
    problem, head = enhancing_disks()
    if wanted < NOISE:  # nothing but what is darker than the pre-dose image without any agent
        assert problem.pre is not None
        problem.observed = problem.pre - 0.2
    search = DiscrepancyPrinciple().choose(problem, ProximalSolver(), wanted, head)
    assert search.status == "alpha_limit"
    assert search.alpha == pytest.approx(limit)
    assert (search.reached < wanted) == (wanted > NOISE)


def test_the_best_of_a_search_that_is_cut_off() -> None:
    problem, head = enhancing_disks()
    principle = DiscrepancyPrinciple(tolerance=1e-6, max_solves=3)
    search = principle.choose(problem, ProximalSolver(), 0.9 * NOISE, head)
    assert (search.status, search.solves) == ("max_solves", 3)
    again = ProximalSolver().solve(problem.at_alpha(search.alpha), problem.observed)
    assert discrepancy(problem, again.image, head) == pytest.approx(search.reached, rel=0.05)


def test_an_operator_that_gives_nan() -> None:
    observed = torch.full((1, 1, 8, 8), 0.3)
    problem = LearnedInverseProblem(lambda image: image * math.nan, observed, TotalVariation(), 0.0)
    search = DiscrepancyPrinciple().choose(problem, ProximalSolver(), 0.01)
    assert (search.status, search.solves) == ("non_finite", 1)


def test_every_iteration_is_told() -> None:
    problem, head = enhancing_disks()
    calls: list[int] = []
    search = DiscrepancyPrinciple().choose(
        problem, AdamSolver(max_iterations=5), 0.9 * NOISE, head, lambda: calls.append(1)
    )
    assert len(calls) == 5 * search.solves


@pytest.mark.parametrize("wanted", [0.0, -1.0, math.nan, math.inf])
def test_nothing_can_be_reached(wanted: float) -> None:
    problem, head = enhancing_disks()
    with pytest.raises(ValueError, match="wanted: expected a positive number"):
        DiscrepancyPrinciple().choose(problem, ProximalSolver(), wanted, head)


@pytest.mark.parametrize(
    "options", [{"first": 1.0}, {"limits": (0.0, 1.0)}, {"tolerance": 0.0}, {"max_solves": 0}, {"first": math.nan}]
)
def test_settings_that_cannot_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected (0 < |a positive tolerance)"):
        DiscrepancyPrinciple(**options)
