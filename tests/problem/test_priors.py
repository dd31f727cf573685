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
"""Priors against numpy, against finite differences of their gradient, and by the properties of a total variation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from monai_lipcar.problem import GeneralizedTotalVariation, Prior, TotalVariation, finite_differences

SPACING = (0.5, 0.5, 3.0)


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numpy_gradient(image: np.ndarray, spacing: tuple[float, ...] | None) -> np.ndarray:
    """(D, *spatial) forward differences of one image, voxel by voxel."""
    weights = np.ones(image.ndim) if spacing is None else min(spacing) / np.asarray(spacing)
    gradient = np.zeros((image.ndim, *image.shape))
    for voxel in np.ndindex(*image.shape):
        for axis in range(image.ndim):
            neighbor = list(voxel)
            neighbor[axis] += 1
            if neighbor[axis] < image.shape[axis]:
                gradient[(axis, *voxel)] = weights[axis] * (image[tuple(neighbor)] - image[voxel])
    return gradient


def numpy_total_variation(
    image: np.ndarray, isotropic: bool, spacing: tuple[float, ...] | None, epsilon: float
) -> float:
    squares = numpy_gradient(image, spacing) ** 2
    return float(np.sqrt((squares.sum(axis=0) if isotropic else squares) + epsilon).sum())


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 1e-8, 1e-2])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((5, 7), None), ((5, 7), (1.0, 0.25)), ((4, 3, 5), None), ((4, 3, 5), SPACING)]
)
def test_against_numpy(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, epsilon: float, isotropic: bool
) -> None:
    batch = random_image(3, 1, *shape)
    values = TotalVariation(isotropic, spacing, epsilon)(batch)
    expected = [numpy_total_variation(image[0].numpy(), isotropic, spacing, epsilon) for image in batch]
    assert values.shape == (3,)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)


def test_by_hand() -> None:
    # differences: (1, 2) at the first pixel, (3 down) at the second, (4 to the right) at the third
    image = torch.tensor([[0.0, 2.0], [1.0, 5.0]], dtype=torch.float64)[None, None]
    assert TotalVariation(epsilon=0.0)(image).item() == pytest.approx(np.sqrt(5.0) + 3.0 + 4.0)
    assert TotalVariation(isotropic=False, epsilon=0.0)(image).item() == pytest.approx(1.0 + 2.0 + 3.0 + 4.0)


def test_the_paper_smooths_under_the_root_and_sums() -> None:
    flat = torch.full((1, 1, 8, 4), 0.3, dtype=torch.float64)
    # sqrt(1e-8) in each of 32 pixels, twice when each axis has its own root
    assert TotalVariation()(flat).item() == pytest.approx(32 * 1e-4)
    assert TotalVariation(isotropic=False)(flat).item() == pytest.approx(64 * 1e-4)


def test_jump_of_a_volume_across_thick_slices_counts_less() -> None:
    across, along = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)
    across[..., 2:], along[:, :, 2:] = 1.0, 1.0
    prior = TotalVariation(spacing=SPACING, epsilon=0.0)
    assert prior(along).item() == pytest.approx(16.0)
    assert prior(across).item() == pytest.approx(16.0 * 0.5 / 3.0)
    doubled = TotalVariation(spacing=[2 * size for size in SPACING], epsilon=0.0)  # only ratios count
    assert doubled(across).item() == pytest.approx(prior(across).item())


def test_spacing_of_another_dimension_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"expected 2 positive numbers for an image of shape \(1, 1, 4, 4\), got \(1.0, 1.0, 3.0\)"
    ):
        TotalVariation(spacing=(1.0, 1.0, 3.0))(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize(("shape", "spacing"), [((4, 3), None), ((3, 2, 3), SPACING)])
def test_gradients_against_finite_differences(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, isotropic: bool
) -> None:
    image = random_image(2, 1, *shape).requires_grad_(True)
    guess = random_image(2, 1, *shape, seed=1)
    for prior in (
        TotalVariation(isotropic, spacing, 1e-3),
        GeneralizedTotalVariation(guess, isotropic, spacing, 1e-3),
    ):
        assert torch.autograd.gradcheck(prior, image, eps=1e-6, atol=1e-7)


@pytest.mark.parametrize(("shape", "spacing"), [((5, 4), None), ((3, 4, 5), SPACING)])
def test_the_transpose_of_the_differences_is_the_negative_divergence(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    image = random_image(1, 1, *shape).requires_grad_(True)
    field = random_image(1, len(shape), *shape, seed=1)
    differences = finite_differences(image, spacing)
    np.testing.assert_allclose(differences[0].detach().numpy(), numpy_gradient(image[0, 0].detach().numpy(), spacing))
    (transposed,) = torch.autograd.grad(differences, image, field)
    divergence = np.zeros(shape)
    for axis in range(len(shape)):
        flow = np.moveaxis(field[0, axis].numpy().copy(), axis, 0)
        flow *= 1.0 if spacing is None else min(spacing) / spacing[axis]
        flow[-1] = 0.0  # nothing flows across the border
        divergence += np.moveaxis(np.diff(flow, axis=0, prepend=0.0), 0, axis)
    np.testing.assert_allclose(transposed[0, 0].numpy(), -divergence, atol=1e-14)


def test_gradient_of_a_flat_image_is_zero_and_finite_in_float32() -> None:
    flat = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    TotalVariation()(flat).sum().backward()
    assert flat.grad is not None
    assert torch.equal(flat.grad, torch.zeros_like(flat))


images = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-2, 2, width=32),
).map(lambda array: torch.from_numpy(array)[None, None])
roots = st.booleans()


@settings(deadline=None, max_examples=50)
@given(image=images, isotropic=roots, offset=st.floats(-5, 5), factor=st.floats(-3, 3))
def test_properties_of_a_seminorm(image: Tensor, isotropic: bool, offset: float, factor: float) -> None:
    prior = TotalVariation(isotropic, epsilon=0.0)
    value = prior(image).item()
    assert value >= 0.0
    assert prior(image + offset).item() == pytest.approx(value, abs=1e-9)
    assert prior(factor * image).item() == pytest.approx(abs(factor) * value, abs=1e-9)
    other = image.flip(2).roll(1, dims=3)
    assert prior(image + other).item() <= value + prior(other).item() + 1e-9
    assert prior(image.transpose(2, 3)).item() == pytest.approx(value, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(image=images, epsilon=st.floats(0, 0.1))
def test_bounds_between_the_versions(image: Tensor, epsilon: float) -> None:
    axes, voxels = image.ndim - 2, image.numel()
    isotropic, anisotropic = (TotalVariation(root, epsilon=0.0)(image).item() for root in (True, False))
    assert isotropic <= anisotropic + 1e-9
    assert anisotropic <= np.sqrt(axes) * isotropic + 1e-9
    smoothed = TotalVariation(epsilon=epsilon)(image).item()
    assert isotropic - 1e-9 <= smoothed <= isotropic + voxels * np.sqrt(epsilon) + 1e-9


@settings(deadline=None, max_examples=25)
@given(image=images, isotropic=roots)
def test_generalized_is_the_total_variation_of_the_difference(image: Tensor, isotropic: bool) -> None:
    guess = image.flip(2).square()
    plain = TotalVariation(isotropic)
    prior = GeneralizedTotalVariation(guess, isotropic)
    assert torch.equal(prior(image), plain(image - guess))
    assert prior(guess + 0.7).item() == pytest.approx(plain(torch.zeros_like(image)).item(), rel=1e-6)
    assert torch.equal(GeneralizedTotalVariation(torch.zeros_like(image), isotropic)(image), plain(image))


def test_around_keeps_the_settings() -> None:
    guess, image = random_image(2, 1, 3, 4, 5), random_image(2, 1, 3, 4, 5, seed=1)
    prior = TotalVariation(isotropic=False, spacing=SPACING, epsilon=1e-4).around(guess)
    assert isinstance(prior, GeneralizedTotalVariation)
    expected = GeneralizedTotalVariation(guess, isotropic=False, spacing=SPACING, epsilon=1e-4)
    assert torch.equal(prior(image), expected(image))
    assert not torch.equal(prior(image), GeneralizedTotalVariation(guess)(image))


def test_a_guess_of_another_shape_is_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match=r"image of shape \(2, 1, 4, 4\), but the guess has \(1, 1, 4, 4\)"):
        GeneralizedTotalVariation(torch.zeros(1, 1, 4, 4))(torch.zeros(2, 1, 4, 4))


def test_a_prior_of_ones_own_needs_no_version_around_a_guess() -> None:
    class Energy(Prior):
        def __call__(self, image: Tensor) -> Tensor:
            return image.square().flatten(1).sum(dim=1)

    assert Energy()(torch.ones(2, 1, 3, 3)).tolist() == [9.0, 9.0]
    with pytest.raises(NotImplementedError, match="Energy has no version around a guess"):
        Energy().around(torch.zeros(2, 1, 3, 3))
