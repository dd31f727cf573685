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
"""What is left of a text when the patient must not be told."""

from __future__ import annotations

import time

import pytest

from monai_lipcar.dicom.identity import tells_identity, without_identity

pytest.importorskip("pydicom")

JANE = {"PatientName": "Doe^Jane", "PatientID": "HOSP-4711"}


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("T1 of Doe, HOSP-4711", "Doe^Jane", "T1 of ***, ***"),
        ("DOEJANE janedoe doej jdoe Doe2", "Doe^Jane", "*** *** *** *** ***"),
        ("doeskin, low dose, Janet", "Doe^Jane", "doeskin, low dose, Janet"),
        ("T1 Wu_Li, wuli, liver", "Wu^Li", "T1 ***_***, ***, liver"),
        ("T1 Mueller, MULLER, Müller, Muell", "Müller^Jörg", "T1 ***, ***, ***, Muell"),
        ("T1 Soerensen Sorensen", "Sørensen^A", "T1 *** ***"),
        ("T1 smithjones", "Smith-Jones^Al", "T1 ***"),
        ("T1 王小東 pre", "Wang^XiaoDong=王^小東", "T1 *** pre"),
        ("T1 pre a", "A^B", "T1 pre a"),
        ("T1 pre", "", "T1 pre"),
    ],
)
def test_what_is_taken_out(text: str, name: str, expected: str) -> None:
    assert without_identity(text, {"PatientName": name, "PatientID": "HOSP-4711"}) == expected


def test_other_names_count() -> None:
    assert without_identity("T1 Roe", {"PatientName": "Doe^Jane", "OtherPatientNames": ["Roe^J"]}) == "T1 ***"
    assert without_identity("T1 Poe", {"PatientName": "Doe^Jane", "PatientBirthName": "Poe"}) == "T1 ***"


@pytest.mark.parametrize("text", ["20260105-mrdoe", "exam4711", "Dr_jane-x", "DOEJANE_20260105", "doeskin"])
def test_names_of_folders_that_could_tell_the_patient(text: str) -> None:
    assert tells_identity(text, JANE)


@pytest.mark.parametrize("text", ["exam-1", "20260105", "471", "d-o-x", "janus"])
def test_names_of_folders_that_do_not(text: str) -> None:
    assert not tells_identity(text, JANE)


def test_a_header_without_a_patient() -> None:
    assert not tells_identity("Doe", {})


def test_long_words_of_initials_take_no_time() -> None:
    text = "a" * 2000 + "b"
    started = time.monotonic()
    assert without_identity(text, {"PatientName": "Aa^Aaa^A"}) == text
    assert time.monotonic() - started < 5.0
