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
"""Differences and their transpose."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_lipcar.problem import finite_differences, transposed_differences
from monai_lipcar.problem.differences import squared_norm_bound, voxel_norms

SPACINGS = st.one_of(st.none(), st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3))


@settings(deadline=None, max_examples=60)
@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=3), spacing=SPACINGS, seed=st.integers(0, 1000))
def test_transpose(shape: list[int], spacing: list[float] | None, seed: int) -> None:
    spacing = None if spacing is None else spacing[: len(shape)]
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, *shape, generator=generator, dtype=torch.float64)
    field = torch.randn(2, len(shape), *shape, generator=generator, dtype=torch.float64)
    forward = (finite_differences(image, spacing) * field).flatten(1).sum(dim=1)
    backward = (image * transposed_differences(field, spacing)).flatten(1).sum(dim=1)
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=3), spacing=SPACINGS)
def test_norm(shape: list[int], spacing: list[float] | None) -> None:
    spacing = None if spacing is None else spacing[: len(shape)]
    size = torch.Size(shape).numel()
    units = torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape)
    matrix = finite_differences(units, spacing).flatten(1)
    bound = squared_norm_bound(units, spacing)
    assert torch.linalg.matrix_norm(matrix, 2).square() <= bound + 1e-12


def test_the_bound_is_reached_by_large_images() -> None:
    units = torch.eye(144, dtype=torch.float64).reshape(144, 1, 12, 12)
    norm = torch.linalg.matrix_norm(finite_differences(units).flatten(1), 2).square()
    assert 0.95 * squared_norm_bound(units) < norm <= squared_norm_bound(units) == 8.0


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(("isotropic", "order"), [(True, 2), (False, 1)])
def test_norms_are_those_of_linear_algebra(dim: int, isotropic: bool, order: int) -> None:
    field = torch.randn(3, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.linalg.vector_norm(field, ord=order, dim=dim)
    given = field.clone()
    torch.testing.assert_close(voxel_norms(given, dim, isotropic), expected, rtol=1e-14, atol=0)
    assert given.equal(field)


@pytest.mark.parametrize("spacing", [(1.0, 0.0), (1.0, -1.0), (1.0,)])
def test_spacing_that_cannot_be(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing: expected 2 positive numbers"):
        transposed_differences(torch.zeros(1, 2, 3, 3), spacing)
