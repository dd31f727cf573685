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
"""Is this one three-dimensional volume with something in it, and do two of them lie on one grid?"""

from __future__ import annotations

from itertools import product

import numpy as np

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.errors import StudyError

__all__ = ["check_volume", "corner_distance_mm", "grid_difference"]

AFFINE_TOLERANCE = 0.1
"""Of the smallest voxel side: headers are rounded when files are converted, and differ by less."""


def check_volume(values: np.ndarray, affine: np.ndarray, min_size: int) -> None:
    """Refuse what is not one usable volume.

    Args:
        values: channel-first, expected ``(1, X, Y, Z)``.
        affine: 4x4, voxel to RAS mm.
        min_size: least number of pixels along each side of a slice.

    Raises:
        StudyError: not 3-D, several volumes, a singular affine, too small, NaN or infinite values, constant.

    Example:
        >>> check_volume(np.random.default_rng(0).random((1, 32, 32, 4)), np.eye(4), min_size=32)
    """
    sides = values.shape[1:]
    if values.ndim < 4:
        raise StudyError(
            f"expected a 3-D volume, got a {len(sides)}-D image of shape {sides}",
            advice="stack the slices of the acquisition into one volume",
        )
    if values.ndim > 4 or values.shape[0] != 1:
        raise StudyError(
            f"expected one 3-D volume, got a 4-D file with {values.shape[0]} volumes of shape {sides}",
            advice="extract the volume that is meant and save it as a 3-D file",
        )
    try:
        axis = slice_axis(affine, sides)
    except ValueError as error:
        raise StudyError(str(error), advice="correct the header, or export it again") from error
    plane = np.delete(sides, axis)
    if plane.min() < min_size or min(sides) == 0:
        raise StudyError(
            f"slices of {plane[0]}x{plane[1]} pixels are too small for the network: expected at least "
            f"{min_size}x{min_size}",
            advice="use the uncropped acquisition",
        )
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    if nan or infinite:
        raise StudyError(
            f"expected finite values, got {nan} NaN and {infinite} infinite ones",
            advice="export it again, or replace them",
        )
    if values.min() == values.max():
        raise StudyError(f"the volume is constant ({values.flat[0]:g} everywhere)", advice="export it again")


def corner_distance_mm(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between the places that two affines give to a corner voxel of the grid, in mm.

    Example:
        >>> shifted = np.eye(4); shifted[0, 3] = 2.0
        >>> corner_distance_mm(np.eye(4), shifted, (10, 10, 10))
        2.0
    """
    corners = np.array([(*corner, 1.0) for corner in product(*((0.0, side - 1.0) for side in shape))])
    return float(np.linalg.norm(corners @ (affine - other).T, axis=1).max())


def grid_difference(
    shape: tuple[int, ...], affine: np.ndarray, reference_shape: tuple[int, ...], reference_affine: np.ndarray
) -> str | None:
    """In what the grid of a volume differs from that of a reference.

    Args:
        shape: sides of the volume.
        affine: 4x4, voxel to RAS mm.
        reference_shape: sides of the reference.
        reference_affine: of the reference.

    Returns:
        What was expected and what came, or None when the sides are the same and the affines agree within a tenth of the
        smallest voxel side everywhere.

    Example:
        >>> grid_difference((9, 9, 9), np.eye(4), (9, 9, 8), np.eye(4))
        'expected shape (9, 9, 8), got (9, 9, 9)'
    """
    if shape != reference_shape:
        return f"expected shape {reference_shape}, got {shape}"
    distance = corner_distance_mm(affine, reference_affine, shape)
    if distance > AFFINE_TOLERANCE * np.linalg.norm(reference_affine[:3, :3], axis=0).min():
        return f"expected the same affine, got one that places voxels up to {distance:.3g} mm elsewhere"
    return None
