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
"""The proximal map of the total variation: by its properties, and against a slow solver written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_lipcar.problem import (
    GeneralizedTotalVariation,
    Proximal,
    TotalVariation,
    finite_differences,
    prox_tv,
    transposed_differences,
)

SPACING = (1.0, 1.5, 3.0)
VARIANTS = pytest.mark.parametrize("isotropic", [True, False])
SHAPES = pytest.mark.parametrize(
    ("shape", "spacing"), [((5, 6), None), ((5, 6), (2.0, 1.0)), ((3, 4, 3), None), ((3, 4, 3), SPACING)]
)
cases = st.tuples(
    st.lists(st.integers(1, 5), min_size=2, max_size=3).map(tuple),
    st.booleans(),
    st.floats(0.0, 2.0),
    st.sampled_from([None, (0.0, 1.0), (0.2, 0.6)]),
    st.integers(0, 1000),
)


def random_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.4 - 0.2


def slow_prox(
    image: Tensor, weight: float, isotropic: bool, spacing: Any, lower: Any = -np.inf, upper: Any = np.inf
) -> np.ndarray:
    """Projected gradient on the dual with a matrix, no acceleration, one image, until nothing changes."""
    shape = image.shape[2:]
    units = torch.eye(image.numel(), dtype=torch.float64).reshape(-1, 1, *shape)
    matrix = finite_differences(units, spacing).flatten(1).numpy().T
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


def objective(result: Tensor, image: Tensor, weight: float, isotropic: bool, spacing: Any = None) -> Tensor:
    prior = TotalVariation(isotropic, spacing, epsilon=0.0)
    return 0.5 * (result - image).square().flatten(1).sum(dim=1) + weight * prior(result)


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


def test_loosely_against_scikit_image() -> None:
    from skimage.restoration import denoise_tv_chambolle

    image = random_image(1, 1, 12, 10)
    expected = denoise_tv_chambolle(image[0, 0].numpy(), weight=0.2, eps=1e-9, max_num_iter=2000)
    result = prox_tv(image, 0.2, tolerance=1e-10, max_iterations=5000)
    np.testing.assert_allclose(result.image[0, 0].numpy(), expected, atol=5e-3)


@settings(deadline=None, max_examples=40)
@given(case=cases)
def test_gap_bounds_and_certificate(case: tuple) -> None:
    shape, isotropic, weight, bounds, seed = case
    image = random_image(1, 1, *shape, seed=seed)
    gaps = []
    best = prox_tv(image, weight, isotropic=isotropic, bounds=bounds, tolerance=1e-8, max_iterations=5000)
    minimum = objective(best.image, image, weight, isotropic) - best.gap
    for steps in (0, 3, 50):
        result = prox_tv(image, weight, isotropic=isotropic, bounds=bounds, tolerance=0.0, max_iterations=steps)
        gaps.append(result.gap.item())
        assert result.gap.item() >= 0.0
        # the gap bounds what is left to gain
        assert objective(result.image, image, weight, isotropic) - result.gap <= minimum + 1e-8 + best.gap
        if bounds is not None:
            assert bounds[0] <= result.image.min() <= result.image.max() <= bounds[1]
        norms = result.dual.norm(dim=1) if isotropic else result.dual.abs()
        assert norms.max() <= 1.0 + 1e-9
    assert best.gap.item() <= 1e-8
    assert gaps[2] <= gaps[0] + 1e-12


@settings(deadline=None, max_examples=30)
@given(case=cases)
def test_firmly_non_expansive(case: tuple) -> None:
    shape, isotropic, weight, bounds, seed = case
    images = random_image(2, 1, *shape, seed=seed)
    first, second = prox_tv(images, weight, isotropic=isotropic, bounds=bounds, tolerance=1e-9).image
    difference = first - second
    # each is within sqrt(2e-9) of the exact one
    slack = 4e-4 * (1.0 + (images[0] - images[1]).norm().item())
    assert difference.square().sum() <= (difference * (images[0] - images[1])).sum() + slack


@VARIANTS
@SHAPES
def test_moreau_identity(shape: tuple[int, ...], spacing: tuple[float, ...] | None, isotropic: bool) -> None:
    # v = prox of w TV + projection on the images w D^T p: what is removed is such an image, and the nearest to v
    image, weight = random_image(1, 1, *shape), 0.2
    result = prox_tv(image, weight, isotropic=isotropic, spacing=spacing, tolerance=1e-12)
    removed = weight * transposed_differences(result.dual, spacing)
    torch.testing.assert_close(result.image + removed, image, rtol=0, atol=1e-12)
    distance = (image - removed).norm()
    for seed in range(20):
        other = torch.randn(result.dual.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        mixed = result.dual + 0.1 * other
        mixed = mixed / (mixed.norm(dim=1, keepdim=True) if isotropic else mixed.abs()).clamp_min(1.0)
        assert (image - weight * transposed_differences(mixed, spacing)).norm() >= distance - 1e-9


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


@VARIANTS
def test_around_a_guess_by_a_shift(isotropic: bool) -> None:
    image, guess = random_image(2, 1, 8, 9), random_image(2, 1, 8, 9, seed=1).clamp(0, 1)
    prior = GeneralizedTotalVariation(guess, isotropic)
    free = prior.prox(image, 0.1, bounds=None, tolerance=1e-12)
    shifted = prox_tv(image - guess, 0.1, isotropic=isotropic, tolerance=1e-12)
    torch.testing.assert_close(free.image, guess + shifted.image, rtol=0, atol=1e-12)
    result = prior.prox(image, 0.1, tolerance=1e-12)
    assert 0.0 <= result.image.min() <= result.image.max() <= 1.0

    # a minimizer: no other image within the bounds has a smaller objective
    def value(x: Tensor) -> Tensor:
        return 0.5 * (x - image).square().flatten(1).sum(dim=1) + 0.1 * prior.exact(x)

    for other in (image.clamp(0, 1), guess, free.image.clamp(0, 1)):
        for share in (1e-3, 0.1, 1.0):
            assert (value(result.image + share * (other - result.image)) >= value(result.image) - 1e-9).all()


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
