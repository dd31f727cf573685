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
"""Frozen networks in bfloat16: where the device is faster in it, and where it is accurate enough."""

from __future__ import annotations

import logging

import torch
from torch import nn

__all__ = ["Bfloat16Operator", "has_fast_bfloat16", "in_bfloat16"]

BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Of x86 and Arm, as PyTorch names them."""
SLOW_ON_INTEL = "avx512_bf16"
"""A virtual machine may have these instructions of a processor and not its ``amx_bf16``. On such an Intel Xeon
5x5 convolutions of 16 to 256 channels reached 74 to 84 GFLOP/s in bfloat16, 107 to 161 in float32 (one thread)."""
logger = logging.getLogger(__name__)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16 than in float32, by the instructions that it has.

    One without any for bfloat16 imitates them, on CPUs 10 times slower than float32; Intel's processors are faster by
    ``amx_bf16`` only.

    Args:
        device: CPU or GPU; others are taken at their word for autocast.

    Example:
        >>> isinstance(has_fast_bfloat16(torch.device("cpu")), bool)
        True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    intel = "intel" in str(capabilities.get("cpu_name", "")).lower()
    fast = [name for name in BFLOAT16_INSTRUCTIONS if not (intel and name == SLOW_ON_INTEL)]
    return any(capabilities.get(name, False) for name in fast)


class Bfloat16Operator(nn.Module):
    """An operator whose convolutions compute in bfloat16 (autocast), within solvers that compute in float32.

    Weights and images stay float32, and so does what a :class:`~monai_lipcar.networks.DoseOperator` computes around its
    network: the skeleton, and the sum.

    Args:
        operator: the operator, shared and not changed.

    Example:
        >>> output = Bfloat16Operator(nn.Conv2d(1, 1, 3))(torch.ones(1, 1, 8, 8))
        >>> output.dtype
        torch.float32
    """

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The operator's output in float32."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
            output: torch.Tensor = self.operator(inputs)
        return output.float()

    def slope(self, inputs: torch.Tensor) -> torch.Tensor:
        """The operator's, 1 where it has none; see :meth:`~monai_lipcar.problem.LearnedInverseProblem.curvature`."""
        slope = getattr(self.operator, "slope", None)
        result: torch.Tensor = torch.ones_like(inputs[:, -1:]) if slope is None else slope(inputs)
        return result


def in_bfloat16(operator: nn.Module, inputs: torch.Tensor, tolerance: float = 5e-4) -> nn.Module:
    """The operator in bfloat16 where that is faster and changes its output little; otherwise as it is.

    Args:
        operator: in evaluation mode, with float32 weights.
        inputs: to try it on, (B, C, *spatial).
        tolerance: on the root mean square of the change. On the study's [0, 1] scale, 5e-4 is a twentieth of the noise
            of a usual acquisition.

    Example:
        >>> operator = nn.Conv2d(1, 1, 3).eval()
        >>> in_bfloat16(operator, torch.rand(1, 1, 8, 8), tolerance=0.0) is operator
        True
    """
    if not has_fast_bfloat16(inputs.device):
        logger.info("bfloat16: this device is not faster in it; computing in float32")
        return operator
    candidate = Bfloat16Operator(operator)
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        change = float((candidate(inputs) - operator(inputs)).square().mean().sqrt())
    accurate = change <= tolerance
    logger.info(
        "bfloat16 changes the operator's output by %.2g, computing in %s", change, "it" if accurate else "float32"
    )
    return candidate if accurate else operator
