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
"""Which way up a slice is shown, and which part of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bounding_box", "orientation"]


def bounding_box(mask: np.ndarray, margin: int = 6) -> tuple[slice, slice]:
    """The part of a picture that shows something, with a margin."""
    sides = []
    for axis in (1, 0):
        inside = np.flatnonzero(mask.any(axis=axis))
        first, last = (inside[0], inside[-1] + 1) if inside.size else (0, mask.shape[1 - axis])
        sides.append(slice(max(int(first) - margin, 0), int(last) + margin))
    return sides[0], sides[1]


def orientation(affine: np.ndarray, axis: int) -> tuple[Callable[[np.ndarray], np.ndarray], float, str]:
    """How to turn a slice so that it looks as usual (radiological: patient's right at the left of the page).

    Returns:
        What turns a slice, how much higher than wide its pixels are, and the directions at the left and at the top.
    """
    first, second = (other for other in range(3) if other != axis)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    # The vertical of the page is superior-inferior, or anterior-posterior in axial slices
    world_up = 2 if np.abs(directions[2, [first, second]]).max() > 0.7 else 1
    vertical, horizontal = (
        (first, second) if abs(directions[world_up, first]) > abs(directions[world_up, second]) else (second, first)
    )
    world_side = int(np.argmax(np.abs(directions[:, horizontal])))
    flip_vertical = directions[world_up, vertical] > 0  # rows go down the page
    flip_horizontal = directions[world_side, horizontal] > 0  # patient's right (or anterior) to the left

    directions_of_page = "RAS"[world_side] + "RAS"[world_up]

    def orient(picture: np.ndarray) -> np.ndarray:
        turned = picture if vertical < horizontal else picture.T
        if flip_vertical:
            turned = turned[::-1]
        return turned[:, ::-1] if flip_horizontal else turned

    return orient, float(spacing[vertical] / spacing[horizontal]), directions_of_page
