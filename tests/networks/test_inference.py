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
"""Networks made ready for inversion: the same function, and the original as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from monai_lipcar.networks import DoseOperator, prepare_for_inversion


def randomize(network: nn.Module) -> nn.Module:
    """Statistics and last layers as after a training, not as they start."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                if values is not None:
                    nn.init.uniform_(values, low, high)
    if isinstance(network, DoseOperator):
        nn.init.constant_(network.vnet.out_tr.conv2.weight, 0.1)
    return network


def value_and_gradient(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    image = image.clone().requires_grad_(True)
    output = network(image)
    (gradient,) = torch.autograd.grad(output.square().sum(), image)
    return output.detach(), gradient


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"in_channels": 2, "skeleton": "physics"}, (2, 2, 32, 40)),
        ({"in_channels": 1}, (1, 1, 32, 32)),
        ({"in_channels": 2, "spatial_dims": 3, "skeleton": "physics"}, (1, 2, 16, 16, 16)),
    ],
)
def test_the_operator_computes_the_same(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    network = randomize(DoseOperator(**options)).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    prepared = prepare_for_inversion(network)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert norms(network) > norms(prepared) == 0
    assert not any(parameter.requires_grad for parameter in prepared.parameters())

    image = torch.rand(shape)
    expected, got = value_and_gradient(network.eval(), image), value_and_gradient(prepared, image)
    assert expected[1].abs().max() > 0
    for name, one, other in zip(("output", "gradient"), expected, got, strict=True):
        assert (one - other).norm() <= 1e-5 * one.norm(), name


def test_norms_that_do_not_follow_a_convolution_stay() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        Convolution(2, 4, 4, adn_ordering="AN", act="RELU", norm="BATCH"),
        nn.Conv2d(4, 4, 1),
        nn.InstanceNorm2d(4),
        nn.ConvTranspose2d(4, 4, 2, groups=2),
        nn.BatchNorm2d(4),
    )
    randomize(network).eval()
    prepared = prepare_for_inversion(network)
    assert norms(prepared) == norms(network) == 4
    image = torch.rand(1, 1, 12, 12)
    torch.testing.assert_close(prepared(image), network(image))


def test_networks_without_convolutions() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    image = torch.rand(2, 3)
    torch.testing.assert_close(prepare_for_inversion(network)(image), network(image))
