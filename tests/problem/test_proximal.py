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
"""The proximal gradient solver: problems with a known minimizer, its certificate, and every way it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import LinearDoseOperator, SignalEquationOperator, linear_extrapolation
from monai_lipcar.problem import (
    AdamSolver,
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    Prior,
    Proximal,
    ProximalSolver,
    Solution,
    TotalVariation,
    prox_tv,
)

CERTIFICATE = {
    "relative_model_decrease",
    "prox_gradient_residual",
    "relative_prox_gradient_residual",
    "stationarity",
    "complementarity",
}


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(channels: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    )


def convolution_problem(**options: Any) -> LearnedInverseProblem:
    arguments = {"alpha": 6e-3, "pre": random_image(2, 1, 16, 16), **options}
    return LearnedInverseProblem(convolution(), random_image(2, 1, 16, 16, seed=1), TotalVariation(), **arguments)


class Backwards(torch.autograd.Function):
    """The identity, with a gradient that points the wrong way."""

    @staticmethod
    def forward(_: Any, image: Tensor) -> Tensor:
        return image.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


def test_a_factor_is_divided_out() -> None:
    observed = 0.1 + 0.3 * random_image(2, 1, 6, 5)
    problem = LearnedInverseProblem(lambda x: 0.5 * x, observed, TotalVariation(), alpha=0.0)
    solution = ProximalSolver().solve(problem, observed)
    torch.testing.assert_close(solution.image, 2 * observed, atol=1e-5, rtol=0)
    assert solution.status == ("converged", "converged")
    assert solution.network_evaluations == 2  # the first step size is the right one
    assert solution.certificate["relative_model_decrease"].max() <= 1e-3  # though the objective ends near zero


def test_a_linear_problem_against_its_normal_equations() -> None:
    torch.manual_seed(0)
    matrix = torch.eye(30) + 0.1 * torch.randn(30, 30)
    expected = 0.2 + 0.6 * random_image(3, 30)
    observed = (expected @ matrix.T).reshape(3, 1, 5, 6)
    problem = LearnedInverseProblem(
        lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape), observed, TotalVariation(), alpha=0.0
    )
    solution = ProximalSolver(100, tolerance=1e-6).solve(problem, torch.full_like(observed, 0.5))
    assert solution.status == ("converged",) * 3
    torch.testing.assert_close(solution.image.flatten(1), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("alpha", [3e-3, 6e-3, 2.4e-2])
def test_from_the_solution_of_another_alpha(alpha: float) -> None:
    """Near a solution there is little to gain, and a rough proximal map would not find it."""
    problem = convolution_problem(alpha=alpha)
    solver = ProximalSolver()
    cold = solver.solve(problem, problem.observed)
    start = solver.solve(convolution_problem(alpha=1.2e-2), problem.observed).image
    warm = solver.solve(problem, start)
    assert warm.status == ("converged", "converged")
    assert (warm.objective[:, -1] <= 1.005 * cold.objective[:, -1]).all()
    assert (warm.objective[:, -1] < warm.objective[:, 0]).all()


def test_the_linear_dose_model_without_a_prior_gives_linear_extrapolation() -> None:
    pre, low = 0.3 * random_image(2, 1, 6, 5), 0.2 + 0.2 * random_image(2, 1, 6, 5, seed=1)
    problem = LearnedInverseProblem(LinearDoseOperator(0.5), low, TotalVariation(), alpha=0.0, pre=pre)
    solution = ProximalSolver().solve(problem, low)
    torch.testing.assert_close(solution.image, linear_extrapolation(pre, low, 0.5).clamp(0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("guess", [None, random_image(2, 1, 16, 16, seed=2)])
def test_denoising_is_the_proximal_map(isotropic: bool, guess: Tensor | None) -> None:
    observed, alpha = 1.4 * random_image(2, 1, 16, 16) - 0.2, torch.tensor([0.05, 0.2])
    prior = TotalVariation(isotropic)
    prior = prior if guess is None else prior.around(guess)
    problem = LearnedInverseProblem(lambda x: x, observed, prior, alpha)
    solution = ProximalSolver(tolerance=1e-6, max_prox_iterations=5000).solve(problem, observed)
    expected = prior.prox(observed, alpha, tolerance=1e-7, max_iterations=20_000).image
    assert solution.status == ("converged", "converged")
    assert (solution.image - expected).square().flatten(1).sum(dim=1).max() < 1e-4


def test_volumes_with_thick_slices() -> None:
    observed, spacing = random_image(1, 1, 6, 7, 4), (1.0, 1.0, 4.0)
    problem = LearnedInverseProblem(lambda x: 0.8 * x, observed, TotalVariation(spacing=spacing), 0.05)
    solution = ProximalSolver(tolerance=1e-6, max_prox_iterations=5000).solve(problem, observed)
    expected = prox_tv(observed / 0.8, 0.05 / 0.64, spacing=spacing, bounds=(0.0, 1.0), tolerance=1e-8)
    torch.testing.assert_close(solution.image, expected.image, atol=1e-2, rtol=0)


@pytest.mark.parametrize("operator", [convolution(), SignalEquationOperator(0.2)])
@pytest.mark.parametrize("guess", [False, True])
def test_below_adam_with_far_fewer_evaluations(operator: nn.Module, guess: bool) -> None:
    pre = 0.3 + 0.3 * random_image(2, 1, 16, 16)
    observed = pre + 0.05 * random_image(2, 1, 16, 16, seed=1)
    prior: Prior = GeneralizedTotalVariation(pre) if guess else TotalVariation()
    problem = LearnedInverseProblem(operator, observed, prior, torch.tensor([2e-3, 1e-2]), pre=pre)
    adam, solution = AdamSolver().solve(problem, observed), ProximalSolver().solve(problem, observed)
    assert solution.status == ("converged", "converged")
    assert (solution.objective[:, -1] <= 1.01 * adam.objective[:, -1]).all()
    assert solution.network_evaluations <= 10 < 150 < adam.network_evaluations
    assert 0.0 <= solution.image.min() <= solution.image.max() <= 1.0


def test_record() -> None:
    problem, calls = convolution_problem(), []
    solution = ProximalSolver().solve(problem, problem.observed, lambda: calls.append(0))
    steps = max(solution.iterations)
    assert solution.objective.shape == (2, steps + 1)
    assert solution.network_evaluations == steps + 1 == len(calls) + 1
    with torch.no_grad():
        problem.operator.eval()  # type: ignore[attr-defined]
        torch.testing.assert_close(solution.objective[:, -1], problem.objective(solution.image), rtol=1e-5, atol=0)
        torch.testing.assert_close(solution.objective[:, 0], problem.objective(problem.observed), rtol=1e-5, atol=0)
    # the image is the best seen, as far as the smoothing of the prior lets the two objectives agree
    slack = 6e-3 * 1e-4 * 16 * 16
    assert (solution.objective[:, -1] <= solution.objective.amin(dim=1) + slack).all()
    assert set(solution.certificate) == CERTIFICATE
    assert all(value.shape == (2,) for value in solution.certificate.values())
    assert not solution.image.requires_grad
    assert ProximalSolver(5).describe() == {
        "name": "proximal",
        "max_iterations": 5,
        "tolerance": 1e-3,
        "max_prox_iterations": 100,
        "memory": 4,
        "curvature_kept": 0.8,
    }


def test_a_memory_of_one_makes_every_step_a_decrease() -> None:
    problem = convolution_problem()
    prior = TotalVariation(epsilon=0.0)
    exact = LearnedInverseProblem(problem.operator, problem.observed, prior, problem.alpha, problem.pre)
    solution = ProximalSolver(tolerance=1e-5, memory=1).solve(exact, exact.observed)
    assert (solution.objective.diff(dim=1) <= 1e-6).all()


def test_a_gradient_that_does_not_belong_to_the_values_stalls() -> None:
    observed, start = random_image(2, 1, 6, 6), random_image(2, 1, 6, 6, seed=1)
    problem = LearnedInverseProblem(Backwards.apply, observed, TotalVariation(), 1e-4)
    solution = ProximalSolver().solve(problem, start)
    assert solution.status == ("stalled", "stalled")
    assert torch.equal(solution.image, start)
    assert solution.network_evaluations < 31


def test_an_operator_that_is_not_finite() -> None:
    observed = random_image(2, 1, 6, 6)
    problem = LearnedInverseProblem(lambda x: x * float("nan"), observed, TotalVariation(), 1e-3)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.status == ("non_finite", "non_finite")
    assert solution.iterations == (0, 0)
    assert torch.equal(solution.image, observed)
    # so large that its square overflows
    problem = LearnedInverseProblem(lambda x: x * 1e25, observed, TotalVariation(), 1e-3)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.status == ("non_finite", "non_finite")
    assert torch.equal(solution.image, observed)
    # finite at the start only: the start is the best there is
    start = torch.full((1, 1, 6, 6), 0.5)
    problem = LearnedInverseProblem(
        lambda x: torch.where((x == 0.5).all(), x, x / 0.0 * 0.0), observed[:1], TotalVariation(), 1e-3
    )
    solution = ProximalSolver().solve(problem, start)
    assert solution.status == ("non_finite",)
    assert torch.equal(solution.image, start)
    assert solution.objective.isfinite().all()


def test_an_operator_that_overflows_spoils_its_sample_alone() -> None:
    observed, scale = 0.3 + 0.2 * random_image(3, 1, 6, 6), torch.tensor([0.7, 1e25, 0.4]).reshape(3, 1, 1, 1)

    def solve(rows: slice) -> Solution:
        pre = scale[rows].expand_as(observed[rows])
        problem = LearnedInverseProblem(lambda x: x[:, :1] * x[:, 1:], observed[rows], TotalVariation(), 1e-3, pre)
        return ProximalSolver().solve(problem, observed[rows])

    together = solve(slice(None))
    assert together.status == ("converged", "non_finite", "converged")
    assert torch.equal(together.image[1], observed[1])
    for index in (0, 2):
        alone = solve(slice(index, index + 1))
        assert torch.equal(alone.image[0], together.image[index])
        assert alone.iterations[0] == together.iterations[index]


def test_one_sample_that_is_not_finite_leaves_the_others_alone() -> None:
    observed = random_image(3, 1, 6, 6)
    good = ProximalSolver().solve(
        LearnedInverseProblem(torch.square, observed[:1], TotalVariation(), 0.01), observed[:1]
    )
    observed[1, 0, 2, 2] = float("nan")
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(), 0.01)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.status == ("converged", "non_finite", "converged")
    assert torch.equal(solution.image[:1], good.image)
    assert solution.image[2].isfinite().all()


@pytest.mark.parametrize("solver", [ProximalSolver(), AdamSolver(max_iterations=3)])
@pytest.mark.parametrize("member", ["pre", "low"])
def test_an_operator_on_the_dose_model_leaves_the_others_alone(solver: Any, member: str) -> None:
    images = {"pre": random_image(3, 1, 16, 16, seed=1), "low": random_image(3, 1, 16, 16)}
    images[member][1, 0, 2, 2] = float("nan")
    operator = DoseOperator(in_channels=2, skeleton="kept", dose_fraction=0.2).eval()
    problem = LearnedInverseProblem(operator, images["low"], TotalVariation(), 0.01, images["pre"])
    solution = solver.solve(problem, images["low"])
    assert solution.status[1] == "non_finite"
    assert solution.image[[0, 2]].isfinite().all()


def test_voxels_at_a_bound_do_not_hide_what_the_others_have_to_gain() -> None:
    slope = torch.full((1, 1, 16, 16), 0.1)
    slope[0, 0, 0, 0] = 100.0
    observed = torch.full_like(slope, 0.05)
    observed[0, 0, 0, 0] = 101.0  # held at 1, with a gradient far larger than all others together
    problem = LearnedInverseProblem(lambda image: slope * image, observed, TotalVariation(), 1e-6)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.status == ("converged",)
    assert float(solution.objective[0, -1]) == pytest.approx(0.5, rel=1e-3)


def test_problems_in_double_precision() -> None:
    pre, observed = random_image(2, 1, 8, 8).double(), random_image(2, 1, 8, 8, seed=1).double()
    problem = LearnedInverseProblem(LinearDoseOperator(0.2), observed, TotalVariation(), 1e-3, pre)
    solution = ProximalSolver().solve(problem, observed)
    assert solution.image.dtype == torch.float64
    assert solution.status == ("converged", "converged")


@pytest.mark.parametrize("guess", [False, True])
def test_samples_that_are_done_leave_and_do_not_change_the_others(guess: bool) -> None:
    pre, observed = random_image(4, 1, 16, 17), random_image(4, 1, 16, 17, seed=1)
    observed[0] = 0.3
    alpha = torch.tensor([1e-3, 6e-3, 5e-2, 0.5])
    sizes = []

    def operator(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return inputs[:, :1] + 0.3 * (inputs[:, 1:] - inputs[:, :1]) * (1 + inputs[:, 1:])

    def solve(rows: slice) -> Solution:
        prior: Prior = GeneralizedTotalVariation(pre[rows].sqrt()) if guess else TotalVariation()
        problem = LearnedInverseProblem(operator, observed[rows], prior, alpha[rows], pre=pre[rows])
        return ProximalSolver().solve(problem, observed[rows])

    together = solve(slice(None))
    assert sizes[0] == 4
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 4
    assert sum(sizes) == sum(steps + 1 for steps in together.iterations)
    for index in range(4):
        alone = solve(slice(index, index + 1))
        assert torch.equal(alone.image, together.image[index : index + 1])
        assert alone.iterations == together.iterations[index : index + 1]
        assert torch.equal(alone.objective[0], together.objective[index, : alone.objective.shape[1]])
        for name, value in alone.certificate.items():
            torch.testing.assert_close(value[0], together.certificate[name][index])


def test_the_dose_operator_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    operator = DoseOperator(in_channels=2, skeleton="physics").train()
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    observed = random_image(2, 1, 16, 16)
    problem = LearnedInverseProblem(operator, observed, TotalVariation(), 1e-3, 0.5 * observed)
    solution = ProximalSolver(3).solve(problem, observed)
    assert (solution.objective[:, -1] < solution.objective[:, 0]).all()
    assert all(module.training for module in operator.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in operator.parameters())
    assert all(torch.equal(value, operator.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_contexts_do_not_matter(context: Callable[[], torch.no_grad]) -> None:
    network = convolution()

    def run() -> Solution:
        pre, observed = random_image(2, 1, 8, 8), random_image(2, 1, 8, 8, seed=1)
        problem = LearnedInverseProblem(
            network, observed, TotalVariation().around(pre), torch.tensor([1e-2, 1e-3]), pre=pre
        )
        return ProximalSolver(10).solve(problem, observed)

    expected = run()
    with context():
        solution = run()  # everything made in the context, the tensors as well
    assert torch.equal(solution.image, expected.image)
    assert torch.equal(solution.objective, expected.objective)
    assert not solution.image.is_inference()


def test_the_start_is_not_changed() -> None:
    observed = random_image(1, 1, 4, 4) + 0.5
    before = observed.clone()
    ProximalSolver(3).solve(LearnedInverseProblem(torch.square, observed, TotalVariation(), 0.1), observed)
    assert torch.equal(observed, before)


class Energy(Prior):
    """Half the squared norm, whose proximal map is a division."""

    def __call__(self, image: Tensor) -> Tensor:
        return 0.5 * image.square().flatten(1).sum(dim=1)


class EnergyWithProx(Energy):
    def prox(self, image: Tensor, weight: Any, **_: Any) -> Proximal:
        point = (image / (1 + torch.as_tensor(weight).reshape(-1, 1, 1, 1))).clamp(0, 1)
        return Proximal(point, point, torch.zeros(len(image), dtype=torch.float64), torch.ones(len(image)))

    def witness(self, image: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
        return dual, 0.5 * (image - dual).square().flatten(1).sum(dim=1)  # R + R* - <s, x>


def test_a_prior_of_ones_own() -> None:
    observed = random_image(2, 1, 5, 5)
    solution = ProximalSolver(tolerance=1e-8).solve(
        LearnedInverseProblem(lambda x: 0.5 * x, observed, EnergyWithProx(), 0.75), observed
    )
    torch.testing.assert_close(solution.image, 0.5 * observed, atol=1e-4, rtol=0)  # a y / (a^2 + alpha)
    assert solution.certificate["stationarity"].max() < 1e-3
    with pytest.raises(NotImplementedError, match="Energy has no prox, which ProximalSolver needs; use AdamSolver"):
        ProximalSolver().solve(LearnedInverseProblem(lambda x: x, observed, Energy(), 0.1), observed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iterations": 0}, "max_iterations: expected at least 1, got 0"),
        ({"tolerance": -1.0}, "tolerance: expected a number that is not negative, got -1.0"),
        ({"tolerance": float("nan")}, "tolerance: expected a number that is not negative, got nan"),
        ({"memory": 0}, "max_prox_iterations and memory: expected at least 1, got 100 and 0"),
        ({"curvature_kept": 1.5}, "curvature_kept: expected a number between 0 and 1, got 1.5"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProximalSolver(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    pre, observed = random_image(2, 1, 16, 16), random_image(2, 1, 16, 16, seed=1)
    results = []
    for device in ("cpu", "cuda"):
        y, x = observed.to(device), pre.to(device)
        problem = LearnedInverseProblem(LinearDoseOperator(0.3), y, TotalVariation().around(x), 1e-2, x)
        results.append(ProximalSolver().solve(problem, y))
    assert results[1].image.is_cuda
    torch.testing.assert_close(results[1].objective[:, -1].cpu(), results[0].objective[:, -1], rtol=2e-3, atol=0)
