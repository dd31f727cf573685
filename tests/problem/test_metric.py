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
"""The metric of the proximal steps: what an operator says about its curvature, and what the solver makes of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import LinearDoseOperator, SignalEquationOperator, voxel_slope
from monai_lipcar.problem import (
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    ProximalSolver,
    TotalVariation,
    prox_tv,
    transposed_differences,
)

VARIANTS = pytest.mark.parametrize("isotropic", [True, False])


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@VARIANTS
@pytest.mark.parametrize(("shape", "spacing"), [((9, 12), None), ((9, 12), (2.0, 1.0)), ((4, 5, 6), (1.0, 1.5, 3.0))])
@pytest.mark.parametrize("bounds", [None, (0.3, 0.7)])
def test_duality_by_its_definition(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, bounds: tuple[float, float] | None, isotropic: bool
) -> None:
    """The dual gives a lower bound of the minimum, written out here without the gap that the solver computes."""
    image, weight = rand(2, 1, *shape), torch.tensor([0.05, 0.4], dtype=torch.float64)
    metric = 10.0 ** (3.0 * rand(2, 1, *shape, seed=1) - 2.0)  # over three decades
    options = {"isotropic": isotropic, "spacing": spacing, "bounds": bounds}
    result = prox_tv(image, weight, metric=metric, tolerance=1e-6, max_iterations=20_000, **options)  # type: ignore[arg-type]
    prior = TotalVariation(isotropic, spacing, epsilon=0.0)

    def distance(x: Tensor) -> Tensor:
        return 0.5 * (metric * (x - image).square()).flatten(1).sum(dim=1)

    primal = distance(result.image) + weight * prior(result.image)
    force = weight.reshape(-1, *[1] * (len(shape) + 1)) * transposed_differences(result.dual, spacing)
    best = image - force / metric
    best = best if bounds is None else best.clamp(*bounds)
    dual = distance(best) + (force * best).flatten(1).sum(dim=1)
    assert (result.dual.norm(dim=1) if isotropic else result.dual.abs()).max() <= 1 + 1e-12
    assert (primal - dual <= 1.1e-6).all()
    assert (primal >= dual - 1e-12).all()
    torch.testing.assert_close(primal - dual, result.gap, atol=1e-12, rtol=1e-6)


@VARIANTS
def test_a_metric_that_is_the_same_everywhere_divides_the_weight(isotropic: bool) -> None:
    image = rand(2, 1, 12, 10)
    scaled = prox_tv(
        image, 0.4, isotropic=isotropic, metric=torch.full_like(image, 4.0), tolerance=1e-13, max_iterations=20_000
    )
    plain = prox_tv(image, 0.1, isotropic=isotropic, tolerance=1e-13, max_iterations=20_000)
    torch.testing.assert_close(scaled.image, plain.image, atol=1e-5, rtol=0)


def test_around_a_guess() -> None:
    image, guess, metric = rand(1, 1, 8, 8), rand(1, 1, 8, 8, seed=1), 0.1 + rand(1, 1, 8, 8, seed=2)
    shifted = GeneralizedTotalVariation(guess).prox(image, 0.2, metric=metric, bounds=None, tolerance=1e-10)
    plain = prox_tv(image - guess, 0.2, metric=metric, tolerance=1e-10)
    torch.testing.assert_close(shifted.image, plain.image + guess)


def test_the_metric_of_a_sample_is_its_own() -> None:
    image, metric = rand(2, 1, 8, 8), 0.1 + rand(2, 1, 8, 8, seed=2)
    both = prox_tv(image, torch.tensor([0.01, 0.5]), metric=metric, tolerance=1e-8)
    for row, weight in enumerate((0.01, 0.5)):
        alone = prox_tv(image[row : row + 1], weight, metric=metric[row : row + 1], tolerance=1e-8)
        torch.testing.assert_close(both.image[row], alone.image[0])


@pytest.mark.parametrize(
    "operator",
    [
        LinearDoseOperator(0.3),
        SignalEquationOperator(0.2),
        DoseOperator(skeleton="physics"),
        DoseOperator(skeleton="signal").eval(),
        DoseOperator(skeleton="kept").eval(),
        DoseOperator(in_channels=1, skeleton="identity").eval(),
    ],
)
def test_slope_against_finite_differences(operator: torch.nn.Module) -> None:
    """Of operators that treat every voxel by itself: those without a network, and those whose network is silent."""
    operator = operator.double().eval()
    pre, high = 0.2 + 0.2 * rand(1, 1, 16, 16), 0.3 + 0.5 * rand(1, 1, 16, 16, seed=1)
    inputs = high if getattr(operator, "in_channels", 2) == 1 else torch.cat([pre, high], dim=1)
    step = torch.zeros_like(inputs)
    step[:, -1] = 1e-7
    with torch.no_grad():
        expected = (operator(inputs + step) - operator(inputs - step)) / 2e-7
    slope = operator.slope(inputs)  # type: ignore[operator]
    away = (slope - expected).abs() > 1e-5  # where the step crosses a node of the table
    assert away.float().mean() < 0.02
    assert not slope.requires_grad


def test_without_a_skeleton_the_slope_is_one() -> None:
    inputs = rand(1, 2, 16, 16, dtype=torch.float32)
    torch.testing.assert_close(DoseOperator(skeleton="none").slope(inputs), torch.ones(1, 1, 16, 16))


def test_voxel_slope_in_inference_mode() -> None:
    image = torch.tensor([1.0, 2.0])
    with torch.no_grad():
        assert voxel_slope(lambda x: x**3, image).tolist() == [3.0, 12.0]
    assert image.grad is None


@pytest.mark.parametrize("operator", [SignalEquationOperator(0.2), DoseOperator(skeleton="kept")])
def test_slope_of_images_made_in_inference_mode(operator: SignalEquationOperator | DoseOperator) -> None:
    inputs = rand(1, 2, 16, 16, dtype=torch.float32)
    with torch.inference_mode():
        slope = operator.slope(inputs.clone())
    torch.testing.assert_close(slope, operator.slope(inputs))


def test_curvature_is_the_squared_slope_and_one_where_an_operator_says_nothing() -> None:
    pre, high = rand(1, 1, 8, 8, dtype=torch.float32), rand(1, 1, 8, 8, seed=1, dtype=torch.float32)
    operator = LinearDoseOperator(0.2)
    known = LearnedInverseProblem(operator, pre, TotalVariation(), 1e-3, pre)
    torch.testing.assert_close(known.curvature(high), torch.full_like(high, 0.04))
    unknown = LearnedInverseProblem(lambda image: operator(image), pre, TotalVariation(), 1e-3, pre)
    torch.testing.assert_close(unknown.curvature(high), torch.ones_like(high))
    deaf = LearnedInverseProblem(LinearDoseOperator(0.0), pre, TotalVariation(), 1e-3, pre)
    assert (deaf.curvature(high) > 0).all()


@pytest.mark.parametrize("guess", [False, True])
def test_far_fewer_evaluations_where_the_curvature_differs_much(guess: bool) -> None:
    """Of enhancement up to 95 % of the way to the signal's peak: the slope differs tenfold between voxels."""

    def smooth(count: int, seed: int) -> Tensor:
        return torch.nn.functional.interpolate(rand(2, 1, count, count, seed=seed).float(), size=48, mode="bilinear")

    operator = SignalEquationOperator(0.2)
    pre = 0.1 + 0.1 * smooth(6, 0)
    high = pre * (1.0 + 0.95 * (operator.response.max_ratio - 1.0) * smooth(8, 3) ** 2)
    noise = torch.randn(pre.shape, generator=torch.Generator().manual_seed(1))
    low = operator(torch.cat([pre, high], dim=1)) + 0.005 * noise
    prior = TotalVariation().around(pre) if guess else TotalVariation()
    solver = ProximalSolver(max_iterations=200)
    with_metric = solver.solve(LearnedInverseProblem(operator, low, prior, 3e-4, pre), low)
    plain = solver.solve(LearnedInverseProblem(lambda image: operator(image), low, prior, 3e-4, pre), low)
    assert with_metric.status == plain.status == ("converged",) * 2
    assert 2 * with_metric.network_evaluations < plain.network_evaluations
    assert with_metric.network_evaluations <= 12
    assert (with_metric.objective[:, -1] <= 1.002 * plain.objective[:, -1]).all()
