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
"""How a study was acquired: its file, a datalist, and what is no acquisition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data.acquisition import ACQUISITION_FILE, read_acquisition, write_acquisition
from monai_lipcar.data.datalist import load_datalist, write_datalist
from monai_lipcar.data.studies import find_studies
from monai_lipcar.errors import StudyError
from monai_lipcar.physics import Acquisition

GRADIENT_ECHO = Acquisition(0.125, repetition_time_ms=8.0, echo_time_ms=3.0, flip_angle_deg=15.0, r1=5.0, r2=7.0)


def test_a_study_says_how_it_was_acquired_and_a_datalist_keeps_it(tmp_path: Path, write_study: Any) -> None:
    for name in ("s-1", "s-2", "s-3"):
        write_study(tmp_path / "data" / name)
    write_acquisition(tmp_path / "data" / "s-1", GRADIENT_ECHO, {"scanner": "some"})
    (tmp_path / "data" / "s-3" / ACQUISITION_FILE).write_text('{"dose_fraction": 0.5}')
    assert json.loads((tmp_path / "data" / "s-1" / ACQUISITION_FILE).read_text())["scanner"] == "some"
    studies = find_studies(tmp_path / "data")
    expected = [GRADIENT_ECHO, None, Acquisition(0.5)]
    assert [study.acquisition for study in studies] == expected
    assert studies[0].without("high").acquisition == GRADIENT_ECHO
    write_datalist(tmp_path / "datalist.json", {"training": studies})
    assert [study.acquisition for study in load_datalist(tmp_path / "datalist.json", "training")] == expected


@pytest.mark.parametrize("value", [0, -0.2, 1.5, "0.2", True, None, float("nan")])
def test_what_is_no_dose_fraction_fails_its_study_alone(tmp_path: Path, write_study: Any, value: Any) -> None:
    for name in ("s-1", "s-2"):
        write_study(tmp_path / "data" / name)
    (tmp_path / "data" / "s-1" / ACQUISITION_FILE).write_text(json.dumps({"dose_fraction": value}))
    first, second = find_studies(tmp_path / "data")
    with pytest.raises(StudyError, match=r"study s-1, acquisition.json: dose_fraction: expected"):
        first.check()
    second.check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("[0.2]", r"expected an object with 'dose_fraction', got \[0.2\]"),
        ('{"dose": 0.2}', r"expected 'dose_fraction', got the keys \['dose'\]"),
        ('{"dose_fraction": 0.2, "echo_time_ms": 400}', "expected 0 <= echo time < repetition time"),
        ('{"dose_fraction": 0.2, "r1": "high"}', "r1: expected a number, got 'high'"),
    ],
)
def test_files_that_are_no_note(tmp_path: Path, content: str, message: str) -> None:
    assert read_acquisition(tmp_path) is None
    (tmp_path / ACQUISITION_FILE).write_text(content)
    with pytest.raises(StudyError, match=message):
        read_acquisition(tmp_path)


def test_a_datalist_with_a_wrong_dose_fraction(tmp_path: Path) -> None:
    entry = {"study_id": "a", "pre": "p.nii", "low": "l.nii", "acquisition": {"dose_fraction": 20}}
    (tmp_path / "datalist.json").write_text(json.dumps({"test": [entry]}))
    (study,) = load_datalist(tmp_path / "datalist.json", "test")
    with pytest.raises(StudyError, match=r"study a, datalist.json: dose_fraction: .* in \(0, 1\], got 20"):
        study.check()
