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
"""
What motion costs, and the check that finds it
==============================================

Every difference between the images before contrast and at low dose counts as enhancement, times one over the dose
fraction. A shift by a pixel is enough to ruin the result. The registration check measures it; here it also undoes it.
"""

from __future__ import annotations

from typing import Any

import torch
from gallery_study import DOSE_FRACTION, sample_volumes, show

from monai_lipcar.errors import StudyError
from monai_lipcar.physics import linear_extrapolation
from monai_lipcar.transforms import CheckRegistration

volumes = sample_volumes()
pre, low = volumes["pre"], volumes["low"]
moved = pre.clone()
moved[:] = torch.roll(pre.as_tensor(), shifts=2, dims=1)  # 2.4 mm to the side

# %%
# By default a study whose volumes do not lie on each other is refused, with a message that says what to do:

try:
    CheckRegistration(policy="raise")(moved, low, "low")
except StudyError as error:
    print(error)

# %%
# Registered instead:

registered, found = CheckRegistration(policy="register")(moved, low, "low")
assert found.registered is not None
assert found.motion is not None
print(f"undone: {found.registered.shift_mm:.2f} mm; left: {found.motion.shift_mm:.2f} mm")

# %%
# Linear extrapolation shows what motion does to every approach:


def cut(volume: Any) -> torch.Tensor:
    """The slice of a volume, at full size."""
    slices: torch.Tensor = volume.as_tensor()[None]
    return slices[..., 2]


images = {
    "in place": cut(pre),
    "moved by 2 pixels": cut(moved),
    "registered": cut(registered),
}
show(
    [
        {f"before contrast,\n{name}": image for name, image in images.items()},
        {
            f"extrapolated,\n{name}": linear_extrapolation(image, cut(low), DOSE_FRACTION)
            for name, image in images.items()
        },
    ],
    top=0.45,
)
