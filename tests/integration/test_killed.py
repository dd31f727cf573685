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
"""Runs that are killed at any moment, lose a worker, meet a wrong clock or a locked file: nothing is lost."""

from __future__ import annotations

import csv
import gzip
import json
import multiprocessing
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from monai_lipcar.bundle import run_studies
from monai_lipcar.data.phantom import write_cohort

QUICK = ["--bundle", "physics_tv", "--max-iterations", "3", "--device", "cpu"]

Run = Callable[..., tuple[int, float, str]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and takes privileges away as on Linux")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small studies."""
    folder = tmp_path_factory.mktemp("cohort") / "data"
    options = {"shape": (64, 64, 3)}  # so few slices that no motion is looked for, which takes most of the time
    write_cohort(folder, "random", 2, seed=5, anatomy_options=options, progress=False)
    return folder


def results(out: Path) -> dict[str, Any]:
    """What a run has written, without the times that it recorded, the pages that show them, and hidden files."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.suffix in (".html", ".png", ".csv") and path.name != "metrics.csv":
            found[name] = path.stat().st_size > 100
        elif path.name == "result.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(run: Run, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], float]]:
    """Results of runs that nothing interrupted, and how long they took."""
    made = {}
    for verb in ("run", "evaluate"):
        out = tmp_path_factory.mktemp(verb) / "out"
        status, seconds, log = run(verb, cohort, out, *QUICK)
        assert status == 0, log
        made[verb] = (results(out), seconds)
    return made


@pytest.mark.parametrize("moments", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(moments: int, run: Run, whole: dict, cohort: Path, tmp_path: Path) -> None:
    rng = random.Random(moments)
    killed = 0
    for number in range(moments):
        verb = ("evaluate", "run")[number % 2]
        expected, seconds = whole[verb]
        out = tmp_path / f"out{number}"
        status, _, _ = run(verb, cohort, out, *QUICK, kill_after=rng.uniform(0.02, 0.98) * seconds)
        killed += status == -9
        # a result that is there is whole, before anything repairs it
        there = results(out) if out.exists() else {}
        finished = [name for name in there if name.endswith("result.json")]
        for name in finished:
            volumes = {other: there[other] for other in there if other.startswith(f"{name.split('/')[0]}/")}
            assert {key: volumes[key] for key in volumes if not key.endswith((".html", ".png"))} == {
                key: value
                for key, value in expected.items()
                if key.startswith(f"{name.split('/')[0]}/") and not key.endswith((".html", ".png"))
            }
        stamps = {name: (out / name).stat().st_mtime_ns for name in finished}
        status, _, log = run(verb, cohort, out, *QUICK)
        assert status == 0, log
        assert results(out) == expected
        assert {name: (out / name).stat().st_mtime_ns for name in finished} == stamps
    assert killed > moments // 2


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    """Without what takes the time."""
    return {"max_iterations": 3, "device": "cpu", "registration_policy": "none", "match_intensity": False}


def test_a_worker_that_is_killed(
    cohort: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    data = Path(shutil.copytree(cohort, tmp_path / "data"))
    (data / "damaged").mkdir()
    for name in ("pre", "low", "high"):
        (data / "damaged" / f"{name}.nii.gz").write_bytes(gzip.compress(b"no image"))
    alone = run_studies("physics_tv", data, tmp_path / "one", "evaluate.json", **options)
    assert alone.status == 1
    killed = []

    def kill() -> None:
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        victim = multiprocessing.active_children()[0]
        victim.kill()
        killed.append(victim.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    caplog.clear()
    shared = run_studies("physics_tv", data, tmp_path / "two", "evaluate.json", workers=2, **options)
    killer.join()
    assert len(killed) == 1
    assert shared == alone
    assert results(tmp_path / "two") == results(tmp_path / "one")
    warnings = [one.message for one in caplog.records if "worker ended" in one.message]
    assert warnings == ["a worker ended before its work was done (exit status -9); what it left is done now"]
    assert len([one for one in caplog.records if one.message.startswith("study damaged, pre.nii.gz: ")]) == 1


def test_results_and_what_is_finished_do_not_depend_on_the_clock(
    cohort: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    inputs = [path for path in cohort.rglob("*") if path.is_file()]
    for path in inputs:
        os.utime(path, (4e9, 4e9))  # the year 2096: they are younger than their results
    assert run_studies("physics_tv", cohort, out, **options).status == 0
    first = results(out)
    stamps = {}
    for moment in (0.0, 4e9):  # the results are older than anything, and younger
        for path in out.rglob("*"):
            os.utime(path, (moment, moment))
        stamps = {path: path.stat().st_mtime for path in out.rglob("*.nii.gz")}
        assert run_studies("physics_tv", cohort, out, **options).status == 0
        assert {path: path.stat().st_mtime for path in out.rglob("*.nii.gz")} == stamps
    for path in inputs:
        os.utime(path, (0.0, 0.0))
    assert run_studies("physics_tv", cohort, tmp_path / "again", **options).status == 0
    assert results(tmp_path / "again") == first


def test_a_file_that_may_not_be_read(run: Run, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "locked").mkdir(parents=True)
    (tmp_path / "data" / "closed").mkdir()
    source = sorted(cohort.glob("random-*"))[0]
    for study in ("locked", "good"):
        (tmp_path / "data" / study).mkdir(exist_ok=True)
        for name in ("pre", "low"):
            nib.save(nib.load(source / f"{name}.nii.gz"), tmp_path / "data" / study / f"{name}.nii.gz")
    (tmp_path / "data" / "locked" / "low.nii.gz").chmod(0)
    (tmp_path / "data" / "closed").chmod(0)
    out = tmp_path / "out"
    lines = tmp_path / "logs" / "run.jsonl"
    status, _, log = run("run", tmp_path / "data", out, *QUICK, "--log_file", lines, humble=True)
    (tmp_path / "data" / "closed").chmod(0o700)
    assert status == 1
    assert "Traceback" not in log
    line = "study locked, low.nii.gz: the file cannot be read: Permission denied; see to it that it can be opened, then"
    assert line in log
    assert "study closed: " in log
    assert "closed cannot be read: Permission denied" in log
    assert (out / "good" / "report.html").is_file()
    records = [json.loads(one) for one in lines.read_text().splitlines()]
    (failure,) = [one for one in records if one["level"] == "error" and one.get("study") == "locked"]
    assert failure["message"].startswith(line)
    assert any(one.get("study") == "good" and "high_sim.nii.gz" in one["message"] for one in records)
    with open(out / "studies.csv", newline="", encoding="utf-8") as file:
        rows = {row["study_id"]: row for row in csv.DictReader(file)}
    assert {name: row["level"] for name, row in rows.items() if name != "good"} == {
        "closed": "failed",
        "locked": "failed",
    }
    assert rows["locked"]["reasons"].startswith("low.nii.gz: the file cannot be read: Permission denied")
    assert rows["good"]["report"] == "./good/report.html"
    assert float(rows["good"]["alpha"]) == 0.001
