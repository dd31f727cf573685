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
"""Connected components of a mask, and how large they are in millimeters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

__all__ = ["LESION_SIZES", "SMALL_LESION_MM", "Component", "connected_components", "in_size"]

SMALL_LESION_MM = 5.0
"""Lesions below it are small: readers find fewer of them in artificial full doses than in acquired ones, but as many of
those from 5 mm on (metastases: Haase et al., PubMed 39688447)."""
LESION_SIZES = ("all", "small", "large")


@dataclass(frozen=True)
class Component:
    """A connected piece of a mask (S, H, W).

    Args:
        box: the smallest box around it.
        mask: boolean, of the shape of the box.
        diameter_mm: diameter of the disk with the area of its largest cross-section in a slice.
        volume_mm3: its volume.
    """

    box: tuple[slice, ...]
    mask: np.ndarray
    diameter_mm: float
    volume_mm3: float

    def values(self, volume: torch.Tensor) -> torch.Tensor:
        """The values of a volume (S, H, W) in it, double precision, on the volume's device."""
        inside = torch.from_numpy(self.mask).to(volume.device)
        return volume.as_subclass(torch.Tensor)[self.box][inside].double()


def connected_components(mask: torch.Tensor | np.ndarray, spacing: Sequence[float]) -> list[Component]:
    r"""Connected components of a mask; voxels that share a corner are connected, also across slices.

    The diameter is the one that a reader would draw, in the slice plane: with the area :math:`A_s` of the component in
    slice :math:`s`

    .. math:: d = 2 \sqrt{\max_s A_s / \pi}.

    The diameter of the ball of the same volume would grow with the slice thickness (a single pixel of 1 mm in a slice
    of 5 mm has 2.1 mm) and shrink where only some slices of a lesion are there; the longest diameter would make a
    streak of noise as large as a lesion.

    Args:
        mask: boolean (S, H, W), slices first.
        spacing: distance in mm of slices, rows and columns.

    Returns:
        The components, in the order of their first voxels.

    Raises:
        ValueError: the mask has not three axes, or the spacing is not three positive numbers.

    Example:
        >>> mask = torch.zeros(3, 8, 8, dtype=torch.bool)
        >>> mask[1, 2:4, 2:4] = True  # 2 x 2 pixels of 1 mm in a slice of 5 mm
        >>> mask[2, 7, 7] = True
        >>> [(round(part.diameter_mm, 2), part.volume_mm3) for part in connected_components(mask, (5.0, 1.0, 1.0))]
        [(2.26, 20.0), (1.13, 5.0)]
    """
    marked = np.asarray(mask.detach().cpu() if isinstance(mask, torch.Tensor) else mask).astype(bool)
    steps = [float(step) for step in spacing]
    if marked.ndim != 3:
        raise ValueError(f"expected a mask (slices, rows, columns), got shape {marked.shape}")
    if len(steps) != 3 or not all(math.isfinite(step) and step > 0 for step in steps):
        raise ValueError(f"expected the distance in mm of slices, rows and columns, got {steps}")
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3, 3)))
    components = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == label
        area = int(part.sum(axis=(1, 2)).max()) * steps[1] * steps[2]
        volume = int(part.sum()) * math.prod(steps)
        components.append(Component(box, part, 2.0 * math.sqrt(area / math.pi), volume))
    return components


def in_size(components: Sequence[Component], size: str) -> list[Component]:
    """Those of ``size``: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` (5 mm and more).

    Raises:
        ValueError: another size.
    """
    if size not in LESION_SIZES:
        raise ValueError(f"expected a size of {', '.join(LESION_SIZES)}, got {size!r}")
    return [part for part in components if size == "all" or (part.diameter_mm < SMALL_LESION_MM) == (size == "small")]
