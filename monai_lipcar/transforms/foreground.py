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
"""Where the head is: the foreground that scaling, matching and checking look at."""

from __future__ import annotations

import numpy as np

__all__ = ["foreground_threshold", "head_mask"]


def foreground_threshold(volume: np.ndarray, offset: float = 0.0) -> float:
    """Value above which a voxel belongs to the foreground: halfway from ``offset`` to Otsu's threshold.

    Otsu's threshold separates bright tissue from the rest and cuts dark tissue (fluid, bone marrow) off; half of it
    keeps the whole head and still lies above the Rician floor of the air up to a noise of about 7 % of the brightest
    tissue. Values are clipped at the 99.9th percentile first, so that a few bright vessels do not decide.

    Args:
        volume: finite values, any shape, any unit.
        offset: value of empty space (0 for MR magnitude, -1000 for CT).

    Returns:
        The threshold, in the unit of ``volume``; ``offset`` where nothing lies above it.

    Example:
        >>> volume = np.zeros((10, 10, 10)); volume[2:8, 2:8, 2:8] = 100.0
        >>> 0.0 <= foreground_threshold(volume) < 100.0
        True
    """
    from skimage.filters import threshold_otsu

    above = np.clip(np.asarray(volume, dtype=np.float32) - offset, 0.0, None)
    top = float(np.percentile(above, 99.9))
    if top <= 0.0:
        # a head so small that 99.9 % of the volume is empty
        top = float(above.max())
    if top <= 0.0:
        return float(offset)
    return float(offset + 0.5 * threshold_otsu(np.minimum(above, top).ravel()))


def head_mask(volume: np.ndarray, offset: float = 0.0, axis: int = 2) -> np.ndarray:
    """The head: the largest connected foreground, closed and with its holes filled slice by slice.

    Args:
        volume: three-dimensional, finite values.
        offset: value of empty space.
        axis: the axis that the slices follow each other on.

    Returns:
        Boolean array of the shape of ``volume``; all False where there is no foreground.

    Example:
        >>> volume = np.zeros((16, 16, 8)); volume[4:12, 4:12, 2:6] = 100.0; volume[7, 7, 4] = 0.0
        >>> mask = head_mask(volume)
        >>> bool(mask[7, 7, 4]), int(mask.sum())
        (True, 256)
    """
    from scipy import ndimage

    mask = np.moveaxis(np.asarray(volume) > foreground_threshold(volume, offset), axis, 2)
    if not mask.any():
        return np.moveaxis(mask, 2, axis)
    # in the slice plane only: slices may be thick, and the next one far away
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    # opening cuts the noise of the air off the head before the largest piece is chosen
    opened = ndimage.binary_opening(mask, structure=cross)
    labels, _ = ndimage.label(opened if opened.any() else mask)
    sizes = np.bincount(labels.ravel())[1:]
    head = ndimage.binary_dilation(labels == 1 + int(sizes.argmax()), structure=cross) & mask
    padded = np.pad(head, [(2, 2), (2, 2), (0, 0)])
    filled = np.array(ndimage.binary_closing(padded, structure=cross, iterations=2)[2:-2, 2:-2])
    for index in range(filled.shape[2]):
        filled[:, :, index] = ndimage.binary_fill_holes(filled[:, :, index])
    return np.moveaxis(filled, 2, axis)
