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
"""The list of studies that gave no result: kept up to date over runs, and without folders of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_lipcar.data import Study
from monai_lipcar.errors import StudyError
from monai_lipcar.handlers import FAILURES_FILE, add_failures, read_failures
from monai_lipcar.handlers.failed import write_failures


def study(study_id: str, folder: Path | None = None) -> Study:
    return Study(study_id, {} if folder is None else {"low": folder / study_id / "low.nii.gz"})


def test_a_run_replaces_what_it_was_asked_for_and_keeps_the_rest(tmp_path: Path) -> None:
    one, two, three = (study(name) for name in ("sub-01", "sub-02", "sub-03"))
    write_failures(tmp_path, [one, two], [StudyError("empty", study="sub-01"), StudyError("dark", study="sub-02")])
    write_failures(tmp_path, [two, three], [StudyError("bright", study="sub-03", member="low", advice="look at it")])
    assert read_failures(tmp_path) == {"sub-01": "empty", "sub-03": "low: bright; look at it"}
    assert json.loads((tmp_path / FAILURES_FILE).read_text())["schema_version"] == "1.0"


def test_without_failures_there_is_no_file(tmp_path: Path) -> None:
    write_failures(tmp_path, [study("sub-01")], [StudyError("empty", study="sub-01")])
    write_failures(tmp_path, [study("sub-01")], [])
    assert list(tmp_path.iterdir()) == []
    assert read_failures(tmp_path) == {}


def test_no_folder_of_this_machine_is_named(tmp_path: Path) -> None:
    data, out = tmp_path / "jane-doe" / "data", tmp_path / "jane-doe" / "out"
    out.mkdir(parents=True)
    errors = [
        StudyError(f"{out / 'sub-01'} holds the result of another run", study="sub-01"),
        StudyError(f"cannot read {data / 'sub-02' / 'low.nii.gz'} in {data / 'sub-02'}", study="sub-02"),
    ]
    write_failures(out, [study("sub-01", data), study("sub-02", data)], errors)
    assert read_failures(out) == {
        "sub-01": "out/sub-01 holds the result of another run",
        "sub-02": "cannot read low.nii.gz in sub-02",
    }
    assert "jane" not in (out / FAILURES_FILE).read_text()


def test_studies_that_could_not_be_read_are_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_failures(tmp_path, [study("sub-01")], [StudyError("empty", study="sub-01")])
    add_failures(tmp_path, [StudyError("no series", study="sub-02", member="low")])
    assert read_failures(tmp_path) == {"sub-01": "empty", "sub-02": "low: no series"}
    (tmp_path / "file").touch()
    add_failures(tmp_path / "file", [StudyError("no series", study="sub-02")])
    (line,) = caplog.messages
    assert line.startswith(f"the list of failed studies cannot be written to {tmp_path / 'file'} (")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"failures": 3}', '{"failures": null}', "null"])
def test_a_damaged_list_is_no_list(content: str, tmp_path: Path) -> None:
    (tmp_path / FAILURES_FILE).write_text(content)
    assert read_failures(tmp_path) == {}
