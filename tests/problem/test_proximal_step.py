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
"""One proximal gradient step, against what is known of it without a prior and with one."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_lipcar.problem import LearnedInverseProblem, TotalVariation
from monai_lipcar.problem.proximal_step import evaluate, sum_per_sample, try_step


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def steps(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_point_has_the_values_and_the_gradient_of_the_problem() -> None:
    observed, image = random_image(2, 1, 6, 5), random_image(2, 1, 6, 5, seed=1)
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(), torch.tensor([0.1, 0.2]))
    with torch.no_grad():
        point = evaluate(problem, image)
    torch.testing.assert_close(point.gradient, 2 * image * (image.square() - observed))
    torch.testing.assert_close(point.fidelity.float(), problem.data_fidelity(image))
    torch.testing.assert_close(point.objective.float(), problem.objective(image))
    torch.testing.assert_close(point.exact, point.fidelity + problem.alpha * point.prior)
    assert not point.image.requires_grad


def test_without_a_prior_it_is_a_projected_gradient_step() -> None:
    observed, image = random_image(2, 1, 6, 5), random_image(2, 1, 6, 5, seed=1)
    problem = LearnedInverseProblem(lambda x: x, observed, TotalVariation(), 0.0)
    step = steps(0.5, 4.0)
    trial = try_step(problem, evaluate(problem, image), step, None, steps(1e-6, 1e-6), 100)
    expected = (image - step.float().reshape(-1, 1, 1, 1) * (image - observed)).clamp(0, 1)
    torch.testing.assert_close(trial.image, expected)
    squared = sum_per_sample((expected - image).square())
    torch.testing.assert_close(trial.squared, squared)
    torch.testing.assert_close(trial.decrease, -trial.slope - squared / (2 * step))


def test_the_prior_of_a_trial_is_that_of_its_image() -> None:
    observed, image = random_image(2, 1, 6, 5), random_image(2, 1, 6, 5, seed=1)
    problem = LearnedInverseProblem(torch.square, observed, TotalVariation(), torch.tensor([0.1, 0.2]))
    trial = try_step(problem, evaluate(problem, image), steps(0.5, 0.5), None, steps(1e-6, 1e-6), 100)
    anew, known = evaluate(problem, trial.image), evaluate(problem, trial.image, trial.prior)
    assert all(value.equal(vars(known)[name]) for name, value in vars(anew).items())


def test_a_longer_step_sees_more_and_no_other_way_more_than_the_gap() -> None:
    observed, image = random_image(3, 1, 12, 12), random_image(3, 1, 12, 12, seed=1)
    observed, image = observed[:1].repeat(3, 1, 1, 1), image[:1].repeat(3, 1, 1, 1)
    problem = LearnedInverseProblem(lambda x: 0.7 * x, observed, TotalVariation(), 0.02)
    point, step = evaluate(problem, image), steps(0.1, 1.0, 10.0)
    trial = try_step(problem, point, step, None, steps(1e-4, 1e-4, 1e-4), 2000)
    assert (trial.gap <= 1e-4).all()
    assert (trial.decrease > 0).all()
    assert (trial.decrease.diff() > 0).all()
    for seed in range(5):
        way = (image + 0.1 * (random_image(3, 1, 12, 12, seed=seed) - 0.5)).clamp(0, 1) - image
        rise = problem.alpha * (problem.prior.exact(image + way) - point.prior)
        other = -sum_per_sample(way * point.gradient) - sum_per_sample(way.square()) / (2 * step) - rise
        assert (other <= trial.decrease + trial.gap).all()
