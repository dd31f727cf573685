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
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from monai_lipcar.transforms import InvertByFirstd, ScaleIntensityByReferenced


def study(*members: str) -> dict[str, MetaTensor]:
    """Volumes that are told apart by their place."""
    d = {}
    for index, name in enumerate(members):
        values, affine = torch.zeros(1, 8, 8, 4), torch.eye(4)
        values[:, 2:6, 2:6] = 100.0 * (index + 1)
        affine[0, 3] = len(name) + index
        d[name] = MetaTensor(values, affine=affine)
    return d


@pytest.mark.parametrize(("members", "first"), [(("pre", "high"), "pre"), (("high",), "high")])
def test_inverts_as_monai_does_by_the_first_that_is_there(members: tuple[str, ...], first: str) -> None:
    scale = ScaleIntensityByReferenced(["pre", "high"], allow_missing_keys=True, full_dose_key="high")
    scaled = scale(study(*members))
    scaled["pred"] = 0.5 * scaled["high"]
    expected = Invertd("pred", scale, orig_keys=first, nearest_interp=False)(dict(scaled))["pred"]
    result = InvertByFirstd("pred", scale, ["pre", "high"])(dict(scaled))["pred"]
    torch.testing.assert_close(result.as_tensor(), expected.as_tensor())
    torch.testing.assert_close(result.affine, study(*members)[first].affine)
    torch.testing.assert_close(result.as_tensor(), 0.5 * study(*members)["high"].as_tensor())


def test_nothing_to_invert_by() -> None:
    invert = InvertByFirstd("pred", ScaleIntensityByReferenced(["pre"]), ["pre", "high"])
    with pytest.raises(KeyError, match="expected one of pre, high, got low, pred"):
        invert({"low": torch.zeros(1), "pred": torch.zeros(1)})
