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
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.data import find_studies
from monai_lipcar.dicom.importing import Imported, find_examinations, import_examination
from monai_lipcar.dicom.rules import load_rules
from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.errors import StudyError
from monai_lipcar.physics import Acquisition

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


def names(folder: Path, **options) -> list[str]:
    """What the examinations in a folder are called."""
    return [one.study_id for one in find_examinations(folder, scan_folder(folder), **options)]


def imported(folder: Path, out: Path, **options) -> Imported:
    """The one examination of a folder, imported."""
    (examination,) = find_examinations(folder, scan_folder(folder))
    return import_examination(examination, out, load_rules(), Acquisition(), **options)


@pytest.fixture
def exam(tmp_path, array, oblique, write_series) -> Path:
    """A folder with pre and low."""
    folder = tmp_path / "exam"
    write_series(folder, array, oblique, "T1 pre", 1)
    write_series(folder, array + 1, oblique, "T1 low", 2, time="102000")
    return folder


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["."], ["cohort"]),
        (["a"], ["a"]),
        (["a/x", "b/DICOM/y"], ["a", "b"]),
        (["a", "a"], ["study-", "study-"]),
        ([".", "b"], ["b", "study-"]),
        (["inputs", "Doe"], ["study-", "study-"]),
        (["4711 HOSP-4711", "x..y"], ["study-", "study-"]),
    ],
)
def test_names(places, expected, tmp_path, array, oblique, write_series) -> None:
    root = tmp_path / "cohort"
    for number, place in enumerate(places):
        write_series(root / place, array, oblique, study=f"study {number}", seed=number)
    found = names(root)
    assert len(set(found)) == len(places)
    assert [name if not name.startswith("study-") else "study-" for name in found] == expected
    assert found == names(root)


def test_series_in_folders_of_their_own_are_one_examination(tmp_path, array, oblique, write_series) -> None:
    for number in (1, 2):
        write_series(tmp_path / "exam" / f"series{number}", array, oblique, number=number)
    assert names(tmp_path / "exam") == ["exam"]
    assert names(tmp_path) == ["exam"]


def test_what_is_written(exam, tmp_path, array, oblique) -> None:
    one = imported(exam, tmp_path / "out")
    folder = tmp_path / "out" / "exam"
    assert sorted(path.name for path in folder.iterdir()) == [
        "acquisition.json",
        "low.nii.gz",
        "pre.nii.gz",
        "series.json",
    ]
    for name, values in (("pre", array), ("low", array + 1)):
        volume = nib.load(folder / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(volume.dataobj), values)
        np.testing.assert_allclose(volume.affine, oblique, atol=1e-5)
    (study,) = find_studies(tmp_path / "out")
    assert (study, study.acquisition) == (one.study, one.study.acquisition)
    assert one.study.acquisition == Acquisition(repetition_time_ms=360, echo_time_ms=5.51)


def test_what_is_there_stays_and_what_changed_is_read_again(exam, tmp_path, array, oblique, write_series) -> None:
    low = tmp_path / "out" / "exam" / "low.nii.gz"
    imported(exam, tmp_path / "out")
    first = low.stat().st_mtime_ns
    imported(exam, tmp_path / "out")
    assert low.stat().st_mtime_ns == first
    (low.parent / "series.json").unlink()  # as after a kill in between
    (low.parent / ".partial-low.nii.gz").write_text("half a volume")
    imported(exam, tmp_path / "out")
    assert low.stat().st_mtime_ns != first
    assert not (low.parent / ".partial-low.nii.gz").exists()
    for file in scan_folder(exam)[1].files:
        file.unlink()
    write_series(exam, array + 7, oblique, "T1 low", 2, time="102000", seed=1)
    imported(exam, tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(nib.load(low).dataobj), array + 7)


def test_a_file_of_the_same_size_with_other_pixels_is_read_again(exam, tmp_path, array) -> None:
    imported(exam, tmp_path / "out")
    (series,) = (one for one in scan_folder(exam) if one.description == "T1 low")
    content = series.files[0].read_bytes()
    series.files[0].write_bytes(content[:-2] + b"\xff\x0e")
    imported(exam, tmp_path / "out")
    low = np.asarray(nib.load(tmp_path / "out" / "exam" / "low.nii.gz").dataobj)
    assert (low != array + 1).sum() == 1


def test_damaged_images_beside_a_series_are_noted(exam, tmp_path, caplog) -> None:
    for one in scan_folder(exam):  # the same slice of both: what is left is a volume
        place = max(one.files, key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))
        place.write_bytes(place.read_bytes()[:700])
    imported(exam, tmp_path / "out")
    (note,) = json.loads((tmp_path / "out" / "exam" / "series.json").read_text())["notes"]
    assert note == "2 damaged DICOM images beside its series were left out: slices may be missing at an end"
    assert [record.levelname for record in caplog.records if note in record.message] == ["WARNING"]


def test_series_of_different_sequences(tmp_path, array, oblique, write_series, caplog) -> None:
    write_series(tmp_path / "exam", array, oblique, "T1 pre", 1, RepetitionTime="500")
    write_series(tmp_path / "exam", array, oblique, "T1 low", 2)
    by_number = {one.header.SeriesNumber: one.uid for one in scan_folder(tmp_path / "exam")}
    one = imported(tmp_path / "exam", tmp_path / "out", uids={"pre": by_number[1], "low": by_number[2]})
    assert one.study.acquisition == Acquisition(repetition_time_ms=360, echo_time_ms=5.51)
    (note,) = json.loads((tmp_path / "out" / "exam" / "series.json").read_text())["notes"]
    assert "low and pre were acquired differently (spin echo, TR 360 ms, TE 5.51 ms; spin echo, TR 500 ms" in note
    assert f"study exam: {note}" in caplog.messages


def test_a_member_that_is_only_to_score_may_be_unreadable(exam, tmp_path, array, oblique, write_series) -> None:
    write_series(exam, array, oblique, "T1 full dose", 3, time="103000", drop=(1,))
    rules = load_rules()
    (examination,) = find_examinations(exam, scan_folder(exam))
    with pytest.raises(StudyError, match="study exam, high: "):
        import_examination(
            examination,
            tmp_path / "out",
            rules,
            Acquisition(),
            uids={"high": examination.series[2].uid},
            required=("high",),
        )
    one = import_examination(
        examination, tmp_path / "out", rules, Acquisition(), uids={"high": examination.series[2].uid}
    )
    assert sorted(one.study.members) == ["low", "pre"]
    assert sorted(one.picks) == ["low", "pre"]
    (note,) = json.loads((tmp_path / "out" / "exam" / "series.json").read_text())["notes"]
    assert note.startswith("high was left out: the slices of series 3")


def test_a_disk_that_cannot_be_written_to(exam, tmp_path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StudyError, match=r"study exam: the volumes cannot be written to out/exam \(Not a directory\)"):
        imported(exam, tmp_path / "out")
