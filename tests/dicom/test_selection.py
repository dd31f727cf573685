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

from monai_lipcar.dicom.rules import load_rules
from monai_lipcar.dicom.selection import pick_series
from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.errors import StudyError

pytest.importorskip("highdicom")


def picked(folder: Path, rules: Path | None = None, **options) -> dict[str, str]:
    """What the series of a folder are picked for: member to description."""
    picks, _ = pick_series(scan_folder(folder), "s", load_rules(rules), **options)
    return {name: pick.series.description for name, pick in picks.items()}


@pytest.mark.parametrize(
    ("pre", "low", "high"),
    [
        ("T1 SE pre", "T1 SE low dose", "T1 SE full dose"),
        ("t1_se_tra_nativ", "t1_se_tra_20%", "t1_se_tra_100%"),
        ("T1 0 %", "T1 25 percent", "T1 100 pct"),
        ("T1 without", "T1 reduced", "T1 standard dose"),
        ("T1", "T1 low", "T1"),  # before it, without agent; and after it, with one
    ],
)
def test_default_rules(pre, low, high, tmp_path, array, oblique, sagittal, write_series) -> None:
    write_series(tmp_path, array, oblique, "FLAIR", 1, time="100000", EchoTime="120")
    write_series(tmp_path, array, oblique, pre, 2, time="101000")
    write_series(tmp_path, array, oblique, low, 3, time="102000", agent="Gadobutrol")
    write_series(tmp_path, array, sagittal, "T1 sag", 4, time="102500", agent="Gadobutrol")
    write_series(tmp_path, array, oblique, high, 5, time="103000", agent="Gadobutrol")
    for extra, name in enumerate(("T1 low res", "dwi_low_b", "T1 high resolution", "T1 presat", "reduced FOV"), 10):
        write_series(tmp_path, array, oblique, name, extra, time="095500", EchoTime="80")
    write_series(tmp_path, array, oblique, f"SUB {low}", 6, ImageType=["DERIVED", "SECONDARY", "SUBTRACTION"])
    assert picked(tmp_path) == {"low": low, "pre": pre, "high": high}


def test_two_candidates_are_refused_and_named(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, "T1 pre", 2)
    write_series(tmp_path, array, oblique, "T1 low", 3, time="102000")
    write_series(tmp_path, array, oblique, "T1 low repeated", 4, time="102100")
    with pytest.raises(StudyError) as error:
        picked(tmp_path)
    message = str(error.value)
    assert message.startswith('study s, low: 2 series fit rule 1: series 3 "T1 low" (5 images, 10:20:00, UID ')
    assert '; series 4 "T1 low repeated" (5 images, 10:21:00, UID ' in message
    assert message.endswith(
        "; say which with --pre-uid, --low-uid and --high-uid, or write rules for them (--series-rules FILE)"
    )


def test_nothing_fits(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, "T1", 2)
    write_series(tmp_path, array, oblique, "T1 post", 3, time="102000", agent="Gadobutrol")
    with pytest.raises(StudyError, match='low: no series fits its rules: series 2 "T1" .*; series 3 "T1 post" '):
        picked(tmp_path)


@pytest.mark.parametrize(
    ("slices", "changes", "difference"),
    [(4, {}, "its 4 images, not 5"), (5, {"EchoTime": "9"}, r"its EchoTime of 9, not 5\.51")],
)
def test_what_nearly_fits_is_told(slices, changes, difference, tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array[:, :, :slices], oblique, "T1 pre", 2, **changes)
    write_series(tmp_path, array, oblique, "T1 low", 3, time="102000")
    expected = (
        rf'pre: no series fits its rules \(series 2 "T1 pre" would, but for {difference} that low has\): series 2'
    )
    with pytest.raises(StudyError, match=expected):
        picked(tmp_path)


def test_by_uid(tmp_path, array, oblique, write_series) -> None:
    for number in (1, 2, 3):
        write_series(tmp_path, array, oblique, f"T1 number {number}", number, time=f"1{number}0000")
    first, second, third = scan_folder(tmp_path)
    uids = {"pre": first.uid, "low": third.uid, "high": second.uid}
    assert picked(tmp_path, uids=uids) == {"pre": "T1 number 1", "low": "T1 number 3", "high": "T1 number 2"}
    # what is like the given one and was acquired last before it
    assert picked(tmp_path, uids={"low": third.uid}) == {"low": "T1 number 3", "pre": "T1 number 2"}
    with pytest.raises(StudyError, match=r"study s, low: there is no series with the UID 1\.2\.3: series 1 "):
        picked(tmp_path, uids={"low": "1.2.3"})
    with pytest.raises(StudyError, match="the same series was given for two members"):
        picked(tmp_path, uids={"low": first.uid, "pre": first.uid})


def test_own_rules_and_the_reason(tmp_path, array, oblique, write_series) -> None:
    for number in (4, 5, 6):
        write_series(tmp_path / "d", array, oblique, "T1", number, time=f"1{number}0000")
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "low: [{SeriesNumber: '^9$'}, {take: last}]\n"
        "pre: [{like: low, before: low, take: first}]\n"
        "high: [{Modality: MR}]\n"
    )
    picks, notes = pick_series(scan_folder(tmp_path / "d"), "s", load_rules(rules))
    assert {name: pick.series.header.SeriesNumber for name, pick in picks.items()} == {"low": 6, "pre": 4}
    assert picks["low"].reason == "rule 2: the last of those"
    assert picks["pre"].reason == "rule 1: like low, before low, the first of those"
    assert len(notes) == 1
    assert notes[0].startswith("high was left out: 3 series fit rule 1: series 4 ")


def test_one_series_for_two_members(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "d", array, oblique, "T1", 4)
    rules = tmp_path / "rules.yaml"
    rules.write_text("low: [{Modality: MR}]\npre: [{Modality: MR}]\n")
    with pytest.raises(StudyError, match='low: pre and low would both be series 4 "T1"'):
        picked(tmp_path / "d", rules)
    assert picked(tmp_path / "d", rules, required=("low",)) == {"low": "T1"}


def test_a_member_that_the_bundle_does_not_need(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, "T1 low", 4)
    with pytest.raises(StudyError, match="study s, pre: no series fits its rules"):
        picked(tmp_path)
    assert picked(tmp_path, required=("low",)) == {"low": "T1 low"}


def test_times_that_do_not_tell(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, "T1 low", 4, time="102000")
    for number in (1, 2):
        write_series(tmp_path, array, oblique, "T1", number, time="101000")
    with pytest.raises(StudyError, match="study s, pre: 2 series fit rule 2"):
        picked(tmp_path)


def test_a_routine_examination_without_low_dose(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "d", array, oblique, "T1", 4)
    write_series(tmp_path / "d", array, oblique, "T1 +C", 5, agent="Gadobutrol")
    rules = tmp_path / "rules.yaml"
    rules.write_text("pre: [{ContrastBolusAgent: false}]\nhigh: [{ContrastBolusAgent: true, like: pre}]\n")
    assert picked(tmp_path / "d", rules, required=("pre", "high")) == {"pre": "T1", "high": "T1 +C"}
    with pytest.raises(StudyError, match="study s, low: there are no rules for it"):
        picked(tmp_path / "d", rules)
