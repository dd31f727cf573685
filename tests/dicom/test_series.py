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

from pathlib import Path

import pytest

from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.errors import ConfigurationError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


def test_mixed_series_under_any_names(tmp_path, array, oblique, sagittal, write_series, caplog) -> None:
    write_series(tmp_path / "a", array, oblique, "T1w", 2, time="101500")
    write_series(tmp_path / "a", array, sagittal, "T2w", 1, time="101000")
    write_series(tmp_path / "b" / "c", array[:, :, :3], oblique, "T1w", 2, study="other")
    (tmp_path / "a" / "notes of Doe.txt").write_text("not DICOM")
    (tmp_path / "a" / "empty").touch()
    (tmp_path / "a" / ".hidden").write_text("not looked at")
    damaged = tmp_path / "a" / "damaged"
    damaged.write_bytes(write_series(tmp_path / "d", array, oblique, "T1w", 9)[0].read_bytes()[:700])
    for file in (tmp_path / "d").iterdir():
        file.unlink()
    report = pydicom.dcmread(next(file for file in (tmp_path / "b" / "c").iterdir()))
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    report.save_as(tmp_path / "report")
    with caplog.at_level("INFO"):
        series = scan_folder(tmp_path)
    assert sorted((one.description, one.frames, len(one.files)) for one in series) == [
        ("T1w", 3, 3),
        ("T1w", 5, 5),
        ("T2w", 5, 5),
    ]
    assert len({one.study_uid for one in series}) == 2
    assert "2 files ignored: not DICOM" in caplog.messages
    assert "1 file ignored: DICOM objects without an image" in caplog.messages
    assert "1 file ignored: damaged DICOM images" in caplog.messages
    assert "Doe" not in caplog.text


def test_how_messages_name_a_series(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, "T1 DOE Jane HOSP-4711 doeskin", 3, time="101502.5")
    (series,) = scan_folder(tmp_path)
    assert str(series) == f'series 3 "T1 *** *** *** doeskin" (5 images, 10:15:02, UID {series.uid})'
    assert series.acquired == "20260105101502.5"


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what was damaged
def test_what_damage_makes_of_a_header_stays_one_line(tmp_path, array, oblique, write_series) -> None:
    (file, *others) = write_series(tmp_path, array, oblique, "T1w of a head", 3)
    for other in others:
        other.unlink()
    content = file.read_bytes()
    uid = pydicom.dcmread(file).SeriesInstanceUID.encode()
    damaged = content.replace(uid, uid[:9] + b"\n" + uid[10:]).replace(b"T1w of a head", b"T1w\r\x1b\x85of head")
    assert damaged != content
    file.write_bytes(damaged)
    (series,) = scan_folder(tmp_path)
    assert "\n" in series.uid
    assert str(series).isprintable()
    assert str(series).startswith('series 3 "T1w')


def test_no_warning_quotes_a_value(tmp_path, array, oblique, write_series, recwarn, caplog) -> None:
    for file in write_series(tmp_path, array, oblique):
        content = file.read_bytes()
        assert b"19600131" in content
        file.write_bytes(content.replace(b"19600131", b"31.Jan60"))
    scan_folder(tmp_path)
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "Jan" not in said


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder; expected a folder of DICOM files"):
        scan_folder(tmp_path / "nothing")
