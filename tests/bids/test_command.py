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
"""``python -m monai_lipcar run --bids``."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_session) -> Path:
    """A dataset whose names do not tell the doses."""
    names = {"pre": "_T1w", "low": "_ce-gd_run-1_T1w", "high": "_ce-gd_run-2_T1w"}
    return write_session(tmp_path_factory.mktemp("bids") / "ds", "sub-01", names)


def test_run(command, dataset, tmp_path) -> None:
    out = tmp_path / "out"
    arguments = ("run", "--bids", dataset, out, "--bundle", "physics_tv", "--device", "cpu")
    ended = command(*arguments)
    assert ended.status == 1
    assert "no image says that its dose is reduced" in (out / "sourcedata/monai_lipcar/failures.json").read_text()
    chosen = ("--low-entities", "ce-gd_run-1", "--high-entities", "ce-gd_run-2", "--also", "residual")
    ended = command(*arguments, *chosen)
    assert ended.status == 0
    assert f"BIDS derivative: {out}" in ended.out
    assert "SSIM, head" in ended.out  # high was found
    results = out / "sourcedata" / "monai_lipcar"
    assert (results / "sub-01" / "report.html").is_file()
    assert not (results / "failures.json").exists()
    assert {path.name for path in (out / "sub-01" / "anat").glob("*.nii.gz")} == {
        "sub-01_ce-gd_run-1_desc-residual_T1w.nii.gz",
        "sub-01_ce-gd_run-2_desc-simulated_T1w.nii.gz",
    }
    ended = command("report", results)  # later, from the results alone
    assert ended.status == 0


def test_options_that_do_not_go_together(command, dataset, tmp_path) -> None:
    for options in (("--low-entities", "ce-gd"), ("--bids", "--low-uid", "1.2"), ("--bids", "--no-dicom")):
        ended = command("run", dataset, tmp_path / "out", *options)
        assert ended.status == 1
        assert "are for DICOM, entities for --bids" in ended.err
    ended = command("run", "--bids", dataset, tmp_path / "out", "--low-entities", "low")
    assert ended.status == 1
    assert ended.err.startswith("error: expected entities as in a BIDS file name, such as ce-low")
