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
"""Counting and timing at the operator."""

from __future__ import annotations

import time

import torch
from torch import nn

from benchmarks.race.meter import Meter


class Slow(nn.Module):
    """Multiplies; each pass takes 20 ms."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        result = 2.0 * image
        if result.requires_grad:
            result.register_hook(lambda gradient: time.sleep(0.02))
        return result


def test_passes_and_time_in_the_operator_and_outside_of_it() -> None:
    operator, image = Slow(), torch.ones(3, 1, 4, 4, requires_grad=True)
    with Meter(operator) as meter:
        operator(image.detach())
        time.sleep(0.03)
        simulated = operator(image)
        time.sleep(0.03)
        simulated.sum().backward()
    assert (meter.forwards, meter.backwards) == (2, 1)
    assert (meter.forward_slices, meter.backward_slices) == (6, 3)
    assert meter.seconds - meter.inside >= 0.06
    assert meter.inside >= 0.04  # the delay in the backward pass comes before or after the meter's own hook
    assert len(meter.ends) == 2
    assert meter.ends[0] < meter.ends[1] <= meter.seconds
    assert meter.ends[1] >= 0.1  # the second evaluation ends with its backward pass


def test_passes_under_function_transforms() -> None:
    """As deepinv differentiates."""
    operator, image = nn.Conv2d(1, 1, 3, padding=1).requires_grad_(False), torch.rand(1, 1, 8, 8)
    with Meter(operator) as meter, torch.no_grad():
        value, pull = torch.func.vjp(operator, image)
        pull(torch.ones_like(value))
    assert (meter.forwards, meter.backwards, len(meter.ends)) == (1, 1, 1)


def test_nothing_is_counted_afterwards() -> None:
    operator, image = nn.Conv2d(1, 1, 3), torch.rand(1, 1, 8, 8, requires_grad=True)
    with Meter(operator) as meter:
        operator(image).sum().backward()
    operator(image).sum().backward()
    assert (meter.forwards, meter.backwards) == (1, 1)
