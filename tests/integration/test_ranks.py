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
"""``torchrun -m monai_lipcar``: two processes share the studies, and leave what one alone would have left."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.bids import run_bids
from monai_lipcar.bundle import run_studies
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.handlers import read_failures

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, Any] = {"max_iterations": 3, "device": "cpu", "registration_policy": "raise"}
QUICK = ["--bundle", "physics_tv", "--max-iterations", "3", "--device", "cpu"]
OF_REPORTS = ("studies.csv", "manifest.json")
MADE = re.compile(r"\[default(\d)\]:study (\S+): \S+high_sim.nii.gz")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small studies."""
    folder = tmp_path_factory.mktemp("studies")
    options = {"shape": (64, 64, 3)}  # so few slices that no motion is looked for, which takes most of the time
    write_cohort(folder, "random", 3, seed=5, anatomy_options=options, progress=False)
    return folder


@pytest.fixture
def cohort(studies: Path, tmp_path: Path) -> Path:
    """These, and among them one that is no image."""
    folder = Path(shutil.copytree(studies, tmp_path / "data"))
    (folder / "random-0000-damaged").mkdir()
    for name in ("pre", "low", "high"):
        (folder / "random-0000-damaged" / f"{name}.nii.gz").write_bytes(gzip.compress(b"no image"))
    return folder


@pytest.fixture
def dataset(cohort: Path, tmp_path: Path) -> Path:
    """The same as a BIDS dataset."""
    root = tmp_path / "bids"
    for number, study in enumerate(sorted(path for path in cohort.iterdir() if path.is_dir()), 1):
        anat = root / f"sub-{number:02d}" / "anat"
        anat.mkdir(parents=True)
        for member, label in (("pre", ""), ("low", "_ce-low")):
            image = anat / f"sub-{number:02d}{label}_T1w.nii.gz"
            shutil.copy(study / f"{member}.nii.gz", image)
            sequence = {"RepetitionTime": 0.3 + 0.1 * (number // 4), "EchoTime": 0.005, "FlipAngle": 90}
            image.with_name(image.name.replace(".nii.gz", ".json")).write_text(
                json.dumps({**sequence, "ScanningSequence": "SE"})
            )
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Phantoms", "BIDSVersion": "1.10.0"}))
    return root


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as each process that ``torchrun`` starts has: how many decides the last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(*arguments: object) -> subprocess.Popen[str]:
    """``python -m monai_lipcar ARGUMENTS`` in two processes, whose lines begin with their rank."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--tee", "3"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    command = [*launch, "-m", "monai_lipcar", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def torchrun(*arguments: object) -> tuple[int, str]:
    """Exit status and output of :func:`start`."""
    with start(*arguments) as process:
        log, _ = process.communicate(timeout=600)
    return process.returncode, log


def results(out: Path) -> dict[str, Any]:
    """What a run has written, without the times that it recorded and the reports, which the command adds."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "result.json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
        elif path.is_file() and path.suffix not in (".html", ".png") and path.name not in OF_REPORTS:
            found[name] = path.read_bytes()
    return found


def test_two_processes_leave_what_one_leaves(cohort: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run_studies("physics_tv", cohort, one, **OPTIONS)
    assert (alone.status, len(alone.done)) == (1, 3)
    lines = tmp_path / "log.jsonl"
    status, log = torchrun("run", cohort, two, *QUICK, "--log-file", lines)
    assert status == 1
    assert "Traceback" not in "\n".join(line for line in log.splitlines() if line.startswith("[default"))

    made = MADE.findall(log)
    assert sorted(study for _, study in made) == sorted(alone.done)  # each once
    assert {rank for rank, _ in made} == {"0", "1"}
    assert results(two) == results(one)
    assert {*read_failures(two)} == {"random-0000-damaged"}
    with open(two / "studies.csv", newline="", encoding="utf-8") as file:
        assert {row["study_id"] for row in csv.DictReader(file)} == {*alone.done, "random-0000-damaged"}
    assert all((two / study / "report.html").is_file() for study in alone.done)
    assert log.count("study random-0000-damaged, pre.nii.gz: ") == 1
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sorted(one["study"] for one in told if "high_sim.nii.gz" in one["message"]) == sorted(alone.done)

    # what is finished stays as it is, whoever computed it
    stamps = {path: path.stat().st_mtime_ns for path in two.glob("*/high_sim.nii.gz")}
    assert run_studies("physics_tv", cohort, two, **OPTIONS).done == alone.done
    assert {path: path.stat().st_mtime_ns for path in two.glob("*/high_sim.nii.gz")} == stamps


@pytest.mark.slow
def test_two_processes_evaluate(studies: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_studies("physics_tv", studies, one, "evaluate.json", **OPTIONS).status == 0
    status, log = torchrun("evaluate", studies, two, *QUICK)
    assert status == 0, log
    assert results(two) == results(one)
    assert (two / "metrics.csv").read_text().count("\n") > 6


@pytest.mark.slow
def test_two_processes_on_a_bids_dataset(dataset: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run_bids("physics_tv", dataset, one, **OPTIONS)
    assert (alone.status, len(alone.done)) == (1, 3)
    status, log = torchrun("run", "--bids", dataset, two, *QUICK)
    assert status == 1
    assert sorted(study for _, study in MADE.findall(log)) == sorted(alone.done)
    found, expected = results(two), results(one)
    assert {*found} == {*expected}
    differing = [name for name in found if found[name] != expected[name]]
    assert [name for name in differing if not name.endswith("_T1w.json")] == []  # a checksum of the result, seconds too
    assert not list(two.rglob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes as on Linux")
def test_a_process_that_is_killed(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("run", studies, out, *QUICK) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 300
        while not list(out.glob("*/result.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (second,) = [
            int(pid)
            for pid in children.read_text().split()
            if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()
        ]
        os.kill(second, signal.SIGKILL)
        process.communicate(timeout=120)
    assert process.returncode != 0
    assert run_studies("physics_tv", studies, out, **OPTIONS).status == 0
    assert run_studies("physics_tv", studies, tmp_path / "alone", **OPTIONS).status == 0
    assert results(out) == results(tmp_path / "alone")


def test_what_the_first_refuses_ends_all(studies: Path, tmp_path: Path) -> None:
    status, log = torchrun("run", studies, tmp_path / "out", *QUICK, "--workers", "2")
    assert status == 1
    assert [line for line in log.splitlines() if "error: torchrun has started" in line] == [
        "[default0]:error: torchrun has started 2 processes that share the studies; leave workers out, got 2"
    ]
