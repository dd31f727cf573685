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

from monai_lipcar.dicom.acquisition import sequence_of
from monai_lipcar.physics import Acquisition

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
KNOWN = {"dose_fraction": 0.1, "r1": 5.0, "r2": 7.1}


def header(**attributes):
    """A header with a spin echo's attributes, unless changed."""
    found = pydicom.Dataset()
    spin_echo = {"ScanningSequence": "SE", "SequenceVariant": "NONE", "RepetitionTime": "500", "EchoTime": "10"}
    for keyword, value in {**spin_echo, **attributes}.items():
        if value is not None:
            setattr(found, keyword, value)
    return found


def test_spin_echo_whatever_its_flip_angle() -> None:
    acquisition, words = sequence_of(header(FlipAngle="70"), KNOWN)
    assert acquisition == Acquisition(0.1, 500, 10, None, 5.0, 7.1)
    assert words == "spin echo, TR 500 ms, TE 10 ms"


def test_spoiled_gradient_echo() -> None:
    gradient = {"ScanningSequence": "GR", "SequenceVariant": ["SS", "SP"], "FlipAngle": "15"}
    acquisition, words = sequence_of(header(**gradient, RepetitionTime="8", EchoTime="3"), KNOWN)
    assert acquisition == Acquisition(0.1, 8, 3, 15, 5.0, 7.1)
    assert words == "spoiled gradient echo, TR 8 ms, TE 3 ms, flip angle 15 degrees"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SK", "SP", "MP"], "FlipAngle": "9"}, "GR, IR"),
        ({"ScanningSequence": "GR", "SequenceVariant": "SS", "FlipAngle": "9"}, "SequenceVariant SS"),
        ({"ScanningSequence": "GR", "SequenceVariant": "SP", "FlipAngle": None}, "lacks"),
        ({"ScanningSequence": None}, "ScanningSequence empty"),
        ({"RepetitionTime": None}, "lacks"),
        ({"EchoTime": "0"}, "lacks"),
        ({"EchoTime": "600"}, "impossible"),
    ],
)
def test_headers_in_doubt(attributes, reason) -> None:
    acquisition, words = sequence_of(header(**attributes), KNOWN)
    assert acquisition is None
    assert reason in words
