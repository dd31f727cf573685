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
"""Networks made ready for many evaluations with frozen weights."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from monai.networks.nets.vnet import DownTransition, UpTransition
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["prepare_for_inversion"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def prepare_for_inversion(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with batch norms folded into the convolutions in front of them, channels last.

    The copy computes the same, in evaluation mode, with frozen parameters and fewer operations; it cannot be trained.
    Folded is a batch norm that is called right after a convolution, as part of a sequence (MONAI's ``Convolution``) or
    of VNet's down and up transitions; others stay.

    Args:
        network: any module; it is not changed.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> [type(layer).__name__ for layer in prepare_for_inversion(network)]
        ['Conv2d', 'Identity', 'ReLU']
    """
    prepared = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(prepared.modules()):
        _fold(module)
    dimensions = {parameter.ndim for parameter in prepared.parameters()}
    if 4 in dimensions and 5 not in dimensions:
        prepared = prepared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return prepared


def _fold(module: nn.Module) -> None:
    """Fold the batch norms among the children of one module."""
    for parent, first, second in _pairs(module):
        convolution, norm = getattr(module, first), getattr(parent, second)
        if not isinstance(convolution, _CONVOLUTIONS) or not isinstance(norm, _NORMS) or norm.running_mean is None:
            continue
        transposed = isinstance(convolution, nn.modules.conv._ConvTransposeNd)
        if transposed and convolution.groups != 1:  # torch would scale the wrong axis
            continue
        setattr(module, first, fuse_conv_bn_eval(convolution, norm, transpose=transposed))
        setattr(parent, second, nn.Identity())


def _pairs(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(Parent of the second, name of the first, name of the second) of layers that are called one after the other."""
    children: list[tuple[str, Any]] = list(module.named_children())
    pairs: list[tuple[nn.Module, str, str]] = []
    if isinstance(module, nn.Sequential):
        for (first, _), (second, follower) in itertools.pairwise(children):
            # MONAI keeps activation, dropout and norm in a sequence of their own
            inner = next(iter(follower._modules), "") if isinstance(follower, nn.Sequential) else ""
            pairs.append((follower, first, inner) if inner else (module, first, second))
    elif isinstance(module, DownTransition):
        pairs.append((module, "down_conv", "bn1"))
    elif isinstance(module, UpTransition):
        pairs.append((module, "up_conv", "bn1"))
    return pairs
