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
Studies of another kind
=======================

An operator computes something from whatever it is given. Before it does, nine features of a study are compared with the
ranges of those that it was trained on; here for a few accidents.
"""

from __future__ import annotations

import torch
from gallery_study import Difference, sample_volumes, show

import monai_lipcar.bundle
from monai_lipcar.transforms import CheckDomaind

volumes = sample_volumes()
pre, low = volumes["pre"], volumes["low"]
generator = torch.Generator().manual_seed(0)


def changed(image: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The image with other values, on its grid."""
    copy = image.clone()
    copy[:] = values
    return copy


noise = 0.006 * torch.randn(pre.shape, generator=generator)
cases = {
    "as it is": (pre, low),
    "exchanged": (low, pre),
    "the same image twice": (pre, changed(pre, (pre.as_tensor() + noise).abs())),
    "standardized": (changed(pre, pre.as_tensor() * 2 - 0.2), changed(low, low.as_tensor() * 2 - 0.2)),
    "noisy": (pre, changed(low, (low.as_tensor() + 10 * noise).abs())),
}

# %%
# The ranges are in the metadata of a bundle. By default a finding is noted in ``result.json`` and on the report;
# ``--out_of_domain refuse`` refuses the study. The noisy study passes: its noise is within the range, and alpha has
# to answer to it (:doc:`/priors`).

ranges = monai_lipcar.bundle.domain_ranges(monai_lipcar.bundle.bundle_root("ph2l_gentv"))
check = CheckDomaind(["pre", "low"], ranges)
findings = {}
for name, (before, image) in cases.items():
    findings[name] = check({"pre": before, "low": image})["domain"]["findings"]
    print(f"{name}: {'; '.join(findings[name]) or 'in domain'}")

show(
    [
        {name: image.as_tensor()[None, ..., 2].clamp_min(0.0) for name, (_, image) in cases.items()},
        {
            f"change, {name}": Difference((image - before).as_tensor()[None, ..., 2])
            for name, (before, image) in cases.items()
        },
    ],
    top=0.5,
)
