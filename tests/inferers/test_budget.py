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
"""Memory of a solve: measured, and kept within a budget."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from monai_lipcar.inferers import LIPInferer
from monai_lipcar.inferers.budget import evaluation_bytes, slices_within
from monai_lipcar.networks import DoseOperator
from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, TotalVariation


def problem(operator: nn.Module, side: int, slices: int = 1) -> LearnedInverseProblem:
    image = torch.rand(slices, 1, side, side, generator=torch.Generator().manual_seed(0))
    return LearnedInverseProblem(operator, image, TotalVariation(), 1e-3, image)


@contextmanager
def recorded_batches(operator: nn.Module) -> Iterator[list[int]]:
    sizes: list[int] = []
    hook = operator.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


def test_bytes_are_in_proportion_to_pixels_and_slices() -> None:
    operator = DoseOperator(skeleton="kept")
    small = evaluation_bytes(problem(operator, 32))
    assert evaluation_bytes(problem(operator, 64)) == pytest.approx(4 * small, rel=0.02)
    assert evaluation_bytes(problem(operator, 32, slices=3)) == pytest.approx(3 * small, rel=0.02)
    # 4 bytes for each of the 16 channels of VNet's first stage, some times
    assert small > 3 * 16 * 4 * 32 * 32


def test_weights_do_not_count() -> None:
    heavy = nn.Conv2d(2, 1, 3, padding=1)
    image = evaluation_bytes(problem(heavy, 16))
    weights = sum(parameter.numel() for parameter in heavy.parameters()) * 4
    wide = nn.Conv2d(2, 1, 31, padding=15)
    assert weights < 31 * 31 * 2 * 4
    assert evaluation_bytes(problem(wide, 16)) == image


def test_measuring_leaves_nothing_behind() -> None:
    operator = DoseOperator(skeleton="kept").train()
    with torch.inference_mode():
        given = problem(operator, 32)
        evaluation_bytes(given)
    assert operator.training
    assert all(parameter.requires_grad for parameter in operator.parameters())


def test_measuring_leaves_no_memory_behind() -> None:
    operator = DoseOperator(skeleton="kept")
    given = problem(operator, 32)
    counts = []
    for _ in range(3):
        evaluation_bytes(given)
        gc.collect()
        counts.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
    assert counts[0] == counts[1] == counts[2]


def test_at_least_one_slice_and_no_more_than_asked_for() -> None:
    given = problem(DoseOperator(skeleton="kept"), 32)
    gib = evaluation_bytes(given) / 2**30
    assert slices_within(given, 3.5 * gib, 8) == 3
    assert slices_within(given, 3.5 * gib, 2) == 2
    assert slices_within(given, 0.1 * gib, 8) == 1


@pytest.mark.parametrize("across_slices", [False, True])
@pytest.mark.parametrize("slices", [5, 11])
def test_slices_together_do_not_grow_with_the_study(slices: int, across_slices: bool) -> None:
    operator = DoseOperator(skeleton="kept").eval()
    inputs = torch.rand(1, 2, 32, 32, slices, generator=torch.Generator().manual_seed(0))
    budget = 3.5 * evaluation_bytes(problem(operator, 32)) / 2**30
    inferer = LIPInferer(
        1e-3,
        solver=AdamSolver(2),
        slice_batch_size=8,
        progress=False,
        slice_axis=2,
        memory_budget_gib=budget,
        across_slices=across_slices,
    )
    with recorded_batches(operator) as sizes:
        inferer(inputs, operator)
    assert max(sizes) == 3
    assert inferer.record is not None
    assert len(inferer.record.status) == (1 if across_slices else slices)
