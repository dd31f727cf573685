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
"""``python -m monai_lipcar run`` on DICOM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monai_lipcar.dicom import scan_folder

pytest.importorskip("highdicom")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, write_examination) -> Path:
    """One examination, with the full dose too."""
    folder = tmp_path_factory.mktemp("cohort")
    write_examination(folder / "exam", members=("pre", "low", "high"))
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "monai_lipcar", "run", *map(str, arguments), "--bundle", "physics_tv"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)


def test_folder_of_an_examination(cohort, tmp_path) -> None:
    uids = {one.header.SeriesNumber: one.uid for one in scan_folder(cohort)}
    rules = tmp_path / "rules.yaml"
    rules.write_text("low: [{SeriesNumber: '^5$'}]\nhigh: [{SeriesNumber: '^7$'}]\n")
    out = tmp_path / "out"
    ended = run(cohort / "exam", out, "--series-rules", rules, "--pre-uid", uids[3], "--also", "residual")
    assert ended.returncode == 0, ended.stderr
    assert 'study exam: low is series 5 "T1 SE low dose" (4 images, 10:20:00, UID ' in ended.stderr
    assert "(rule 1: SeriesNumber matches its pattern)" in ended.stderr
    assert "study exam: pre is series 3" in ended.stderr
    assert "(its UID was given)" in ended.stderr
    assert f"  DICOM series      {out / 'exam' / 'dicom'}" in ended.stdout
    assert "SSIM, head" in ended.stdout  # high was found, so there are metrics
    assert {one.description.partition(",")[0] for one in scan_folder(out / "exam" / "dicom")} == {
        "Simulated high dose",
        "Residual of simulation",
    }
    assert (out / "exam" / "report.html").is_file()
    assert "Doe" not in ended.stdout + ended.stderr


def test_no_dicom(cohort, tmp_path) -> None:
    ended = run(cohort, tmp_path, "--no-dicom")
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "exam" / "dicom").exists()


def test_what_cannot_be_run_is_one_line(cohort, tmp_path) -> None:
    ended = run(cohort / "exam", tmp_path / "out", "--low-uid", "1.2.3")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("study exam, low: ")]
    assert line.startswith("study exam, low: there is no series with the UID 1.2.3: series 3 ")
    rules = tmp_path / "rules.yaml"
    rules.write_text("low: 5")
    ended = run(cohort / "exam", tmp_path / "out", "--series-rules", rules)
    assert ended.returncode == 1
    assert "error: series rules rules.yaml, low: expected a list of rules, got 5" in ended.stderr
