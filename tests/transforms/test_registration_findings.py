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
"""The record of what the registration check found."""

from __future__ import annotations

import json

import numpy as np
import torch

from monai_lipcar.transforms import CheckRegistration
from monai_lipcar.transforms.registration_findings import registration_findings


def test_findings_are_by_member_and_can_be_written() -> None:
    rng = np.random.default_rng(0)
    low = torch.zeros(1, 40, 40, 6)
    low[:, 6:34, 6:34] = torch.from_numpy(rng.uniform(50.0, 100.0, (1, 28, 28, 6))).float()
    _, estimated = CheckRegistration()(1.1 * low, low)
    _, unestimated = CheckRegistration(estimate_motion=False)(1.1 * low, low)
    found = registration_findings({"pre": estimated, "high": unestimated})
    assert set(found["shift_mm"]) == {"pre"}  # what was not estimated is not there, rather than 0
    assert found["shift_mm"]["pre"] < 0.1
    assert found["registered"] == {"pre": False, "high": False}
    assert set(found["refined_mm"]) == {name for name, refined in found["refined"].items() if refined}
    assert len(found["similarity"]["high"]) == 6
    assert json.loads(json.dumps(found)) == found
