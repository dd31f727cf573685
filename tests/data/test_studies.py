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
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.data.datalist import load_datalist
from monai_lipcar.data.studies import Study, find_studies
from monai_lipcar.errors import ConfigurationError, StudyError


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _images(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), path)


def test_finds_members_of_every_format_in_order(tmp_path: Path) -> None:
    _touch(
        tmp_path / "b" / "low.nii",
        tmp_path / "b" / "pre.nii.gz",
        tmp_path / "b" / "high.nrrd",
        tmp_path / "b" / "lesion.mha",
        tmp_path / "b" / "pre.json",
        tmp_path / "a" / "pre" / "1.dcm",
        tmp_path / "a" / "low" / "1.dcm",
        tmp_path / "cohort.json",
        tmp_path / ".cache" / "pre.nii.gz",
    )
    first, second = find_studies(tmp_path)
    assert (first.study_id, second.study_id) == ("a", "b")
    assert first.to_dict() == {"study_id": "a", "pre": str(tmp_path / "a/pre"), "low": str(tmp_path / "a/low")}
    assert list(second.to_dict()) == ["study_id", "pre", "low", "high", "lesion"]
    assert not first.problems
    assert not second.problems


def test_missing_member_is_listed_and_says_so(tmp_path: Path) -> None:
    _images(tmp_path / "good" / "pre.nii", tmp_path / "good" / "low.nii")
    _touch(tmp_path / "s" / "pre.nii", tmp_path / "s" / "LOW.nii")
    good, bad = find_studies(tmp_path)
    good.check(("pre", "low"))
    with pytest.raises(StudyError) as caught:
        bad.check()
    expected = "study s, low: the volume is missing; there is LOW.nii, pre.nii; add low.nii.gz"
    assert str(caught.value).startswith(expected)
    assert find_studies(tmp_path, required=("pre",))[1].problems == ()


def test_empty_study_folder_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (study,) = find_studies(tmp_path)
    with pytest.raises(StudyError, match="study s, pre: the volume is missing; there is nothing"):
        study.check()


def test_two_files_of_one_member(tmp_path: Path) -> None:
    _touch(tmp_path / "s" / "pre.nii", tmp_path / "s" / "pre" / "1.dcm", tmp_path / "s" / "low.nii")
    (study,) = find_studies(tmp_path)
    assert "pre" not in study.members
    with pytest.raises(StudyError, match=r"study s, pre: expected one volume, found pre, pre\.nii; keep one of them"):
        study.check()


def test_check_asks_for_what_is_required_and_for_files_that_exist(tmp_path: Path) -> None:
    _images(tmp_path / "pre.nii")
    study = Study("s", {"pre": tmp_path / "pre.nii", "low": tmp_path / "gone.nii"})
    with pytest.raises(StudyError, match="study s, high: the volume is missing; there is low, pre"):
        study.check(("pre", "high"))
    with pytest.raises(StudyError, match=r"study s, low: .*gone\.nii does not exist; correct the path"):
        study.check()


def test_check_names_the_faulty_file(tmp_path: Path) -> None:
    (tmp_path / "s" / "low").mkdir(parents=True)
    _images(tmp_path / "s" / "pre.nii")
    (study,) = find_studies(tmp_path)
    with pytest.raises(StudyError, match="study s, low: the folder holds no DICOM files"):
        study.check()


@pytest.mark.parametrize(
    ("study_id", "reason"),
    [
        ("../x", 'must not contain "/"'),
        ("/etc", 'must not contain "/"'),
        ("a\\b", 'must not contain "/"'),
        ("..", 'must not contain "/"'),
        (".", 'must not contain "/"'),
        ("", "expected a printable study id"),
        ("  ", "expected a printable study id"),
        ("a\0b", "expected a printable study id"),
        ("a\nb", "expected a printable study id"),
        ("\udce4", "expected a printable study id"),
        ("\u202eb", "expected a printable study id"),
        ("x" * 201, "expected a study id of at most 200 bytes, got 201: 'xxx"),
        ("ä" * 101, "expected a study id of at most 200 bytes, got 202: "),
        ("a:b", "which Windows could not have"),
        ("a?", "which Windows could not have"),
        ("a.", "which Windows could not have"),
        ("nul.1", "which Windows could not have"),
        ("COM1", "which Windows could not have"),
    ],
)
def test_ids_that_cannot_name_a_folder(study_id: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as caught:
        Study(study_id, {})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"study_id": study_id, "pre": "pre.nii"}]}))
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        load_datalist(tmp_path / "list.json", "test")


def test_a_folder_whose_name_cannot_be_used_fails_alone(tmp_path: Path) -> None:
    for name in (b"good", b"line\nbreak", b"undecodable\xe4", b"a:b"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        for member in (b"pre.nii", b"low.nii"):
            with open(os.path.join(folder, member), "wb"):
                pass
    studies = {study.study_id: study for study in find_studies(tmp_path)}
    assert len(studies) == 4
    assert not studies.pop("good").problems
    for study_id, study in studies.items():
        assert re.fullmatch("study-[0-9a-f]{12}", study_id)
        with pytest.raises(StudyError, match=f"study {study_id}: the name of its folder cannot be used: .*; rename"):
            study.check()


def test_wrong_dataset_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere cannot be read: No such file.*<study_id>/pre\.nii\.gz"):
        find_studies(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="no study found in .*; expected <study_id>"):
        find_studies(tmp_path)
    _touch(tmp_path / "pre.nii.gz", tmp_path / "low.nii.gz")
    with pytest.raises(ConfigurationError, match=r"is a study \(low\.nii\.gz, pre\.nii\.gz\).*give the one above"):
        find_studies(tmp_path)
    with pytest.raises(ConfigurationError, match="Not a directory"):
        find_studies(tmp_path / "pre.nii.gz")


@pytest.mark.parametrize("study_id", ["", " ", ".", "..", "../out", "a/b", "a\\b", "a\nb", "a\0b", "x..y"])
def test_ids_that_are_no_folder_name(study_id: str) -> None:
    with pytest.raises(ConfigurationError, match="study id"):
        Study(study_id, {})


def test_unknown_member() -> None:
    with pytest.raises(ConfigurationError, match=r"study s: expected members among .*got \['post'\]"):
        Study("s", {"post": Path("post.nii")})
