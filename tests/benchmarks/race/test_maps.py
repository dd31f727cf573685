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
"""The comparison of proximal maps."""

from __future__ import annotations

import pytest
import torch

from benchmarks.race.maps import GAP, MapCall, compare, maps_of_solve
from benchmarks.race.peer import load_deepinv
from monai_lipcar.physics import LinearDoseOperator
from monai_lipcar.problem import LearnedInverseProblem, ProximalSolver, TotalVariation


def problem(around_pre: bool) -> LearnedInverseProblem:
    """A square that enhances, with noise; the operator passes a fifth on, so that the metric is 0.04 everywhere."""
    pre = torch.full((1, 1, 32, 32), 0.2)
    high = pre.clone()
    high[:, :, 8:16, 8:16] = 0.7
    low = pre + 0.2 * (high - pre) + 0.02 * torch.randn(pre.shape, generator=torch.Generator().manual_seed(0))
    prior = TotalVariation().around(pre) if around_pre else TotalVariation()
    return LearnedInverseProblem(LinearDoseOperator(0.2), low, prior, 4e-3, pre)


@pytest.mark.parametrize("around_pre", [False, True])
def test_maps_are_those_that_a_solve_asks_for(around_pre: bool) -> None:
    given = problem(around_pre)
    solution = ProximalSolver().solve(given, given.observed)
    calls = maps_of_solve("a solve", given, 24, ProximalSolver())
    assert [call.title for call in calls] == ["a solve, median", "a solve, largest"]
    assert calls[0].weight <= calls[1].weight
    metric = float(given.curvature(given.observed).median())
    for call in calls:
        # the operator is linear: the step is one over the curvature, as the metric is
        assert call.weight == pytest.approx(4e-3 / metric, rel=0.05)
        assert call.image.shape == call.before.shape == (1, 1, 24, 24)
        assert not torch.equal(call.image, call.before) or solution.network_evaluations == 1
        # the image that is denoised is that of the dose before, noise and all
        assert float(call.image.mean()) == pytest.approx(0.1 if around_pre else 0.3, abs=0.1)


def test_both_are_as_near_to_the_minimum() -> None:
    threads = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 24, 24, generator=generator)
    before = image + 0.01 * torch.rand(1, 1, 24, 24, generator=generator)
    weights = (0.006, 0.05, 0.3)
    rows = compare([MapCall("one", image, weight, before, weight) for weight in weights], load_deepinv(), repeats=1)
    assert [row["weight"] for row in rows] == list(weights)
    for row in rows:
        assert row["bound_error"] < 1e-5
        assert 0 <= row["prox_tv_gap"] <= GAP
        assert 0 <= row["warm_gap"] <= GAP
        assert -1e-6 <= row["prox_tv_excess"] <= row["prox_tv_gap"] + 1e-6
        assert row["warm_steps"] <= row["prox_tv_steps"]
        assert min(row["prox_tv_ms"], row["warm_ms"]) > 0
        if "deepinv_ms" in row:
            assert row["deepinv_excess"] <= GAP
    assert sum(row["warm_steps"] for row in rows) < sum(row["prox_tv_steps"] for row in rows)
    assert torch.get_num_threads() == threads


def test_a_hard_map_is_not_cut_short() -> None:
    image = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    (row,) = compare([MapCall("hard", image, 0.3, image, 0.3)], None, repeats=1)
    assert row["prox_tv_steps"] > 1000
    assert row["prox_tv_gap"] <= GAP
