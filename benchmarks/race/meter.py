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
"""What an operator is asked for during a solve, and how long that takes: measured at the operator itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import nn

__all__ = ["Meter"]


class Meter:
    """Counts and times the passes of an operator, by hooks, while it is entered as a context.

    A forward pass counts when it is done. A backward pass begins with the gradient of the output and ends with that of
    the input. It works for whatever asks: modules are called by solvers of any library.

    Args:
        operator: the module. Its input should need a gradient where a backward pass will follow.

    Attributes:
        forwards, backwards: passes, of a whole batch each.
        forward_slices, backward_slices: the same times the size of the batch.
        inside: seconds in the operator.
        ends: seconds since the start at which each evaluation was done: a forward pass, and its backward pass if any.
        seconds: of the whole solve, once the context is left.
        cpu_seconds: the same of all threads on the processor.

    Example:
        >>> operator, image = nn.Conv2d(1, 1, 3), torch.rand(2, 1, 8, 8, requires_grad=True)
        >>> with Meter(operator) as meter:
        ...     operator(image).sum().backward()
        ...     _ = operator(image.detach())
        >>> meter.forwards, meter.backwards, meter.forward_slices, meter.inside <= meter.seconds
        (2, 1, 4, True)
    """

    def __init__(self, operator: nn.Module) -> None:
        self.operator = operator
        self.forwards = self.backwards = self.forward_slices = self.backward_slices = 0
        self.inside = self.seconds = self.cpu_seconds = 0.0
        self.ends: list[float] = []
        self._hooks: list[Any] = []
        self._began = self._entered = self._entered_cpu = 0.0

    def __enter__(self) -> Meter:
        self._hooks = [
            self.operator.register_forward_pre_hook(self._before_forward),
            self.operator.register_forward_hook(self._after_forward),
        ]
        self._entered_cpu, self._entered = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds, self.cpu_seconds = self.elapsed(), time.process_time() - self._entered_cpu
        for hook in self._hooks:
            hook.remove()

    def elapsed(self) -> float:
        """Seconds since the start."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - self._entered

    def _before_forward(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        self._began = self.elapsed()
        if not inputs[0].requires_grad:
            return inputs
        image = inputs[0].view_as(inputs[0])  # of this pass only: an image that is optimized is the same in the next
        image.register_hook(self._after_backward(len(image)))
        return (image, *inputs[1:])

    def _after_forward(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.ends.append(self.elapsed())
        self.inside += self.ends[-1] - self._began
        self.forwards += 1
        self.forward_slices += len(output)
        if output.requires_grad:
            output.register_hook(self._before_backward)

    def _before_backward(self, gradient: torch.Tensor) -> None:
        self._began = self.elapsed()

    def _after_backward(self, size: int) -> Callable[[torch.Tensor], None]:
        evaluation = self.forwards  # that begins now

        def hook(gradient: torch.Tensor) -> None:
            self.ends[evaluation] = self.elapsed()
            self.inside += self.ends[evaluation] - self._began
            self.backwards += 1
            self.backward_slices += size

        return hook
