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
"""The proximal map of the total variation: by its properties, and against other solvers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_lipcar.problem import GeneralizedTotalVariation, Proximal, TotalVariation, prox_tv

SPACING = (1.0, 1.5, 3.0)
VARIANTS = pytest.mark.parametrize("isotropic", [True, False])
SHAPES = pytest.mark.parametrize(
    ("shape", "spacing"), [((5, 6), None), ((5, 6), (2.0, 1.0)), ((3, 4, 3), None), ((3, 4, 3), SPACING)]
)


@dataclass
class Case:
    """Two images, and a proximal map: arguments of ``prox_tv``."""

    images: Tensor
    weight: float
    isotropic: bool
    spacing: tuple[float, ...] | None
    metric: Tensor | None
    bounds: tuple[float, float] | None

    def prox(self, tolerance: float = 1e-7, max_iterations: int = 5000, **options: Any) -> Proximal:
        given = {name: getattr(self, name) for name in ("isotropic", "spacing", "metric", "bounds")} | options
        return prox_tv(self.images, self.weight, tolerance=tolerance, max_iterations=max_iterations, **given)

    @property
    def mass(self) -> Tensor:
        """The metric, 1 where there is none."""
        return torch.ones_like(self.images) if self.metric is None else self.metric

    def norm(self, images: Tensor) -> Tensor:
        return (self.mass * images.square()).flatten(1).sum(dim=1).sqrt()

    def variation(self, images: Tensor) -> Tensor:
        """Total variation by a matrix of numpy."""
        values = [image.flatten().numpy() for image in images]
        matrix = difference_matrix(tuple(images.shape[2:]), self.spacing)
        order = 2 if self.isotropic else 1
        return torch.tensor([np.linalg.norm(matrix @ one, order, axis=0).sum() for one in values])

    def objective(self, results: Tensor) -> Tensor:
        return 0.5 * self.norm(results - self.images).square() + self.weight * self.variation(results)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=3))
    spacing = draw(st.none() | st.tuples(*[st.floats(0.5, 3.0)] * len(shape)))
    images = random_image(2, 1, *shape, seed=draw(st.integers(0, 1000)))
    metric = 0.2 + random_image(1, 1, *shape, seed=draw(st.integers(0, 1000))).abs().expand_as(images)
    return Case(
        images=images,
        weight=draw(st.floats(0.0, 2.0)),
        isotropic=draw(st.booleans()),
        spacing=spacing,
        metric=draw(st.sampled_from([None, metric])),
        bounds=draw(st.sampled_from([None, (0.0, 1.0), (0.2, 0.6)])),
    )


def random_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.4 - 0.2


def difference_matrix(shape: tuple[int, ...], spacing: Any = None) -> np.ndarray:
    """Forward differences of each axis, zero at its end, (D, voxels, voxels): Kronecker products."""
    factors = [1.0] * len(shape) if spacing is None else [min(spacing) / size for size in spacing]
    blocks = []
    for axis, size in enumerate(shape):
        line = np.vstack([np.diff(np.eye(size), axis=0), np.zeros((1, size))])
        before, after = np.eye(int(np.prod(shape[:axis]))), np.eye(int(np.prod(shape[axis + 1 :])))
        blocks.append(factors[axis] * np.kron(np.kron(before, line), after))
    return np.stack(blocks)


def slow_prox(
    image: Tensor, weight: float, isotropic: bool, spacing: Any, lower: Any = -np.inf, upper: Any = np.inf
) -> np.ndarray:
    """Projected gradient on the dual with a matrix, no acceleration, one image, until nothing changes."""
    shape = tuple(image.shape[2:])
    matrix = difference_matrix(shape, spacing).reshape(-1, image.numel())
    values = image.flatten().numpy()
    dual = np.zeros((len(shape), image.numel()))
    for _ in range(20_000):
        point = np.clip(values - matrix.T @ dual.ravel(), lower, upper)
        moved = dual + (matrix @ point).reshape(dual.shape) / (4 * len(shape))
        length = np.sqrt((moved**2).sum(axis=0)) if isotropic else np.abs(moved)
        moved = moved * (weight / np.maximum(length, weight))
        if np.abs(moved - dual).max() < 1e-11:
            break
        dual = moved
    return point.reshape(shape)


@VARIANTS
@SHAPES
@pytest.mark.parametrize("bounds", [None, (0.3, 0.7)])
def test_against_a_slow_solver(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, isotropic: bool, bounds: tuple[float, float] | None
) -> None:
    image = random_image(1, 1, *shape)
    result = prox_tv(image, 0.15, isotropic=isotropic, spacing=spacing, bounds=bounds, tolerance=1e-13)
    expected = slow_prox(image, 0.15, isotropic, spacing, *(bounds or ()))
    np.testing.assert_allclose(result.image[0, 0].numpy(), expected, atol=1e-5)
    assert result.gap.item() <= 1e-13


@VARIANTS
def test_bounds_of_each_voxel(isotropic: bool) -> None:
    image, lower = random_image(1, 1, 5, 6), random_image(1, 1, 5, 6, seed=1) - 0.4
    upper = lower + 0.5
    result = prox_tv(image, 0.1, isotropic=isotropic, bounds=(lower, upper), tolerance=1e-13)
    limits = lower.flatten().numpy(), upper.flatten().numpy()
    np.testing.assert_allclose(result.image[0, 0].numpy(), slow_prox(image, 0.1, isotropic, None, *limits), atol=1e-5)
    assert (result.image == lower).any()
    assert (result.image == upper).any()


@pytest.mark.parametrize("shape", [(12, 10), (6, 5, 7)])
def test_against_scikit_image(shape: tuple[int, ...]) -> None:
    from skimage.restoration import denoise_tv_chambolle

    image = random_image(1, 1, *shape)
    expected = denoise_tv_chambolle(image[0, 0].numpy(), weight=0.2, eps=1e-12, max_num_iter=5000)
    result = prox_tv(image, 0.2, tolerance=1e-12, max_iterations=5000)
    np.testing.assert_allclose(result.image[0, 0].numpy(), expected, atol=1e-3)  # which comes near only slowly


@settings(deadline=None, max_examples=25)
@given(case=cases())
def test_anisotropic_against_bounded_least_squares(case: Case) -> None:
    """Moreau: v = prox + projection on the images w D^T p, which scipy finds as a bounded least squares problem."""
    from scipy.optimize import lsq_linear

    found = case.prox(tolerance=1e-11, isotropic=False, bounds=None)
    assert (found.gap <= 1e-8).all()
    matrix = difference_matrix(tuple(case.images.shape[2:]), case.spacing).reshape(-1, case.images[0].numel())
    matrix = matrix[matrix.any(axis=1)]
    for image, mass, result, gap in zip(case.images, case.mass, found.image, found.gap.tolist(), strict=True):
        values, root = image.flatten().numpy(), mass.flatten().sqrt().numpy()
        projection = np.zeros_like(values)
        if len(matrix) and case.weight > 0:
            limit = case.weight
            projection = matrix.T @ lsq_linear(matrix.T / root[:, None], root * values, (-limit, limit), "bvls").x
        error = root * (result.flatten().numpy() - values) + projection / root
        assert np.linalg.norm(error) <= np.sqrt(2 * gap) + 1e-8


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_gap_bounds_and_certificate(case: Case) -> None:
    best = case.prox()
    minimum = case.objective(best.image) - best.gap
    assert (best.gap <= 1e-4).all()
    gaps = []
    for steps in (0, 3, 50):
        result = case.prox(tolerance=0.0, max_iterations=steps)
        gaps.append(result.gap)
        assert (result.gap >= 0.0).all()
        # the gap bounds what is left to gain
        assert (case.objective(result.image) - result.gap <= minimum + best.gap + 1e-9).all()
        if case.bounds is not None:
            assert case.bounds[0] <= result.image.min() <= result.image.max() <= case.bounds[1]
        norms = result.dual.norm(dim=1) if case.isotropic else result.dual.abs()
        assert norms.max() <= 1.0 + 1e-9
    assert (gaps[2] <= gaps[0] + 1e-12).all()


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_firmly_non_expansive(case: Case) -> None:
    result = case.prox()
    (before,), (after,) = case.images.diff(dim=0), result.image.diff(dim=0)
    inner = (case.mass[0] * before * after).sum()
    # each image is within sqrt(2 gap) of the exact one
    distance, slack = (case.mass[0] * before.square()).sum().sqrt(), (2 * result.gap).sqrt().sum()
    assert (result.gap <= 1e-4).all()
    assert (case.mass[0] * after.square()).sum() <= inner + (3 * distance + slack) * slack + 1e-12


@settings(deadline=None, max_examples=40)
@given(case=cases(), seed=st.integers(0, 1000))
def test_moreau_identity(case: Case, seed: int) -> None:
    """r = M (v - x), what is removed, is a subgradient of w TV at x: <r, z> <= w TV(z) for all z, and = at z = x."""
    result = case.prox(bounds=None)
    removed = case.mass * (case.images - result.image)

    def inner(images: Tensor) -> Tensor:
        return (removed * images).flatten(1).sum(dim=1)

    missing = case.weight * case.variation(result.image) - inner(result.image)
    torch.testing.assert_close(missing, result.gap, rtol=0, atol=1e-9)
    assert (result.gap <= 1e-4).all()
    half = (random_image(*case.images.shape, seed=seed) > 0.5).double()
    for other in (case.images, random_image(*case.images.shape, seed=seed), half, torch.ones_like(half), removed):
        for sign in (-1.0, 1.0):
            assert (inner(sign * other) <= case.weight * case.variation(other) + 1e-9).all()


@VARIANTS
def test_the_gap_goes_to_zero_in_float32(isotropic: bool) -> None:
    image = random_image(1, 1, 64, 64, dtype=torch.float32)
    gaps = [
        prox_tv(image, 0.02, isotropic=isotropic, tolerance=0.0, max_iterations=steps).gap.item()
        for steps in (0, 10, 50, 300)
    ]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] > 100 * gaps[3]
    assert gaps[3] < 1e-6 * gaps[0]
    exact = prox_tv(image.double(), 0.02, isotropic=isotropic, tolerance=1e-10)
    single = prox_tv(image, 0.02, isotropic=isotropic, tolerance=1e-5)
    assert single.image.dtype == single.dual.dtype == torch.float32
    assert single.gap.dtype == torch.float64
    assert (single.image - exact.image).square().sum() <= 2.1e-5


def test_a_batch_is_its_images_one_by_one() -> None:
    images = random_image(5, 1, 16, 17, dtype=torch.float32)
    weights = torch.tensor([0.0, 1e-3, 2e-2, 0.2, 1.0])
    tolerances = torch.tensor([1e-3, 1e-6, 1e-3, 1e-2, 1e-4], dtype=torch.float64)
    together = prox_tv(images, weights, bounds=(0.0, 1.0), tolerance=tolerances)
    assert len(set(together.iterations.tolist())) > 2  # they leave at different times
    assert (together.gap <= tolerances).all()
    for row in range(5):
        one = slice(row, row + 1)
        alone = prox_tv(images[one], weights[one], bounds=(0.0, 1.0), tolerance=tolerances[one])
        assert torch.equal(alone.image, together.image[one])
        assert torch.equal(alone.dual, together.dual[one])
        assert alone.iterations.item() == together.iterations[row].item()


def test_a_warm_start_is_given_and_returned() -> None:
    image = random_image(2, 1, 32, 32, dtype=torch.float32)
    cold = prox_tv(image, 0.1, tolerance=1e-4)
    again = prox_tv(image, 0.1, tolerance=1e-4, dual=cold.dual)
    assert again.iterations.tolist() == [0, 0]
    # of use for another weight too, and nothing is remembered that was not given
    near = prox_tv(image, 0.11, tolerance=1e-4, dual=cold.dual)
    assert (near.iterations < prox_tv(image, 0.11, tolerance=1e-4).iterations).all()
    assert torch.equal(prox_tv(image, 0.1, tolerance=1e-4).image, cold.image)


def test_a_dual_of_the_other_norm_certifies_nothing_false() -> None:
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    best = prox_tv(image, 0.1, tolerance=1e-7)
    other = prox_tv(image, 0.1, isotropic=False, tolerance=1e-7)
    again = prox_tv(image, 0.1, dual=other.dual, tolerance=1e-3)
    excess = (again.image - best.image).double().square().sum() / 2
    assert excess <= again.gap <= 1e-3  # the objective is strongly convex: at least this above the minimum


def test_inputs_are_not_changed() -> None:
    image = random_image(1, 1, 8, 8)
    dual = prox_tv(image, 0.1).dual
    copies = image.clone(), dual.clone()
    prox_tv(image, 0.2, dual=dual, bounds=(0.0, 1.0))
    assert torch.equal(image, copies[0])
    assert torch.equal(dual, copies[1])


def test_extremes() -> None:
    image = random_image(1, 1, 6, 7)
    assert torch.equal(prox_tv(image, 0.0).image, image)
    assert torch.equal(prox_tv(image, 0.0, bounds=(0.0, 1.0)).image, image.clamp(0, 1))
    flat = prox_tv(image, 100.0, tolerance=1e-10, max_iterations=20_000).image
    torch.testing.assert_close(flat, image.mean().expand_as(flat), atol=1e-4, rtol=0)
    one = torch.full((1, 1, 1, 1), 0.4)
    assert torch.equal(prox_tv(one, 0.3).image, one)


def test_an_image_that_is_not_finite_leaves_the_others_alone() -> None:
    images = random_image(3, 1, 12, 12)
    alone = prox_tv(images[2:], 0.1)
    images[1, 0, 3, 3] = float("nan")
    result = prox_tv(images, 0.1)
    assert result.gap.isfinite().tolist() == [True, False, True]
    assert torch.equal(result.image[2:], alone.image)


@settings(deadline=None, max_examples=40)
@given(case=cases(), seed=st.integers(0, 1000))
def test_around_a_guess(case: Case, seed: int) -> None:
    """The minimizer by its optimality conditions, in the image itself and not in its difference to the guess."""
    guess = random_image(*case.images.shape, seed=seed)
    prior = GeneralizedTotalVariation(guess, case.isotropic, case.spacing)
    options = {"bounds": case.bounds, "metric": case.metric, "tolerance": 1e-7, "max_iterations": 5000}
    result = prior.prox(case.images, case.weight, **options)  # type: ignore[arg-type]
    norms = result.dual.norm(dim=1) if case.isotropic else result.dual.abs()
    assert norms.max() <= 1.0 + 1e-9
    # p is a subgradient at x - guess ...
    matrix = difference_matrix(tuple(guess.shape[2:]), case.spacing)
    forces = [np.einsum("dij,di->j", matrix, dual.flatten(1).numpy()) for dual in result.dual]
    force = case.weight * torch.from_numpy(np.stack(forces)).reshape(guess.shape)
    along = (force * (result.image - guess)).flatten(1).sum(dim=1)
    missing = case.weight * case.variation(result.image - guess) - along
    torch.testing.assert_close(missing, result.gap, rtol=0, atol=1e-9)
    assert (result.gap <= 1e-4).all()
    # ... and x the best image of [l, u] for <w D^T p, x> in place of the prior
    best = case.images - force / case.mass
    best = best if case.bounds is None else best.clamp(*case.bounds)
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-9)


def test_of_the_prior() -> None:
    image, weight = random_image(2, 1, 3, 4, 3), torch.tensor([0.05, 0.3], dtype=torch.float64)
    prior = TotalVariation(isotropic=False, spacing=SPACING)
    expected = prox_tv(image, weight, isotropic=False, spacing=SPACING, bounds=(0.0, 1.0), tolerance=1e-9)
    result: Proximal = prior.prox(image, weight, tolerance=1e-9)
    assert torch.equal(result.image, expected.image)
    subgradient, complementarity = prior.witness(result.image, result.dual)
    torch.testing.assert_close(complementarity * weight, result.gap)
    # a subgradient at the image, up to that: R(z) >= R(x) + <s, z - x> - complementarity
    for seed in range(10):
        other = random_image(2, 1, 3, 4, 3, seed=seed)
        model = prior.exact(result.image) + (subgradient * (other - result.image)).flatten(1).sum(dim=1)
        assert (prior.exact(other) >= model - complementarity - 1e-9).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: prox_tv(x, -0.1), "weight: expected numbers that are not negative, got -0.1"),
        (lambda x: prox_tv(x, torch.ones(3)), r"expected a number or shape \(2,\), got \(3,\)"),
        (lambda x: prox_tv(x, 0.1, dual=torch.zeros(2, 1, 4, 4)), r"dual of shape \(2, 1, 4, 4\) does not belong"),
        (lambda x: prox_tv(x, 0.1, metric=torch.ones(1, 1, 4, 4)), r"metric of shape \(1, 1, 4, 4\) does not belong"),
        (lambda x: prox_tv(x.expand(2, 2, 4, 4), 0.1), r"expected shape \(B, 1, \*spatial\) .*got \(2, 2, 4, 4\)"),
        (lambda x: prox_tv(x[:, 0], 0.1), r"with 2 or 3 spatial axes, got \(2, 4, 4\)"),
        (lambda x: prox_tv(x, 0.1, spacing=(1.0, 1.0, 1.0)), "spacing: expected 2 positive numbers"),
    ],
)
def test_arguments_that_do_not_belong_together(call: Callable[[Tensor], Proximal], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 1, 4, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    images = random_image(3, 1, 32, 33, dtype=torch.float32)
    weights = torch.tensor([1e-2, 0.1, 0.3])
    expected = prox_tv(images, weights, bounds=(0.0, 1.0), tolerance=1e-6)
    result = prox_tv(images.cuda(), weights.cuda(), bounds=(0.0, 1.0), tolerance=1e-6)
    assert result.image.is_cuda
    assert (result.image.cpu() - expected.image).square().sum() < 1e-4
