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
"""The comparison of the solvers' images, small, and what it says of two sets of rows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import solver_quality
from benchmarks.race.problems import Problems
from benchmarks.race.racers import OwnRacer
from benchmarks.race.summary import BATCHED, PROXIMAL
from benchmarks.solver_quality import FACTORS, FINE, compare, maximum
from monai_lipcar.problem import AdamSolver, ProximalSolver


def test_proximal_less_adam_on_the_slices_that_both_have() -> None:
    def row(psnr: float, objective: float, status: str = "converged") -> dict[str, object]:
        return {
            "psnr_head": psnr,
            "ssim_head": psnr / 100,
            "objective": [9.0, objective],
            "steps": 7,
            "status": status,
        }

    found = compare(
        {"a": row(30.0, 2.0), "b": row(32.0, 4.0), "c": row(10.0, 1.0)},
        {"a": row(30.5, 1.0), "b": row(31.9, 3.0, "max_iterations")},
    )
    assert found["slices"] == ["a", "b"]
    assert found["psnr_head_adam"] == 31.0
    assert found["psnr_head_difference"] == pytest.approx(0.2)
    assert found["psnr_head_least"] == pytest.approx(-0.1)
    assert found["ssim_head_least"] == pytest.approx(-0.001)
    assert found["objective_over_adam"] == pytest.approx(0.625)
    assert found["converged"] == 0.5


def test_alpha_is_validated_and_what_is_finished_is_kept(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def racers(batch_size: int) -> list[OwnRacer]:
        return [
            OwnRacer(BATCHED, AdamSolver(max_iterations=60), batch_size),
            OwnRacer(PROXIMAL, ProximalSolver(), batch_size),
        ]

    monkeypatch.setattr(solver_quality, "own_racers", racers)
    chosen = argparse.Namespace(
        output=tmp_path,
        validation_slices=1,
        batch_size=1,
        bundles=["physics_tv"],
        levels=[0.033],
        results=tmp_path / "quality.json",
    )
    solver_quality.run(chosen, problems)
    written = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    entry = written["bundles"]["physics_tv"]
    row = entry["levels"]["0.033"]
    (validation,) = entry["validation_slices"]
    assert row["slices"] == problems.names
    assert validation.split(":")[0] not in {name.split(":")[0] for name in problems.names}
    count = {}
    for key in ("adam", "proximal"):
        tried = {float(alpha): psnr for alpha, psnr in row[f"validation_psnr_head_{key}"].items()}
        count[key] = len(tried)
        best = max(tried, key=tried.__getitem__)
        assert count[key] >= 3
        assert best / FINE**0.51 < row[f"alpha_{key}"] < best * FINE**0.51
    assert row["evaluations"] <= 31
    assert abs(row["psnr_head_difference"]) < 1
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").iterdir()}
    # of what both have tried, an alpha is solved with once
    assert len(FACTORS) + sum(count.values()) - 3 + 2 * 2 <= len(files) <= len(FACTORS) + sum(count.values()) + 2 * 2
    written["bundles"]["of another run"] = entry
    chosen.results.write_text(json.dumps(written), encoding="utf-8")
    assert solver_quality.run(chosen, problems)["bundles"].keys() == {"physics_tv", "of another run"}
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").iterdir()} == files


@pytest.mark.parametrize(
    ("place", "found", "steps"), [(0.3, 0.3, 3), (1.25, 1.25, 4), (-2.4, -2.4, 5), (9.0, 4.0, 6), (-9.0, -4.0, 6)]
)
def test_the_maximum_is_walked_to(place: float, found: float, steps: int) -> None:
    position, tried = maximum(lambda step: 40 - (step - place) ** 2)
    assert position == pytest.approx(found)
    assert len(tried) == steps


def test_a_function_without_a_slope_stays_where_it_is() -> None:
    assert maximum(lambda step: 1.0) == (0, {0: 1.0, -1: 1.0, 1: 1.0})
