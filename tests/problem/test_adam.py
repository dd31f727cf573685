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
"""The published solver: problems with a known minimizer, and Adam written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import LinearDoseOperator, linear_extrapolation
from monai_lipcar.problem import (
    AdamSolver,
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    Prior,
    Solution,
    TotalVariation,
)


class Energy(Prior):
    """Half the squared norm: a quadratic prior, for problems that normal equations solve."""

    def __call__(self, image: Tensor) -> Tensor:
        return 0.5 * image.square().flatten(1).sum(dim=1)


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(channels: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    )


def solve(problem: LearnedInverseProblem, steps: int = 600, step_size: float = 1e-2) -> Solution:
    return AdamSolver(steps, step_size).solve(problem, problem.observed)


def test_a_factor_is_divided_out() -> None:
    observed = 0.1 + 0.3 * random_image(2, 1, 6, 5)
    solution = solve(LearnedInverseProblem(lambda x: 0.5 * x, observed, TotalVariation(), alpha=0.0))
    torch.testing.assert_close(solution.image, 2 * observed, atol=1e-4, rtol=0)
    assert solution.objective[:, -1].max() < 1e-6
    assert (solution.certificate["relative_projected_gradient"] < 1e-2).all()


def test_the_linear_dose_model_without_a_prior_gives_linear_extrapolation() -> None:
    pre, high = 0.3 * random_image(2, 1, 6, 5), 0.2 + 0.6 * random_image(2, 1, 6, 5, seed=1)
    operator = LinearDoseOperator(0.5)
    low = operator(torch.cat([pre, high], dim=1))
    solution = solve(LearnedInverseProblem(operator, low, TotalVariation(), alpha=0.0, pre=pre))
    torch.testing.assert_close(solution.image, linear_extrapolation(pre, low, 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(solution.image, high, atol=1e-3, rtol=0)


def test_a_minimizer_outside_of_the_unit_interval_is_clipped_and_certified() -> None:
    # y / a = 1.6 and -0.4: the constrained minimizer is on the border, where the projected gradient is zero
    observed = torch.tensor([[[[0.8, -0.2]]]])
    solution = solve(LearnedInverseProblem(lambda x: 0.5 * x, observed, TotalVariation(), alpha=0.0))
    assert solution.image.flatten().tolist() == [1.0, 0.0]
    assert solution.objective[0, -1].item() == pytest.approx(0.5 * (0.3**2 + 0.2**2))
    assert solution.certificate["projected_gradient"].tolist() == [0.0]


def test_a_quadratic_problem_against_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    matrix = np.eye(12) + 0.05 * rng.standard_normal((12, 12))
    low, alpha = rng.uniform(0.3, 0.7, (3, 12)), np.array([0.05, 0.5, 2.0])
    kernel = torch.tensor(matrix, dtype=torch.float32)
    observed = torch.tensor(low, dtype=torch.float32).view(3, 1, 3, 4)
    problem = LearnedInverseProblem(
        lambda x: (x.flatten(1) @ kernel.T).view_as(x), observed, Energy(), torch.tensor(alpha)
    )
    solution = solve(problem, steps=1500)
    expected = np.stack(
        [
            np.linalg.solve(matrix.T @ matrix + weight * np.eye(12), matrix.T @ y)
            for weight, y in zip(alpha, low, strict=True)
        ]
    )
    assert (expected > 0).all()  # inside of the constraint, else this is not the minimizer
    assert (expected < 1).all()
    np.testing.assert_allclose(solution.image.flatten(1).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("observed", "alpha", "expected"),
    [
        ([0.2, 0.8], 0.1, [0.3, 0.7]),  # the pixels approach each other by alpha
        ([0.8, 0.2], 0.1, [0.7, 0.3]),
        ([0.4, 0.6], 0.3, [0.5, 0.5]),  # and meet when the prior is stronger than half their difference
        ([0.4, 0.6], 0.0, [0.4, 0.6]),
    ],
)
def test_total_variation_of_two_pixels(observed: list[float], alpha: float, expected: list[float]) -> None:
    signal = torch.tensor(observed).view(1, 1, 1, 2)
    solution = solve(LearnedInverseProblem(lambda x: x, signal, TotalVariation(), alpha), steps=1000, step_size=1e-3)
    assert solution.image.flatten().tolist() == pytest.approx(expected, abs=2e-3)


def test_total_variation_around_a_guess_of_two_pixels() -> None:
    # x - guess = (0.2, 0.4) before, both 0.3 after: the difference to the guess is what becomes flat
    observed, guess = torch.tensor([0.3, 0.9]).view(1, 1, 1, 2), torch.tensor([0.1, 0.5]).view(1, 1, 1, 2)
    prior = GeneralizedTotalVariation(guess)
    solution = solve(LearnedInverseProblem(lambda x: x, observed, prior, 0.5), steps=1000, step_size=1e-3)
    assert solution.image.flatten().tolist() == pytest.approx([0.4, 0.8], abs=2e-3)


def test_steps_are_those_of_adam_written_out() -> None:
    factor, observed, start = 0.6, random_image(1, 1, 4, 4).double(), random_image(1, 1, 4, 4, seed=1).double()
    alpha, epsilon, steps, step_size = 0.02, 1e-8, 25, 1e-2

    def gradient(x: np.ndarray) -> np.ndarray:
        down, right = (np.diff(x, axis=axis, append=np.take(x, [-1], axis=axis)) for axis in (0, 1))
        norm = np.sqrt(down**2 + right**2 + epsilon)
        flows = down / norm, right / norm  # zero in the last row and column, like the differences
        transposed = -sum(np.diff(flow, axis=axis, prepend=0.0) for axis, flow in enumerate(flows))
        fidelity: np.ndarray = factor * (factor * x - observed[0, 0].numpy())
        return fidelity + alpha * transposed

    x = start[0, 0].numpy().copy()
    mean, variance = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, steps + 1):
        slope = gradient(x)
        mean = 0.9 * mean + 0.1 * slope
        variance = 0.999 * variance + 0.001 * slope**2
        x -= step_size * (mean / (1 - 0.9**step)) / (np.sqrt(variance / (1 - 0.999**step)) + 1e-8)

    problem = LearnedInverseProblem(lambda image: factor * image, observed.float(), TotalVariation(), alpha)
    solution = AdamSolver(steps, step_size).solve(problem, start)
    assert np.abs(x - start[0, 0].numpy()).max() > 0.1  # it went somewhere
    np.testing.assert_allclose(solution.image[0, 0].numpy(), x.clip(0, 1), atol=2e-5)


def test_equals_torch_adam_on_the_objective() -> None:
    network, pre, observed = convolution().eval(), random_image(2, 1, 8, 8), random_image(2, 1, 8, 8, seed=1)
    problem = LearnedInverseProblem(network, observed, TotalVariation(), 6e-3, pre=pre)
    image = observed.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([image], lr=1e-2)
    history = []
    for _ in range(10):
        optimizer.zero_grad()
        total = problem.objective(image)
        history.append(total.detach())
        total.sum().backward()
        optimizer.step()
    solution = AdamSolver(10).solve(problem, observed)
    assert torch.equal(solution.image, image.detach().clamp(0, 1))
    assert torch.equal(solution.objective[:, :-1], torch.stack(history, dim=1))


def test_published_settings_and_record() -> None:
    assert AdamSolver().describe() == {"name": "paper", "max_iterations": 150, "step_size": 1e-2}
    observed = random_image(3, 1, 4, 4)
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(), 1e-3)
    solution = AdamSolver(7).solve(problem, observed)
    assert solution.status == ("max_iterations",) * 3
    assert solution.iterations == (7, 7, 7)
    assert solution.network_evaluations == 8
    assert solution.objective.shape == (3, 8)
    assert torch.equal(solution.objective[:, 0], problem.objective(observed))
    assert torch.equal(solution.objective[:, -1], problem.objective(solution.image))
    assert (solution.objective[:, -1] < solution.objective[:, 0]).all()
    assert set(solution.certificate) == {"projected_gradient", "relative_projected_gradient"}
    assert not solution.image.requires_grad
    assert not solution.objective.requires_grad
    assert 0 <= solution.image.min() <= solution.image.max() <= 1


def test_the_start_is_not_changed() -> None:
    observed = random_image(1, 1, 4, 4)
    before = observed.clone()
    AdamSolver(3).solve(LearnedInverseProblem(torch.square, observed, TotalVariation(), 0.1), observed)
    assert torch.equal(observed, before)


@pytest.mark.parametrize(("operator", "exact"), [(LinearDoseOperator(0.2), True), (convolution(), False)])
def test_a_batch_is_its_slices_one_by_one(operator: Callable[[Tensor], Tensor], exact: bool) -> None:
    pre, observed = random_image(3, 1, 16, 17), random_image(3, 1, 16, 17, seed=1)
    alpha = torch.tensor([1e-3, 6e-3, 5e-2])
    together = AdamSolver(20).solve(
        LearnedInverseProblem(operator, observed, TotalVariation(), alpha, pre=pre), observed
    )
    for index in range(3):
        one = slice(index, index + 1)
        problem = LearnedInverseProblem(operator, observed[one], TotalVariation(), alpha[one], pre=pre[one])
        alone = AdamSolver(20).solve(problem, observed[one])
        # a convolution rounds differently for another batch size; Adam makes steps of that where the image is flat
        tolerance = 0.0 if exact else 1e-2
        torch.testing.assert_close(alone.image, together.image[one], atol=tolerance, rtol=0)
        torch.testing.assert_close(alone.objective, together.objective[one], rtol=0 if exact else 1e-4, atol=0)


def test_the_dose_operator_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    operator = DoseOperator(in_channels=2, skeleton="physics").train()
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    observed = random_image(2, 1, 16, 16)
    solution = AdamSolver(2).solve(
        LearnedInverseProblem(operator, observed, TotalVariation(), 1e-3, observed), observed
    )
    assert solution.image.isfinite().all()
    assert all(module.training for module in operator.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in operator.parameters())
    assert all(torch.equal(value, operator.state_dict()[key]) for key, value in before.items())


def test_one_sample_that_is_not_finite_leaves_the_others_alone() -> None:
    observed = random_image(3, 1, 6, 6)
    good = AdamSolver(5).solve(LearnedInverseProblem(torch.square, observed[:1], TotalVariation(), 0.01), observed[:1])
    observed[1, 0, 2, 2] = float("nan")
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(), 0.01)
    solution = AdamSolver(5).solve(problem, observed)
    assert solution.status == ("max_iterations", "non_finite", "max_iterations")
    assert torch.equal(solution.image[:1], good.image)
    assert solution.image[2].isfinite().all()


def test_total_variation_without_smoothing_has_no_gradient_where_flat_and_says_so() -> None:
    observed = torch.full((1, 1, 4, 4), 0.5)
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(epsilon=0.0), 0.01)
    assert AdamSolver(2).solve(problem, observed).status == ("non_finite",)


@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_contexts_do_not_matter(context: Callable[[], torch.no_grad]) -> None:
    network = convolution()

    def run() -> Solution:
        pre, observed = random_image(2, 1, 8, 8), random_image(2, 1, 8, 8, seed=1)
        alpha = torch.tensor([1e-2, 1e-3])
        problem = LearnedInverseProblem(network, observed, TotalVariation().around(pre), alpha, pre=pre)
        return AdamSolver(5).solve(problem, observed)

    expected = run()
    with context():
        solution = run()  # everything made in the context, the tensors as well
    assert torch.equal(solution.image, expected.image)
    assert torch.equal(solution.objective, expected.objective)
    assert not solution.image.is_inference()


def test_no_iterations_are_refused() -> None:
    with pytest.raises(ValueError, match="max_iterations: expected at least 1, got 0"):
        AdamSolver(0)


@pytest.mark.parametrize("size", [0.0, -1e-2, float("nan")])
def test_steps_of_no_size_are_refused(size: float) -> None:
    with pytest.raises(ValueError, match="step_size: expected a positive number, got"):
        AdamSolver(step_size=size)
