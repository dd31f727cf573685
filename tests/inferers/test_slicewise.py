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

from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_lipcar.inferers import LIPInferer, SlicewiseOperator
from monai_lipcar.networks import DoseOperator, prepare_for_inversion
from monai_lipcar.physics import LinearDoseOperator, SignalEquationOperator
from monai_lipcar.problem import (
    AlphaRule,
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    ProximalSolver,
    TotalVariation,
)


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 1, 1)).eval()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_every_slice_by_itself(axis: int, batch: int) -> None:
    volume, operator = random_image(2, 2, 5, 6, 7), convolution()
    result = SlicewiseOperator(operator, axis, batch)(volume)
    assert result.shape == (2, 1, 5, 6, 7)
    for index in range(volume.shape[axis + 2]):
        alone = operator(volume.select(axis + 2, index))
        torch.testing.assert_close(result.select(axis + 2, index), alone)


def test_the_gradient_is_that_of_the_slices() -> None:
    volume, operator = random_image(1, 2, 6, 7, 5), convolution()
    wanted = volume.clone().requires_grad_(True)
    torch.stack([operator(piece) for piece in wanted.unbind(-1)], dim=-1).square().sum().backward()
    found = volume.clone().requires_grad_(True)
    SlicewiseOperator(operator, 2, 2)(found).square().sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad)


class Counting(nn.Module):
    """Counts how many slices at a time keep what their gradient needs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = convolution()
        self.kept: list[int] = []

    def forward(self, slices: Tensor) -> Tensor:
        result: Tensor = self.layers(slices)
        if result.requires_grad:
            self.kept.append(len(slices))
        return result


def test_no_more_than_a_batch_of_slices_is_kept_for_the_gradient() -> None:
    operator = Counting()
    volume = random_image(1, 2, 6, 7, 9).requires_grad_(True)
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = SlicewiseOperator(operator, 2, 2)(volume)
    assert saved <= 2 * volume.numel()  # the inputs, not the layers
    output.sum().backward()
    assert max(operator.kept) == 2


def test_the_slope_is_the_operators() -> None:
    volume = 0.2 + 0.5 * random_image(1, 2, 16, 17, 3)
    physics = SignalEquationOperator(dose_fraction=0.2)
    expected = torch.stack([physics.slope(piece) for piece in volume.unbind(-1)], dim=-1)
    torch.testing.assert_close(SlicewiseOperator(physics, 2)(volume), physics(volume))
    torch.testing.assert_close(SlicewiseOperator(physics, 2).slope(volume), expected)
    assert torch.equal(SlicewiseOperator(convolution(), 2).slope(volume), torch.ones(1, 1, 16, 17, 3))


@pytest.mark.parametrize("guess", [None, "pre", convolution(seed=1)])
def test_the_prior_joins_the_slices(guess: str | nn.Module | None) -> None:
    """The solution is that of the volume's problem, with its voxel size, and not that of the slices'."""
    inputs = MetaTensor(0.3 + 0.3 * random_image(1, 2, 16, 17, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1])))
    operator, solver = LinearDoseOperator(0.2), ProximalSolver()
    inferer = LIPInferer(2e-3, guess=guess, solver=solver, across_slices=True, progress=False)
    result = inferer(inputs, operator)
    assert isinstance(result, MetaTensor)
    assert result.shape == (1, 1, 16, 17, 4)
    assert inferer.record is not None
    assert inferer.record.status == ["converged"]
    plain = inputs.as_tensor()
    spacing = (1.0, 1.0, 3.0)
    prior = TotalVariation(spacing=spacing)
    if guess == "pre":
        prior = GeneralizedTotalVariation(plain[:, :1], spacing=spacing)
    elif isinstance(guess, nn.Module):
        with torch.no_grad():
            around = torch.stack([guess(piece) for piece in plain.unbind(-1)], dim=-1)
        prior = GeneralizedTotalVariation(around, spacing=spacing)
    problem = LearnedInverseProblem(operator, plain[:, 1:], prior, 2e-3, plain[:, :1])
    expected = solver.solve(problem, plain[:, 1:]).image
    torch.testing.assert_close(result.as_tensor(), expected, atol=1e-5, rtol=0.0)
    apart = LIPInferer(2e-3, guess=guess, solver=solver, progress=False)(inputs, operator)
    assert not torch.allclose(apart.as_tensor(), expected, atol=1e-3)


def test_neighboring_slices_inform_each_other() -> None:
    """A learned operator, alpha from the noise: the error is smaller than slice by slice."""
    network = prepare_for_inversion(DoseOperator(in_channels=2, skeleton="kept"))
    pre = torch.zeros(1, 1, 32, 32, 3)
    pre[:, :, 6:26, 6:26] = 0.3
    high = pre.clone()
    high[:, :, 12:18, 12:18] = 0.6
    with torch.no_grad():
        low = SlicewiseOperator(network)(torch.cat([pre, high], dim=1))
    errors = {True: 0.0, False: 0.0}
    for seed, across in itertools.product((1, 2, 3), (True, False)):
        noise = torch.randn(pre.shape, generator=torch.Generator().manual_seed(seed))
        rule = AlphaRule(operator_error=0.002, kappa=0.5)
        options = {"guess": "pre", "alpha_rule": rule, "across_slices": across, "progress": False}
        inferer = LIPInferer("auto", solver=ProximalSolver(), **options)  # type: ignore[arg-type]
        with torch.inference_mode():
            result = inferer(torch.cat([pre, low + 0.01 * noise], dim=1), network)
        assert inferer.record is not None
        assert set(inferer.record.status) == {"converged"}
        errors[across] += float((result - high).square().mean()) / 3
    assert errors[True] < 0.9 * errors[False]
    assert errors[False] < 0.2 * float((low - high).square().mean())


def test_slices_that_come_without_a_volume_stay_alone() -> None:
    inputs = 0.3 + 0.3 * random_image(3, 2, 16, 17)
    inferer = LIPInferer(2e-3, solver=ProximalSolver(), across_slices=True, progress=False)
    apart = LIPInferer(2e-3, solver=ProximalSolver(), progress=False)
    assert torch.equal(inferer(inputs, LinearDoseOperator(0.2)), apart(inputs, LinearDoseOperator(0.2)))
