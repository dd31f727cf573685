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
"""Frozen operators compiled by ``torch.compile``: fewer, larger kernels for many evaluations."""

from __future__ import annotations

import copy

import torch
from torch import nn

from monai_lipcar.errors import ConfigurationError

from .operator import DoseOperator
from .precision import Bfloat16Operator

__all__ = ["compile_operator"]


def compile_operator(operator: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """A copy of the operator that is compiled; its first evaluations take long, all compute the same.

    Of a :class:`~monai_lipcar.networks.DoseOperator` the network is compiled, not the skeleton around it, in the
    precision that the operator has.

    Args:
        operator: in evaluation mode, with frozen parameters.
        inputs: to try it on, (B, C, *spatial), as many samples as it will be evaluated on together.

    Raises:
        ConfigurationError: it cannot be compiled here; on a CPU, ``torch.compile`` needs a C++ compiler.
    """
    if isinstance(operator, Bfloat16Operator):
        compiled: nn.Module = Bfloat16Operator(_compiled(operator.operator))
    else:
        compiled = _compiled(operator)
    try:
        with torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
            image = inputs.detach().clone().requires_grad_(True)
            torch.autograd.grad(compiled(image).sum(), image)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigurationError(
            f"compile: torch.compile does not work here ({reason}); install a C++ compiler (g++ or clang++), or leave "
            "the option out"
        ) from error
    return compiled


def _compiled(operator: nn.Module) -> nn.Module:
    if not isinstance(operator, DoseOperator):
        return _module(torch.compile(operator))
    compiled = copy.deepcopy(operator)
    # not the padding, whose gradient torch expects in another memory format than it has (2.13)
    compiled.vnet = _module(torch.compile(compiled.vnet))  # type: ignore[assignment]
    return compiled


def _module(compiled: object) -> nn.Module:
    assert isinstance(compiled, nn.Module)
    return compiled
