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
"""Back to scanner units, by the member of the study that is there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Invertd, InvertibleTransform, MapTransform
from monai.utils import ensure_tuple

__all__ = ["InvertByFirstD", "InvertByFirstDict", "InvertByFirstd"]


class InvertByFirstd(MapTransform):
    """MONAI's ``Invertd`` by the first of several members that a study has.

    ``Invertd`` warns and leaves the result on the [0, 1] scale where its ``orig_keys`` is not there.

    Args:
        keys: results to invert.
        transform: what was applied to the members.
        orig_keys: members, the preferred one first. At least one has to be there.
        nearest_interp, to_tensor: see ``Invertd``.

    Raises:
        KeyError: when called: none of ``orig_keys`` is there.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from monai_lipcar.transforms import ScaleIntensityByReferenced
        >>> scale = ScaleIntensityByReferenced(["pre", "high"], full_dose_key="high", allow_missing_keys=True)
        >>> high = torch.zeros(1, 8, 8, 4); high[:, 2:6, 2:6] = 120.0
        >>> d = scale({"high": MetaTensor(high)})
        >>> d["pred"] = 0.5 * d["high"]
        >>> round(float(InvertByFirstd("pred", scale, ["pre", "high"])(d)["pred"].max()), 3)
        60.0
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: InvertibleTransform,
        orig_keys: KeysCollection,
        nearest_interp: bool = False,
        to_tensor: bool = True,
    ) -> None:
        super().__init__(keys)
        self.inverters = {
            key: Invertd(keys, transform, orig_keys=key, nearest_interp=nearest_interp, to_tensor=to_tensor)
            for key in ensure_tuple(orig_keys)
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        present = next((key for key in self.inverters if key in data), None)
        if present is None:
            raise KeyError(f"expected one of {', '.join(map(str, self.inverters))}, got {', '.join(map(str, data))}")
        return dict(self.inverters[present](data))


InvertByFirstD = InvertByFirstDict = InvertByFirstd
