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
"""The dose fraction of a study: its file, a datalist, and what is no dose fraction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data.datalist import load_datalist, write_datalist
from monai_lipcar.data.dose import DOSE_FILE, read_dose, write_dose
from monai_lipcar.data.studies import find_studies
from monai_lipcar.errors import StudyError


def test_a_study_says_its_dose_fraction_and_a_datalist_keeps_it(tmp_path: Path, write_study: Any) -> None:
    for name in ("s-1", "s-2"):
        write_study(tmp_path / "data" / name)
    write_dose(tmp_path / "data" / "s-1", 0.125, {"agent": "some"})
    assert json.loads((tmp_path / "data" / "s-1" / DOSE_FILE).read_text()) == {"dose_fraction": 0.125, "agent": "some"}
    studies = find_studies(tmp_path / "data")
    assert [study.dose_fraction for study in studies] == [0.125, None]
    assert studies[0].without("high").dose_fraction == 0.125
    write_datalist(tmp_path / "datalist.json", {"training": studies})
    assert [study.dose_fraction for study in load_datalist(tmp_path / "datalist.json", "training")] == [0.125, None]


@pytest.mark.parametrize("value", [0, -0.2, 1.5, "0.2", True, None, float("nan")])
def test_what_is_no_dose_fraction_fails_its_study_alone(tmp_path: Path, write_study: Any, value: Any) -> None:
    for name in ("s-1", "s-2"):
        write_study(tmp_path / "data" / name)
    (tmp_path / "data" / "s-1" / DOSE_FILE).write_text(json.dumps({"dose_fraction": value}))
    first, second = find_studies(tmp_path / "data")
    with pytest.raises(StudyError, match=r"study s-1, dose.json: expected 'dose_fraction', low dose over high dose"):
        first.check()
    second.check()


def test_files_that_are_no_note(tmp_path: Path) -> None:
    assert read_dose(tmp_path) is None
    (tmp_path / DOSE_FILE).write_text("{")
    with pytest.raises(StudyError, match="not readable as JSON"):
        read_dose(tmp_path)
    (tmp_path / DOSE_FILE).write_text("[0.2]")
    with pytest.raises(StudyError, match="got None"):
        read_dose(tmp_path)


def test_a_datalist_with_a_wrong_dose_fraction(tmp_path: Path) -> None:
    entries = [{"study_id": "a", "pre": "p.nii", "low": "l.nii", "dose_fraction": 20}]
    (tmp_path / "datalist.json").write_text(json.dumps({"test": entries}))
    (study,) = load_datalist(tmp_path / "datalist.json", "test")
    with pytest.raises(StudyError, match=r"study a, datalist.json: .* in \(0, 1\], got 20"):
        study.check()
