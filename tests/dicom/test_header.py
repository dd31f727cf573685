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

import importlib.util

import pytest

from monai_lipcar.dicom.header import frame_headers, need_dicom, number, words
from monai_lipcar.errors import ConfigurationError

pydicom = pytest.importorskip("pydicom")


def test_values_that_cannot_be_understood_are_not_quoted(tmp_path, recwarn, caplog) -> None:
    header = pydicom.Dataset()
    header.PatientName = "Doe"
    header.EchoTime = "5.5"
    header.ImageType = ["A", "B"]
    header.SeriesNumber = None
    path = tmp_path / "x"
    header.save_as(path, implicit_vr=False, little_endian=True)
    path.write_bytes(path.read_bytes().replace(b"5.5 ", b"Jane"))
    found = pydicom.dcmread(path, force=True)
    assert number(found, "EchoTime") is None
    assert words(found, "ImageType") == ["A", "B"]
    assert words(found, "PatientName") == ["Doe"]
    assert words(found, "SeriesNumber") == words(found, "Rows") == []
    assert "Jane" not in caplog.text + "".join(str(warning.message) for warning in recwarn)


@pytest.mark.parametrize(("value", "expected"), [("5.51", 5.51), ("0", None), ("-3", None), ("inf", None), ("", None)])
def test_positive_numbers(value, expected) -> None:
    assert number({"EchoTime": value}, "EchoTime") == expected  # type: ignore[arg-type]


def test_a_single_frame_is_its_own_header() -> None:
    header = pydicom.Dataset()
    assert frame_headers(header) == [header]


@pytest.mark.parametrize(
    ("enhanced", "sequence", "variant"),
    [
        ({"EchoPulseSequence": "SPIN"}, ["SE"], ["NONE"]),
        ({"EchoPulseSequence": "GRADIENT", "SteadyStatePulseSequence": "FREE_PRECESSION"}, ["GR"], ["SS"]),
        ({"EchoPulseSequence": "BOTH", "EchoPlanarPulseSequence": "YES"}, ["SE", "GR", "EP"], ["NONE"]),
        ({"EchoPulseSequence": "GRADIENT", "InversionRecovery": "YES", "Spoiling": "RF"}, ["GR", "IR"], ["SP"]),
    ],
)
def test_sequences_of_enhanced_images_by_their_classic_names(enhanced, sequence, variant) -> None:
    modifier = pydicom.Dataset()
    image = pydicom.Dataset()
    for keyword, value in enhanced.items():
        setattr(modifier if keyword in ("InversionRecovery", "Spoiling") else image, keyword, value)
    frame = pydicom.Dataset()
    frame.MRModifierSequence = [modifier]
    image.PerFrameFunctionalGroupsSequence = [frame, pydicom.Dataset()]
    first, second = frame_headers(image)
    assert (words(first, "ScanningSequence"), words(first, "SequenceVariant")) == (sequence, variant)
    assert "MRModifierSequence" not in first
    assert "Spoiling" not in second


def test_missing_packages(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "highdicom" else object())
    with pytest.raises(ConfigurationError, match=r"DICOM folders are read with highdicom, which is not installed; pip"):
        need_dicom()
    need_dicom(("pydicom",))
