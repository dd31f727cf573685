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

import pytest

from monai_lipcar.bids import find_sessions, parse_entities, pick_images
from monai_lipcar.errors import StudyError

HERE = "sub-01/ses-1/anat/sub-01_ses-1"


@pytest.fixture
def pick(touch):
    """Pick among images with these entities; ``given`` is as on the command line."""

    def pick(*images, given=(), required=("pre", "low"), sidecars=()):
        files = [f"{HERE}{'_' if image else ''}{image}_T1w.nii.gz" for image in images]
        json = {f"{HERE}_{image}_T1w.json": content for image, content in dict(sidecars).items()}
        (session,) = find_sessions(touch(*files, json=json))
        entities = {member: parse_entities(text) for member, text in dict(given).items()}
        picks, notes = pick_images(session, entities, required)
        names = {member: str(one.image)[len("sub-01_ses-1") :] for member, one in picks.items()}
        return {member: name.strip("_").removesuffix("T1w.nii.gz").strip("_") for member, name in names.items()}, notes

    return pick


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["", "ce-low"], {"low": "ce-low", "pre": ""}),
        (["", "ce-low", "ce-full"], {"low": "ce-low", "high": "ce-full", "pre": ""}),
        (["ce-none", "ce-gd10pct", "ce-gd100pct"], {"low": "ce-gd10pct", "high": "ce-gd100pct", "pre": "ce-none"}),
        (["", "ce-lowdose", "ce-gadolinium"], {"low": "ce-lowdose", "high": "ce-gadolinium", "pre": ""}),
        (
            ["acq-hr", "acq-lowdose_ce-gadobutrol", "acq-fulldose_ce-gadobutrol"],
            {"low": "acq-lowdose_ce-gadobutrol", "high": "acq-fulldose_ce-gadobutrol", "pre": "acq-hr"},
        ),
        # a low resolution is no low dose, and a full field of view no full dose
        (["acq-lowres", "acq-lowres_ce-halfdose", "acq-fullfov_ce-gd"], None),
    ],
)
def test_by_their_names(pick, images, expected) -> None:
    expected = expected or {"low": images[1], "high": images[2], "pre": images[0]}
    assert pick(*images) == (expected, [])


def test_the_other_entities_decide_between_several(pick) -> None:
    picks, notes = pick("", "run-1", "run-2", "ce-low_run-2", "ce-full_run-1", "ce-full_run-2")
    assert picks == {"low": "ce-low_run-2", "high": "ce-full_run-2", "pre": "run-2"}
    assert notes == []


def test_the_smaller_dose_in_the_sidecars(pick) -> None:
    images = ("ce-gd_run-1", "ce-gd_run-2")
    doses = {"ce-gd_run-1": {"ContrastBolusVolume": 7.5}, "ce-gd_run-2": {"ContrastBolusVolume": 1.5}}
    picks, _ = pick("", *images, sidecars=doses)
    assert picks == {"low": "ce-gd_run-2", "high": "ce-gd_run-1", "pre": ""}
    doses["ce-gd_run-2"] = {"ContrastBolusVolume": 7.5}
    with pytest.raises(StudyError, match="no image says that its dose is reduced"):
        pick("", *images, sidecars=doses)


def test_as_given(pick) -> None:
    images = ("acq-a", "acq-b", "ce-gd_run-1", "ce-gd_run-2", "ce-low")
    given = {"pre": "acq-b", "low": "ce-gd_run-1", "high": "run-2"}
    assert pick(*images, given=given)[0] == {"pre": "acq-b", "low": "ce-gd_run-1", "high": "ce-gd_run-2"}


def test_given_entities_alone_go_before_others_too(pick) -> None:
    assert pick("", "acq-b", "ce-low", "ce-low_run-2", given={"pre": "", "low": "ce-low"})[0] == {
        "pre": "",
        "low": "ce-low",
    }


def test_a_given_pre_is_without_agent_unless_its_agent_is_given(pick) -> None:
    images = ("acq-a", "acq-a_ce-low", "acq-a_ce-gd")
    assert pick(*images, given={"pre": "acq-a"})[0]["pre"] == "acq-a"
    given = {"pre": "ce-gd", "low": "ce-low"}
    assert pick(*images, given=given, required=("low", "pre"))[0]["pre"] == "acq-a_ce-gd"


def test_the_same_image_for_two_members(pick) -> None:
    with pytest.raises(StudyError, match="study sub-01_ses-1, low: no image has the entities ce-low; there is"):
        pick("", "ce-low", "ce-full", given={"low": "ce-low", "high": "ce-low"})


def test_a_routine_pair_has_a_high_and_no_low(pick) -> None:
    assert pick("", "ce-gadolinium", required=("pre", "high"))[0] == {"high": "ce-gadolinium", "pre": ""}


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (
            ["", "ce-gd"],
            {},
            "study sub-01_ses-1, low: no image says that its dose is reduced; there is sub-01_ses-1_T1w.nii.gz, "
            "sub-01_ses-1_ce-gd_T1w.nii.gz; say which with --low-entities, such as --low-entities ce-gd",
        ),
        (
            ["", "ce-low_run-1", "ce-low_run-2"],
            {},
            "study sub-01_ses-1, low: expected one image, 2 fit: sub-01_ses-1_ce-low_run-1_T1w.nii.gz, "
            "sub-01_ses-1_ce-low_run-2_T1w.nii.gz; say which with --low-entities, such as --low-entities "
            "ce-low_run-2",
        ),
        (
            ["acq-a", "acq-b", "ce-low"],
            {},
            "study sub-01_ses-1, pre: expected one image, 2 fit: sub-01_ses-1_acq-a_T1w.nii.gz, "
            "sub-01_ses-1_acq-b_T1w.nii.gz; say which with --pre-entities, such as --pre-entities acq-b",
        ),
        (
            ["", "ce-low"],
            {"low": "ce-half"},
            "study sub-01_ses-1, low: no image has the entities ce-half; there is sub-01_ses-1_T1w.nii.gz, "
            "sub-01_ses-1_ce-low_T1w.nii.gz; say which with --low-entities, such as --low-entities ce-low",
        ),
        (
            ["ce-low", "ce-full"],
            {},
            "study sub-01_ses-1, pre: no image was acquired without agent; there is "
            "sub-01_ses-1_ce-full_T1w.nii.gz, sub-01_ses-1_ce-low_T1w.nii.gz; say which with --pre-entities, such as "
            "--pre-entities ce-low",
        ),
    ],
)
def test_refusals_name_the_candidates(pick, images, given, message) -> None:
    with pytest.raises(StudyError) as refused:
        pick(*images, given=given)
    assert str(refused.value) == message


def test_the_same_image_in_two_formats_is_ambiguous(touch) -> None:
    root = touch(*(f"{HERE}{name}" for name in ("_T1w.nii.gz", "_ce-low_T1w.nii", "_ce-low_T1w.nii.gz")))
    (session,) = find_sessions(root)
    with pytest.raises(StudyError, match="expected one image, 2 fit: .*_ce-low_T1w.nii, .*_ce-low_T1w.nii.gz"):
        pick_images(session)


def test_what_is_not_required_is_left_out_where_it_is_ambiguous(pick) -> None:
    picks, notes = pick("", "ce-low", "ce-gadobutrol", "ce-gadoterate")
    assert picks == {"low": "ce-low", "pre": ""}
    (note,) = notes
    assert note.startswith("high was left out: several images fit, sub-01_ses-1_ce-gadobutrol_T1w.nii.gz, ")
    assert note.endswith("say which with --high-entities, such as --high-entities ce-gadoterate")
