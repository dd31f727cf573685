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
"""The masks that slices are judged by.

A file of its own: the cache of preprocessed slices depends on the code of its transforms and on what that imports.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from monai_lipcar.data import slice_axis
from monai_lipcar.transforms.foreground import head_mask

__all__ = ["AddMasksd"]


class AddMasksd(Transform):
    """Add the ``head`` mask of the low dose, and an empty ``lesion`` mask where a study has none."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The study with its masks, of shape (1, X, Y, Z)."""
        d = dict(data)
        low = d["low"]
        axis = slice_axis(low.affine, low.shape[1:])
        d["head"] = torch.from_numpy(np.ascontiguousarray(head_mask(low[0].numpy(), axis=axis)))[None]
        d.setdefault("lesion", torch.zeros_like(low))
        return d
