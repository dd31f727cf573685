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
"""What a page tells of the DICOM series that were taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_lipcar.data import Study
from monai_lipcar.report.series import picked_series

ENTRY = {"description": "T1 low <b>", "images": 24, "reason": "its UID was given", "series_uid": "1.2"}


def study_in(folder: Path, content: object) -> Study:
    (folder / "series.json").write_text(json.dumps(content))
    return Study("s", {name: folder / f"{name}.nii.gz" for name in ("pre", "low")})


def test_a_line_for_each_member(tmp_path: Path) -> None:
    members = {"low": ENTRY, "pre": {**ENTRY, "images": 1}, "high": ENTRY}
    lines, notes = picked_series(study_in(tmp_path, {"members": members, "notes": ["acquired differently"]}))
    assert lines == {
        "low": 'DICOM series "T1 low <b>", 24 images; its UID was given',
        "pre": 'DICOM series "T1 low <b>", 1 image; its UID was given',
    }
    assert notes == ["acquired differently"]


@pytest.mark.parametrize("content", [5, [], {}, {"members": {"low": 3}, "notes": []}, {"members": {"low": {}}}])
def test_a_file_that_something_else_wrote(content: object, tmp_path: Path) -> None:
    assert picked_series(study_in(tmp_path, content)) == ({}, [])


def test_volumes_that_do_not_come_from_dicom(tmp_path: Path) -> None:
    assert picked_series(Study("s", {"pre": tmp_path / "pre.nii.gz"})) == ({}, [])
    assert picked_series(Study("s", {"pre": tmp_path / "a" / "1.nii", "low": tmp_path / "b" / "1.nii"})) == ({}, [])
