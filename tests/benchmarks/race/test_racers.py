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
"""The racers solve the problem they are given, and report what they did."""

from __future__ import annotations

import pytest
import torch

from benchmarks.race.peer import load_deepinv, peer_racers
from benchmarks.race.racers import OwnRacer, Racer, own_racers
from monai_lipcar.physics import LinearDoseOperator
from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, TotalVariation


def problem(size: int) -> LearnedInverseProblem:
    generator = torch.Generator().manual_seed(0)
    pre = torch.full((size, 1, 24, 24), 0.2)
    high = pre.clone()
    high[:, :, 8:16, 8:16] = 0.7
    low = pre + 0.2 * (high - pre) + 0.005 * torch.randn(pre.shape, generator=generator)
    return LearnedInverseProblem(LinearDoseOperator(0.2), low, TotalVariation(), 1e-3, pre)


def check(racer: Racer) -> None:
    given = problem(racer.batch_size)
    trace = racer.solve(given)
    assert trace.image.shape == given.observed.shape
    assert 0 <= float(trace.image.min()) <= float(trace.image.max()) <= 1
    assert [len(values) for values in trace.objective] == [len(trace.evaluations)] * racer.batch_size
    assert len(trace.evaluations) == len(trace.seconds)
    assert trace.evaluations == sorted(trace.evaluations)
    assert trace.seconds == sorted(trace.seconds)
    assert trace.evaluations[-1] == trace.meter.forwards
    last = torch.tensor([values[-1] for values in trace.objective])
    torch.testing.assert_close(given.objective(trace.image).double(), last.double(), rtol=1e-5, atol=1e-6)
    first = given.objective(given.observed)
    assert (last < 0.5 * first).all()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_own(index: int) -> None:
    check(own_racers(2)[index])


@pytest.mark.parametrize("index", [0, 1])
def test_deepinv(index: int) -> None:
    deepinv = load_deepinv()
    if deepinv is None:
        pytest.skip("deepinv is not installed")
    check(peer_racers(deepinv, 0.04)[index])


def test_a_solver_that_counts_wrongly_is_found() -> None:
    class Forgetful(AdamSolver):
        def solve(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
            solution = super().solve(*args, **kwargs)  # type: ignore[arg-type]
            object.__setattr__(solution, "network_evaluations", solution.network_evaluations - 1)
            return solution

    with pytest.raises(RuntimeError, match="reports 3 evaluations, but the network had 4"):
        OwnRacer("forgetful", Forgetful(max_iterations=3), 1).solve(problem(1))
