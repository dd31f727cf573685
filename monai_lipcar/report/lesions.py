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
"""The lesions of a study, one by one: where they are, how large, and how they enhance in each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monai_lipcar.metrics import connected_components

__all__ = ["LesionRow", "lesion_rows"]


@dataclass(frozen=True)
class LesionRow:
    """One lesion.

    Args:
        slices: first and last slice that show it, counted from 1.
        diameter_mm: of the disk with the area of its largest cross-section.
        volume_mm3: its volume.
        mean: mean signal in each image, in scanner units.
        enhancement: mean signal over that before contrast, minus 1, in percent; of each image but ``pre``.
        recovery: mean simulated enhancement over the acquired one, where there is one.
    """

    slices: tuple[int, int]
    diameter_mm: float
    volume_mm3: float
    mean: dict[str, float]
    enhancement: dict[str, float]
    recovery: float | None


def lesion_rows(
    lesion: np.ndarray, images: Mapping[str, np.ndarray], axis: int, spacing: Sequence[float], most: int = 50
) -> list[LesionRow]:
    """Measure the lesions, the largest first.

    Args:
        lesion: mask (X, Y, Z).
        images: ``"simulated"`` and, where there are, ``"pre"``, ``"low"``, ``"high"``; same shape.
        axis: slice axis.
        spacing: voxel sides in mm.
        most: number of lesions to list.

    Returns:
        A row for each lesion.

    Example:
        >>> mask = np.zeros((8, 8, 3), bool); mask[2:5, 2:5, 1] = True
        >>> pre = np.full(mask.shape, 100.0)
        >>> (row,) = lesion_rows(mask, {"pre": pre, "simulated": pre + 50.0 * mask}, 2, (1.0, 1.0, 5.0))
        >>> row.slices, row.volume_mm3, row.enhancement
        ((2, 2), 45.0, {'simulated': 50.0})
    """
    steps = list(spacing)
    steps.insert(0, steps.pop(axis))
    first = {
        name: torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, axis, 0))) for name, volume in images.items()
    }
    rows = []
    for part in connected_components(np.moveaxis(lesion > 0.5, axis, 0), steps):
        mean = {name: float(part.values(volume).mean()) for name, volume in first.items()}
        pre = mean.get("pre")
        enhancement, recovery = {}, None
        if pre is not None and pre > 0:
            enhancement = {name: 100.0 * (value / pre - 1.0) for name, value in mean.items() if name != "pre"}
            acquired = enhancement.get("high")
            # a ratio of two numbers near zero says nothing
            if acquired is not None and acquired >= 10.0:
                recovery = enhancement["simulated"] / acquired
        slices = part.box[0].start + 1, part.box[0].stop
        rows.append(LesionRow(slices, part.diameter_mm, part.volume_mm3, mean, enhancement, recovery))
    return sorted(rows, key=lambda row: -row.diameter_mm)[:most]
