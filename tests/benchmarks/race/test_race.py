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
"""The whole race, small."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest

from benchmarks import solver
from benchmarks.paper.parts import Parts
from benchmarks.race import memory
from benchmarks.race.problems import Problems
from benchmarks.race.racers import OwnRacer, own_racers
from benchmarks.race.run import Race
from benchmarks.race.summary import PROXIMAL
from monai_lipcar.problem import AdamSolver, ProximalSolver


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps, and without deepinv."""

    def racers(batch_size: int) -> list[OwnRacer]:
        return [
            OwnRacer("Adam, slice by slice", AdamSolver(max_iterations=3), 1),
            OwnRacer("Adam, batched", AdamSolver(max_iterations=3), batch_size),
            OwnRacer("ProximalSolver", ProximalSolver(max_iterations=2), batch_size),
        ]

    monkeypatch.setattr(solver, "own_racers", racers)
    monkeypatch.setattr(solver, "load_deepinv", lambda: None)
    monkeypatch.setattr(solver.memory, "measure", lambda bundle, problem, racers: {"start": 1.0})  # a test of its own


@pytest.mark.usefixtures("short")
def test_race(problems: Problems, tmp_path: Path) -> None:
    chosen = argparse.Namespace(
        output=tmp_path,
        further_slices=1,
        peer_slices=1,
        batch_size=2,
        bundles=["ph2l_tv", "ph2l_gentv"],
        levels=[0.033],
        results=tmp_path / "solver.json",
        image=tmp_path / "solver.png",
    )
    solver.run(chosen, problems)
    written = json.loads((tmp_path / "solver.json").read_text(encoding="utf-8"))
    rows = written["problems"]["ph2l_tv"]["0.033"]
    assert list(rows) == ["Adam, slice by slice", "Adam, batched", "ProximalSolver"]
    for row in rows.values():
        assert row["slices"] == 2
        assert 0 < row["inside_network"] < 1
        assert row["gflops"] > 0
        assert math.isfinite(row["psnr_head"])
    assert rows["Adam, slice by slice"]["forward_passes"] == 4
    assert rows["Adam, slice by slice"]["objective_over_adam"] == 1
    assert {row["slices"] for row in written["problems"]["ph2l_gentv"]["0.033"].values()} == {1}
    assert [row["title"].split(",")[0] for row in written["proximal_map"]] == ["`ph2l_tv`"] * 2 + ["`ph2l_gentv`"] * 2
    assert set(written["weights"]) == {"ph2l", "pl2h"}
    assert written["deepinv"] is None
    assert (tmp_path / "solver.png").stat().st_size > 1000


def test_peak_memory_of_a_process_of_its_own(problems: Problems) -> None:
    racer = own_racers(1)[2]
    peaks = memory.measure("ph2l_tv", problems.problem("ph2l_tv", problems.samples(problems.names[:1]), 0.0), [racer])
    assert 100 < peaks["start"] <= 1.05 * peaks[racer.name] < 20000


def test_what_is_finished_is_not_done_again(problems: Problems, tmp_path: Path) -> None:
    racer = OwnRacer(PROXIMAL, ProximalSolver(max_iterations=1), 2)
    race = Race(problems, "h2l_tv", [(racer, 2)], Parts(tmp_path))
    assert race.rows(racer, 2, 0.0) == {}
    race.run(0.0)
    rows = race.rows(racer, 2, 0.0)
    assert list(rows) == problems.names
    race.run(0.0)
    assert race.rows(racer, 2, 0.0) == rows  # its seconds included
    assert race.rows(racer, 2, 0.033) == {}


@pytest.mark.parametrize("bundle", ["ph2l_tv", "h2l_tv", "ph2l_gentv", "physics_tv"])
def test_problems_are_those_of_the_bundles(problems: Problems, bundle: str) -> None:
    samples = problems.samples(problems.names)
    clean, noisy = (problems.problem(bundle, samples, level) for level in (0.0, 0.033))
    assert float((noisy.observed - clean.observed).std()) == pytest.approx(0.033, rel=0.05)
    assert float(noisy.alpha) > float(clean.alpha) > 0
    assert (clean.pre is None) == (bundle == "h2l_tv")
    assert problems.gain(bundle) > 0
