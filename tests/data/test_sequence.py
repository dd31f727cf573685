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

from monai_lipcar.data.sequence import sequence_told
from monai_lipcar.physics import Acquisition

KNOWN = {"dose_fraction": 0.1, "r1": 5.0, "r2": 7.1}


def test_what_is_told_without_doubt() -> None:
    assert sequence_told(["SE"], [], 500, 10, 70, KNOWN)[0] == Acquisition(0.1, 500, 10, None, 5.0, 7.1)
    assert sequence_told(["GR"], ["SK", "SP"], 8, 3, 15, KNOWN)[0] == Acquisition(0.1, 8, 3, 15, 5.0, 7.1)


@pytest.mark.parametrize(
    ("sequence", "variant", "numbers", "words"),
    [
        (["GR", "IR"], ["SP"], (8, 3, 15), "its signal equation is not known from ScanningSequence GR, IR"),
        (["GR"], [], (8, 3, 15), "SequenceVariant empty"),
        (["GR"], ["SP"], (8, 3, None), "the sidecar lacks RepetitionTime, EchoTime or FlipAngle"),
        (["SE"], [], (None, 10, None), "the sidecar lacks"),
        (["SE"], [], (500, 600, None), "the sidecar is impossible: "),
    ],
)
def test_what_is_in_doubt(sequence, variant, numbers, words) -> None:
    acquisition, told = sequence_told(sequence, variant, *numbers, KNOWN, "sidecar")
    assert acquisition is None
    assert words in told
