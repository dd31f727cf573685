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

from monai_lipcar.bids import find_sessions, pick_images
from monai_lipcar.bids.acquisition import acquisition_of, sequence_of
from monai_lipcar.errors import StudyError
from monai_lipcar.physics import Acquisition

KNOWN = {"dose_fraction": 0.1, "r1": 5.0, "r2": 7.1}
SPIN_ECHO = {"ScanningSequence": "SE", "RepetitionTime": 0.5, "EchoTime": 0.01}
GRADIENT_ECHO = {
    "ScanningSequence": "GR",
    "SequenceVariant": "SK_SP",
    "RepetitionTime": 0.008,
    "EchoTime": 0.00308,
    "FlipAngle": 15,
}


def test_seconds_become_milliseconds() -> None:
    assert sequence_of({**SPIN_ECHO, "FlipAngle": 70}, KNOWN)[0] == Acquisition(0.1, 500.0, 10.0, None, 5.0, 7.1)
    assert sequence_of(GRADIENT_ECHO, KNOWN)[0] == Acquisition(0.1, 8.0, 3.08, 15.0, 5.0, 7.1)


def test_the_time_between_excitations_goes_first() -> None:
    acquisition, _ = sequence_of({**GRADIENT_ECHO, "RepetitionTimeExcitation": 0.01, "RepetitionTime": 240.0}, KNOWN)
    assert acquisition == Acquisition(0.1, 10.0, 3.08, 15.0, 5.0, 7.1)


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ({"RepetitionTime": 0.36, "EchoTime": 0.00551, "FlipAngle": 90}, (360.0, 5.51, None)),
        ({"RepetitionTime": 0.008, "EchoTime": 0.003, "FlipAngle": 15}, (8.0, 3.0, 15.0)),
        ({**GRADIENT_ECHO, "SequenceVariant": "SK", "SpoilingState": True}, (8.0, 3.08, 15.0)),
    ],
)
def test_sidecars_written_by_hand(sidecar, expected) -> None:
    acquisition, _ = sequence_of(sidecar, KNOWN)
    assert acquisition is not None
    assert (acquisition.repetition_time_ms, acquisition.echo_time_ms, acquisition.flip_angle_deg) == expected


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        ({}, "ScanningSequence empty"),
        ({"ScanningSequence": "GR_IR", "SequenceVariant": "SK_SP_MP", "InversionTime": 0.9}, "GR, IR"),
        ({**GRADIENT_ECHO, "InversionTime": 0.9}, "GR, IR"),
        ({**GRADIENT_ECHO, "SequenceVariant": "SK"}, "SequenceVariant SK"),
        ({"RepetitionTime": 2.3, "EchoTime": 0.003, "FlipAngle": 9}, "ScanningSequence empty"),
        ({"RepetitionTime": 0.36, "EchoTime": 0.00551}, "ScanningSequence empty"),
        ({"RepetitionTime": 0.36, "EchoTime": 0.005, "FlipAngle": 90, "InversionTime": 0.4}, "ScanningSequence IR"),
        ({**SPIN_ECHO, "RepetitionTime": None}, "the sidecar lacks RepetitionTime"),
        ({**SPIN_ECHO, "RepetitionTime": 360, "EchoTime": 5.51}, "the sidecar is impossible: TR 360 s, TE 5.51 s"),
    ],
)
def test_sidecars_in_doubt(sidecar, reason) -> None:
    acquisition, words = sequence_of(sidecar, KNOWN)
    assert acquisition is None
    assert reason in words


@pytest.fixture
def told(touch):
    """The acquisition of a session whose images have these sidecars."""

    def told(pre, low, default=None, given=False):
        here = "sub-01/anat/sub-01"
        root = touch(
            f"{here}_T1w.nii", f"{here}_ce-low_T1w.nii", json={f"{here}_T1w.json": pre, f"{here}_ce-low_T1w.json": low}
        )
        return acquisition_of("sub-01", pick_images(find_sessions(root)[0])[0], default or Acquisition(**KNOWN), given)

    return told


def test_the_sidecar_of_low_tells(told) -> None:
    assert told(SPIN_ECHO, SPIN_ECHO) == (Acquisition(0.1, 500.0, 10.0, None, 5.0, 7.1), [])
    acquisition, doubts = told(GRADIENT_ECHO, {**SPIN_ECHO, "DoseFraction": 0.25})
    assert acquisition == Acquisition(0.25, 500.0, 10.0, None, 5.0, 7.1)
    (doubt,) = doubts
    assert doubt == (
        "low and pre were acquired differently (spin echo, TR 500 ms, TE 10 ms; spoiled gradient echo, TR 8 ms, "
        "TE 3.08 ms, flip angle 15 degrees): they differ in more than contrast"
    )


def test_what_is_not_told_is_the_default(told) -> None:
    acquisition, doubts = told({}, {"DoseFraction": 0.25})
    assert acquisition == Acquisition(**{**KNOWN, "dose_fraction": 0.25})
    (doubt,) = doubts
    assert "computed as dose_fraction 0.25, repetition_time_ms 360" in doubt
    assert doubt.endswith("say it with --acquisition FILE")
    assert told({}, {}, given=True) == (Acquisition(**KNOWN), [])


@pytest.mark.parametrize("fraction", [5, "a fifth", None, True])
def test_an_impossible_dose_fraction(told, fraction) -> None:
    with pytest.raises(StudyError, match="study sub-01, low: DoseFraction of its sidecar is impossible"):
        told({}, {"DoseFraction": fraction})
