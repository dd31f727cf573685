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
"""Operators compiled by ``torch.compile``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.inferers import LIPInferer
from monai_lipcar.networks import Bfloat16Operator, DoseOperator, compile_operator
from monai_lipcar.problem import ProximalSolver

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on a CPU"
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that was compiled before, nor left for later."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Smoothing(nn.Module):
    """A forward operator of one small convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.convolution.weight, 1 / 9)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Simulate."""
        result: torch.Tensor = torch.relu(self.convolution(image)) * 0.9
        return result


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@needs_compiler
@pytest.mark.slow
def test_a_volume_is_the_same() -> None:
    inputs = images(1, 1, 16, 16, 3)
    results = []
    for compiled in (False, True):
        inferer = LIPInferer(
            alpha=1e-3, solver=ProximalSolver(max_iterations=4), slice_axis=2, progress=False, compiled=compiled
        )
        results.append(inferer(inputs, Smoothing()))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-4)


def test_without_a_compiler() -> None:
    from torch._inductor import config

    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ConfigurationError, match="compile: torch.compile does not work here .* install a C"),
    ):
        compile_operator(Smoothing().eval().requires_grad_(False), images(1, 1, 24, 24))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_a_dose_operator_gives_the_same(half: bool) -> None:
    torch.manual_seed(0)
    operator = DoseOperator(skeleton="kept").eval().requires_grad_(False)
    nn.init.constant_(operator.vnet.out_tr.conv2.weight, 0.01)
    given = Bfloat16Operator(operator) if half else operator
    compiled = compile_operator(given, images(2, 2, 32, 32))
    gradients, outputs = [], []
    for network in (given, compiled):
        inputs = images(2, 2, 32, 32).requires_grad_(True)
        outputs.append(network(inputs))
        gradients += torch.autograd.grad(outputs[-1].square().sum(), inputs)
    tolerance = 1e-2 if half else 1e-5
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=10 * tolerance)
