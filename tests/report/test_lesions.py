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
"""The lesions of a study, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from monai_lipcar.report.lesions import lesion_rows


def test_the_largest_first_with_what_each_image_shows() -> None:
    lesion = np.zeros((4, 30, 30), dtype=np.float32)  # slices on the first axis
    lesion[1, 2:4, 2:4] = 1.0
    lesion[2:4, 10:20, 10:20] = 1.0
    pre = np.full(lesion.shape, 100.0)
    images = {"pre": pre, "low": pre + 20 * lesion, "simulated": pre + 90 * lesion, "high": pre + 100 * lesion}
    images["high"][1] = 105.0  # the small one hardly enhances
    large, small = lesion_rows(lesion, images, axis=0, spacing=(5.0, 0.5, 0.5))
    assert (large.slices, small.slices) == ((3, 4), (2, 2))
    assert large.volume_mm3 == pytest.approx(200 * 1.25)
    assert large.diameter_mm == pytest.approx(2 * (25 / np.pi) ** 0.5)
    assert large.mean == {"pre": 100.0, "low": 120.0, "simulated": 190.0, "high": 200.0}
    assert large.enhancement == pytest.approx({"low": 20.0, "simulated": 90.0, "high": 100.0})
    assert large.recovery == pytest.approx(0.9)
    assert small.recovery is None


def test_without_a_pre_dose_image_there_is_no_enhancement() -> None:
    lesion = np.ones((3, 3, 3))
    (row,) = lesion_rows(lesion, {"simulated": lesion}, axis=2, spacing=(1.0, 1.0, 1.0))
    assert (row.mean, row.enhancement, row.recovery) == ({"simulated": 1.0}, {}, None)


def test_not_more_than_a_page_can_hold() -> None:
    lesion = np.zeros((21, 21, 1))
    lesion[::2, ::2] = 1.0
    assert len(lesion_rows(lesion, {"simulated": lesion}, axis=2, spacing=(1.0, 1.0, 1.0), most=7)) == 7
