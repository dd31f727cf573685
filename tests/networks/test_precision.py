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
"""Frozen networks in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_lipcar.networks import Bfloat16Operator, DoseOperator, in_bfloat16
from monai_lipcar.problem import LearnedInverseProblem, ProximalSolver, TotalVariation

WITH = {"avx512_bf16": True}


@pytest.fixture
def operator() -> DoseOperator:
    """Whose network corrects its skeleton by a few hundredths, as a trained one."""
    torch.manual_seed(0)
    operator = DoseOperator(skeleton="physics").eval()
    nn.init.constant_(operator.vnet.out_tr.conv2.weight, 0.01)
    return operator


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_the_network_computes_in_bfloat16_and_all_around_it_in_float32(operator: DoseOperator) -> None:
    inner: list[torch.dtype] = []
    operator.vnet.in_tr.conv_block.conv.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: inner.append(output.dtype)
    )
    inputs = images(1, 2, 32, 32).requires_grad_(True)
    output = Bfloat16Operator(operator)(inputs)
    output.sum().backward()
    assert inner == [torch.bfloat16]
    assert output.dtype == torch.float32
    assert inputs.grad is not None
    assert inputs.grad.dtype == torch.float32
    exact = operator(inputs)
    assert 0 < float((output - exact).detach().abs().max()) < 0.01


def test_also_where_the_solver_switches_autocast_off(operator: DoseOperator) -> None:
    inputs, half = images(1, 2, 32, 32), Bfloat16Operator(operator)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        assert not half(inputs).equal(operator(inputs))


def test_the_slope_is_the_operators(operator: DoseOperator) -> None:
    inputs = images(1, 2, 32, 32)
    assert Bfloat16Operator(operator).slope(inputs).equal(operator.slope(inputs))
    assert Bfloat16Operator(nn.Conv2d(2, 1, 1)).slope(inputs).equal(torch.ones(1, 1, 32, 32))


def test_where_it_is_accurate_and_the_device_has_it(operator: DoseOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = images(1, 2, 32, 32)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert in_bfloat16(operator, inputs, tolerance=1.0) is operator
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITH)
    assert in_bfloat16(operator, inputs, tolerance=1e-9) is operator
    half = in_bfloat16(operator, inputs, tolerance=1.0)
    assert isinstance(half, Bfloat16Operator)
    assert half.operator is operator


def test_the_same_image(operator: DoseOperator) -> None:
    """To far less than the noise."""
    pre = torch.full((1, 1, 32, 32), 0.3)
    high = pre.clone()
    high[..., 10:20, 10:20] = 0.7
    with torch.no_grad():
        low = operator(torch.cat([pre, high], dim=1)) + 0.01 * (images(1, 1, 32, 32) - 0.5)
    results = []
    for network in (operator, Bfloat16Operator(operator)):
        problem = LearnedInverseProblem(network, low, TotalVariation(), 1e-3, pre)
        results.append(ProximalSolver().solve(problem, low))
    assert results[1].status == ("converged",)
    assert float((results[0].image - results[1].image).square().mean().sqrt()) < 2e-3
