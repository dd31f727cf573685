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
"""What the certificate says of a stationary point, of others, and where the objective goes to zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_lipcar.physics import LinearDoseOperator, SignalEquationOperator
from monai_lipcar.problem import LearnedInverseProblem, Prior, ProximalSolver, TotalVariation

TOLERANCE = 1e-3
OPERATORS: list[Callable[[Tensor], Tensor]] = [
    LinearDoseOperator(0.2),
    SignalEquationOperator(0.2),
    lambda inputs: 0.5 * inputs[:, 1:],
]


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def data(kind: str, operator: Callable[[Tensor], Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pre-dose and observed image, and where to start."""
    pre = 0.1 + 0.4 * random_image(1, 1, 8, 9, seed=seed)
    if kind == "zero":
        return torch.zeros_like(pre), torch.zeros_like(pre), torch.zeros_like(pre)
    if kind == "constant":
        pre = pre.mean().expand_as(pre)
        observed = pre + 0.1
        return pre, observed, observed
    high = pre + 0.4 * random_image(1, 1, 8, 9, seed=seed + 1)
    if kind == "solved":
        return pre, operator(torch.cat([pre, high], dim=1)), high
    observed = operator(torch.cat([pre, high], dim=1))
    if kind == "random":
        observed = observed + 0.05 * (random_image(1, 1, 8, 9, seed=seed + 2) - 0.5)
    return pre, observed, observed


@settings(deadline=None, max_examples=25)
@given(
    kinds=st.lists(st.sampled_from(["zero", "constant", "explained", "solved", "random"]), min_size=1, max_size=4),
    operator=st.sampled_from(OPERATORS),
    alpha=st.sampled_from([0.0, 1e-6, 1e-4, 1e-3, 2e-2]),
    guess=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_where_converged_the_model_decrease_is_within_the_tolerance(
    kinds: list[str], operator: Callable[[Tensor], Tensor], alpha: float, guess: bool, seed: int
) -> None:
    parts = [data(kind, operator, seed + 10 * row) for row, kind in enumerate(kinds)]
    pre, observed, start = (torch.cat(some) for some in zip(*parts, strict=True))
    prior: Prior = TotalVariation().around(pre) if guess else TotalVariation()
    problem = LearnedInverseProblem(operator, observed, prior, alpha, pre)
    solution = ProximalSolver(tolerance=TOLERANCE).solve(problem, start)
    decrease = solution.certificate["relative_model_decrease"]
    for kind, status, value in zip(kinds, solution.status, decrease.tolist(), strict=True):
        if status == "converged":
            assert value <= TOLERANCE * (1 + 1e-6), kind
        if kind == "zero":
            assert status == "converged"
    assert decrease.isfinite().all()


def test_an_image_without_edges() -> None:
    observed = torch.full((1, 1, 16, 16), 0.3)
    problem = LearnedInverseProblem(LinearDoseOperator(0.2), observed, TotalVariation(), 1e-3, 0.5 * observed)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.status == ("converged",)
    assert solution.certificate["relative_model_decrease"].item() <= TOLERANCE


def test_the_certificate_is_small_at_a_stationary_point_and_not_elsewhere() -> None:
    pre = 0.3 + 0.3 * random_image(2, 1, 16, 16)
    observed = pre + 0.05 * random_image(2, 1, 16, 16, seed=1)
    problem = LearnedInverseProblem(SignalEquationOperator(0.2), observed, TotalVariation(), 1e-3, pre)
    far = ProximalSolver(1).solve(problem, problem.observed)
    near = ProximalSolver(300, tolerance=1e-5, max_prox_iterations=3000).solve(problem, problem.observed)
    assert far.status == ("max_iterations", "max_iterations")
    assert near.status == ("converged", "converged")
    assert (near.certificate["relative_model_decrease"] <= 1.1e-5).all()
    assert (far.certificate["relative_model_decrease"] > 1e-3).all()
    assert (near.certificate["relative_prox_gradient_residual"] < 0.1).all()
    for name in ("prox_gradient_residual", "stationarity"):
        assert (near.certificate[name] < 0.3 * far.certificate[name]).all(), name
    assert (near.certificate["complementarity"] >= 0).all()
    assert (near.certificate["complementarity"] < 1e-4 * near.objective[:, -1]).all()
    # from the near point there is nothing left to do
    again = ProximalSolver(tolerance=1e-3).solve(problem, near.image)
    assert again.status == ("converged", "converged")
    assert max(again.iterations) <= 1
