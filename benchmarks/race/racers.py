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
"""The solvers of this package in the race, and the interface that all racers have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, ProximalSolver

from .meter import Meter

__all__ = ["OwnRacer", "Racer", "Trace", "own_racers"]


@dataclass(frozen=True)
class Trace:
    """How one solve went.

    Args:
        image: (B, 1, H, W) in [0, 1].
        objective: of each slice, after each of the points below; the last is that of ``image``.
        evaluations: of the network, at each point.
        seconds: since the start, at each point.
        status: of each slice; empty where a solver says nothing.
        steps: evaluations that each slice took.
        meter: what the operator was asked for.
    """

    image: torch.Tensor
    objective: list[list[float]]
    evaluations: list[int]
    seconds: list[float]
    status: list[str]
    steps: list[int]
    meter: Meter


class Racer(Protocol):
    """A solver, and how many slices it gets at a time."""

    name: str
    batch_size: int

    def solve(self, problem: LearnedInverseProblem) -> Trace:
        """Solve from the observed image; the problem's operator is a module."""

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""


class OwnRacer:
    """A solver of this package: it evaluates the network once for each value of the objective in its history.

    Args:
        name: in tables.
        solver: ``AdamSolver`` or ``ProximalSolver``.
        batch_size: slices at a time.
    """

    def __init__(self, name: str, solver: AdamSolver | ProximalSolver, batch_size: int) -> None:
        self.name = name
        self.solver = solver
        self.batch_size = batch_size

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {**self.solver.describe(), "batch_size": self.batch_size}

    def solve(self, problem: LearnedInverseProblem) -> Trace:
        """Solve from the observed image."""
        assert isinstance(problem.operator, nn.Module)
        with Meter(problem.operator) as meter:
            solution = self.solver.solve(problem, problem.observed)
        count = solution.network_evaluations
        if not count == meter.forwards == solution.objective.shape[1]:
            raise RuntimeError(f"{self.name} reports {count} evaluations, but the network had {meter.forwards}")
        return Trace(
            image=solution.image,
            objective=solution.objective.double().tolist(),
            evaluations=list(range(1, count + 1)),
            seconds=list(meter.ends),
            status=list(solution.status),
            steps=[steps + 1 for steps in solution.iterations],  # and one at the start
            meter=meter,
        )


def own_racers(batch_size: int) -> list[OwnRacer]:
    """The published solver as published, the same on several slices at a time, and the proximal one."""
    return [
        OwnRacer("Adam, slice by slice", AdamSolver(), 1),
        OwnRacer("Adam, batched", AdamSolver(), batch_size),
        OwnRacer("ProximalSolver", ProximalSolver(), batch_size),
    ]
