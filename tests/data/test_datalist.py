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
from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data.datalist import list_studies, load_datalist, write_datalist
from monai_lipcar.data.studies import Study
from monai_lipcar.errors import ConfigurationError, StudyError


def _write(folder: Path, content: Any) -> Path:
    file = folder / "lists" / "datalist.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_relative_paths_start_from_the_datalist_or_from_dataset_dir(tmp_path: Path) -> None:
    file = _write(tmp_path, {"test": [{"study_id": "s", "pre": "s/a.nii", "low": "/data/b.nii"}], "numTest": 1})
    (study,) = load_datalist(file, "test")
    assert study == Study("s", {"pre": file.parent / "s/a.nii", "low": Path("/data/b.nii")})
    (study,) = load_datalist(file, "test", dataset_dir=tmp_path / "data")
    assert study.members["pre"] == tmp_path / "data" / "s" / "a.nii"


def test_study_is_called_like_its_folder(tmp_path: Path) -> None:
    file = _write(tmp_path, {"training": [{"pre": "sub-1/pre.nii", "low": "sub-1/low"}, {"pre": "../sub-2/x.nii"}]})
    first, second = load_datalist(file, "training")
    assert [first.study_id, second.study_id] == ["sub-1", "sub-2"]
    first_problems, second_problems = first.problems, second.problems
    assert not first_problems
    assert str(second_problems[0]).startswith("study sub-2, low: the volume is missing; there is pre")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"test": [{"pre": "s/pre.nii"}, {"pre": "s/other.nii"}]}, "study 's' is twice in test; give each"),
        ({"training": [{"pre": "s/p.nii"}], "test": [{"pre": "s/p.nii"}]}, "study 's' is in training and in test"),
        ({"training": [{"pre": "s/p.nii"}]}, "has no studies under 'test'; it has training: 1"),
        ({"test": []}, "has no studies under 'test'; it has test: 0"),
        ({"test": [{"image": "i.nii"}]}, r"test\[0\]: expected paths for pre, .*, got the keys \['image'\]"),
        ({"test": [{"pre": ["a.nii", "b.nii"]}]}, r"test\[0\]: expected paths .*got pre: \['a.nii', 'b.nii'\]"),
        ({"test": [{"study_id": "../s", "pre": "p.nii"}]}, r"test\[0\]: study id '../s' must not contain"),
        ({"test": [{"study_id": 7, "pre": "p.nii"}]}, r"test\[0\]: expected a printable study id, got 7"),
        ([1, 2], "expected an object with the keys training, validation, test"),
        ("{", "is not JSON"),
    ],
)
def test_unusable_datalists(sections: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_datalist(_write(tmp_path, sections), "test")


def test_no_datalist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere.json cannot be read: No such file"):
        load_datalist(tmp_path / "nowhere.json", "test")


def test_unknown_keys_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = _write(tmp_path, {"test": [{"pre": "s/p.nii", "low": "s/l.nii", "hgih": "s/h.nii"}]})
    with caplog.at_level(logging.WARNING):
        load_datalist(file, "test")
    assert "the keys ['hgih'] are ignored" in caplog.text


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    inside = Study("in", {"pre": tmp_path / "in" / "pre.nii", "low": tmp_path / "in" / "low"})
    outside = Study("out", {"pre": tmp_path.parent / "elsewhere" / "pre.nii", "low": tmp_path / "low.nii"})
    file = tmp_path / "datalist.json"
    write_datalist(file, {"training": [inside], "validation": [], "test": [outside]})
    assert json.loads(file.read_text())["training"] == [{"study_id": "in", "pre": "in/pre.nii", "low": "in/low"}]
    assert load_datalist(file, "training") == [inside]
    assert load_datalist(file, "test") == [outside]
    assert [path.name for path in tmp_path.iterdir()] == ["datalist.json"]


def test_relative_members_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study("s", {"pre": Path("data/s/pre.nii"), "low": Path("lists/low.nii")})
    write_datalist("lists/d.json", {"test": [study]})
    (study,) = load_datalist("lists/d.json", "test")
    assert study.members["pre"] == tmp_path / "data/s/pre.nii"
    assert study.members["low"].resolve() == tmp_path / "lists/low.nii"


def test_datalist_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_datalist(tmp_path / "file" / "datalist.json", {"test": []})


def test_missing_required_member_fails_when_checked(tmp_path: Path) -> None:
    file = _write(tmp_path, {"training": [{"study_id": "s", "pre": "p.nii", "low": "l.nii"}]})
    (study,) = load_datalist(file, "training", required=("pre", "low", "high"))
    with pytest.raises(StudyError, match="study s, high: the volume is missing; there is pre, low"):
        study.check()


def test_studies_of_a_folder_or_of_a_datalist(tmp_path: Path) -> None:
    entries = [{"study_id": name, "pre": f"{name}/pre.nii", "low": f"{name}/low.nii"} for name in "abc"]
    file = _write(tmp_path, {"training": entries[:2], "validation": [], "test": entries[2:], "labels": {}})
    assert [study.study_id for study in list_studies(file)] == ["a", "b", "c"]
    assert [study.study_id for study in list_studies(file, section="training")] == ["a", "b"]
    (tmp_path / "data" / "s").mkdir(parents=True)
    assert [study.study_id for study in list_studies(tmp_path / "data", section="training")] == ["s"]
    with pytest.raises(ConfigurationError, match="has no studies under 'test'; it has no section"):
        list_studies(_write(tmp_path, {}))
    with pytest.raises(ConfigurationError, match="is not JSON"):
        list_studies(_write(tmp_path, "no JSON"))
