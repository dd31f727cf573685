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
"""Images on the server's disk, under names that are no paths, and never replaced."""

from __future__ import annotations

import re
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

__all__ = ["NamedDatastore"]

_VOLUMES = (".nii.gz", ".nii", ".nrrd")
"""File formats that the datastore finds again when it reads its folder."""


class NamedDatastore(LocalDatastore):
    """MONAI Label's folder of images; it would write to any place that an id leads to, and over images that it has."""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take an image in; answers 400 to an id that cannot name a file and to no volume, 409 to a taken id."""
        _check_name("id of an image", image_id)
        if not image_filename.endswith(_VOLUMES):
            raise HTTPException(400, f"image {image_id!r}: expected a file that ends with {', '.join(_VOLUMES)}")
        if image_id in self.list_images():
            raise HTTPException(409, f"there is an image {image_id!r} already; remove it first, or choose another id")
        return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a result under its image; answers 400 to a tag that cannot name a folder."""
        _check_name("tag of a result", label_tag)
        return str(super().save_label(image_id, label_filename, label_tag, label_info))


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(r"\w[\w .+-]*", name) or ".." in name:
        raise HTTPException(400, f"{what}: expected letters, digits, '_', '-', '+', ' ' and '.', got {name!r}")
