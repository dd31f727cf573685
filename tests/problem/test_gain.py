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
"""The gain of an operator against the singular values of its Jacobian."""

from __future__ import annotations

import pytest
import torch

from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import operator_gain


def test_against_the_jacobian_of_a_network() -> None:
    torch.manual_seed(0)
    operator = DoseOperator(in_channels=2, skeleton="signal")
    torch.nn.init.normal_(operator.vnet.out_tr.conv2.weight)
    operator(torch.rand(4, 2, 16, 16))  # running statistics
    inputs = 0.2 + 0.6 * torch.rand(2, 2, 16, 16)
    gain = operator_gain(operator, inputs, iterations=60)
    assert operator.training  # as it was
    operator.eval()
    for index in range(2):
        pre, dose = inputs[index : index + 1].split(1, dim=1)
        jacobian = torch.autograd.functional.jacobian(lambda image, pre=pre: operator(torch.cat([pre, image], 1)), dose)  # type: ignore[misc]
        largest = torch.linalg.matrix_norm(jacobian.reshape(256, 256), ord=2).square()
        assert gain[index].item() == pytest.approx(largest.item(), rel=0.03)


def test_the_signal_equation_multiplies_most_where_the_signal_saturates() -> None:
    pre = torch.full((1, 1, 8, 8), 0.2)
    weak, strong = (operator_gain(SignalEquationOperator(0.2), torch.cat([pre, q * pre], 1)) for q in (1.2, 3.5))
    assert weak.item() == pytest.approx(0.2**2, rel=0.15)
    assert strong.item() > 4 * weak.item()


def test_without_a_pre_dose_image_and_under_inference_mode() -> None:
    with torch.inference_mode():
        gain = operator_gain(lambda image: 3.0 * image, torch.rand(3, 1, 8, 8))
    assert gain.tolist() == pytest.approx([9.0] * 3, rel=1e-4)
