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
"""Load the members of a study, whoever names them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import LoadImaged, MapTransform

__all__ = ["LoadMembersD", "LoadMembersDict", "LoadMembersd"]


class LoadMembersd(MapTransform):
    """MONAI's ``LoadImaged`` for those members that a study has, channel first.

    Programs for bundles of one image, such as MONAI Label's ``monaibundle`` app, name it ``"image"``. There that is a
    member, and the others can be named by their own keys.

    Args:
        keys: the members.
        image_member: the member that a path under ``"image"`` is, where the member itself is not there.

    Example:
        >>> import nibabel, numpy, tempfile
        >>> path = tempfile.mkdtemp() + "/low.nii.gz"
        >>> nibabel.save(nibabel.Nifti1Image(numpy.ones((8, 8, 4), numpy.float32), numpy.eye(4)), path)
        >>> d = LoadMembersd(["pre", "low"], image_member="low")({"image": path})
        >>> sorted(d), tuple(d["low"].shape)
        (['low'], (1, 8, 8, 4))
    """

    def __init__(self, keys: KeysCollection, image_member: str | None = None) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_member = image_member
        self.load = LoadImaged(keys, image_only=True, ensure_channel_first=True, allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if self.image_member is not None and self.image_member not in d and "image" in d:
            d[self.image_member] = d.pop("image")
        return dict(self.load(d))


LoadMembersD = LoadMembersDict = LoadMembersd
