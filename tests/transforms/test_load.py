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

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from monai_lipcar.transforms import LoadMembersd

MEMBERS = ("pre", "low", "high")


@pytest.fixture
def study(tmp_path: Path) -> dict[str, str]:
    for index, name in enumerate(MEMBERS):
        image = nib.Nifti1Image(np.full((6, 5, 4), index + 1, np.float32), np.diag([1.0, 2.0, 3.0 + index, 1.0]))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    return {name: str(tmp_path / f"{name}.nii.gz") for name in MEMBERS}


def test_loads_what_is_there_as_monai_does(study: dict[str, str]) -> None:
    del study["high"]
    monai = LoadImaged(MEMBERS, image_only=True, ensure_channel_first=True, allow_missing_keys=True)
    expected, loaded = monai(study), LoadMembersd(MEMBERS)(study)
    assert loaded.keys() == {"pre", "low"}
    for name, volume in loaded.items():
        assert volume.shape == (1, 6, 5, 4)
        torch.testing.assert_close(volume.as_tensor(), expected[name].as_tensor(), rtol=0, atol=0)
        torch.testing.assert_close(volume.affine, expected[name].affine, rtol=0, atol=0)
        assert volume.meta["filename_or_obj"] == study[name]


def test_an_image_is_the_member_that_the_bundle_says(study: dict[str, str]) -> None:
    data = {"image": study["low"], "pre": study["pre"], "device": "cpu"}
    loaded = LoadMembersd(MEMBERS, image_member="low")(data)
    assert loaded.keys() == {"low", "pre", "device"}
    assert float(loaded["low"].mean()) == 2
    assert data["image"] == study["low"]  # the caller's is left alone


def test_a_member_goes_before_an_image(study: dict[str, str]) -> None:
    loaded = LoadMembersd(MEMBERS, image_member="low")({"image": study["high"], "low": study["low"]})
    assert float(loaded["low"].mean()) == 2
    assert loaded["image"] == study["high"]


def test_without_it_an_image_is_none_of_the_members(study: dict[str, str]) -> None:
    assert LoadMembersd(MEMBERS)({"image": study["low"]}) == {"image": study["low"]}
