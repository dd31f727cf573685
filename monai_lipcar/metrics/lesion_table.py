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
"""The lesion rows of a study's table: by size, and what is missed or invented."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch

from .components import LESION_SIZES, Component, connected_components, in_size
from .enhancement import enhancement_bias, enhancement_slope, tissue_brightness
from .false_enhancement import FALSE_LESION_MM, false_enhancement, is_missed, visible_lesions
from .lesion import (
    contrast_enhancement_percentage,
    contrast_to_noise,
    lesion_to_brain_ratio,
    normal_tissue,
    tissue_noise,
)

__all__ = ["LesionScorer", "false_enhancement_row"]


class LesionScorer:
    """The lesions of one study, with what is needed to judge several images in them.

    Args:
        lesion: boolean (S, H, W).
        head: boolean head mask, same shape.
        high: the acquired image, same shape.
        spacing: distance in mm of slices, rows and columns.
        pre: the image before contrast, same shape, where there is one.
    """

    def __init__(
        self,
        lesion: torch.Tensor,
        head: torch.Tensor,
        high: torch.Tensor,
        spacing: Sequence[float],
        pre: torch.Tensor | None = None,
    ) -> None:
        self.lesion = lesion
        self.head = head
        self.high = high
        self.spacing = spacing
        self.pre = pre
        self.components = connected_components(lesion, spacing)

    @cached_property
    def tissue(self) -> torch.Tensor:
        """Normal tissue around the lesions, see :func:`normal_tissue`."""
        return normal_tissue(self.lesion, self.head, self.high, self.spacing, self.pre)

    def contrast(self, image: torch.Tensor, size: str = "all", noise: float | None = None) -> dict[str, float]:
        """``cnr_lesion``, ``lbr_lesion`` and, with ``pre``, ``cep_lesion``: means over the lesions of a size.

        Args:
            image: the image to judge.
            size: ``"all"``, ``"small"`` or ``"large"``.
            noise: that of the normal tissue, where it is known already.
        """
        tissue, pre = self.tissue, self.pre
        noise = tissue_noise(image, tissue) if noise is None else noise
        row = {
            "cnr_lesion": self._mean(lambda part: contrast_to_noise(image, part, tissue, noise), size),
            "lbr_lesion": self._mean(lambda part: lesion_to_brain_ratio(image, part, tissue), size),
        }
        return row if pre is None else row | self.percentage(image, size)

    def percentage(self, image: torch.Tensor, size: str = "all") -> dict[str, float]:
        """``cep_lesion`` alone, which needs no normal tissue."""
        pre = self.pre
        if pre is None:
            return {}
        return {"cep_lesion": self._mean(lambda part: contrast_enhancement_percentage(image, pre, part), size)}

    def enhancement(self, image: torch.Tensor, size: str = "all") -> dict[str, float]:
        """Slope and bias over all voxels of the lesions of a size, and the share of them that is missed.

        Keys ``enhancement_slope_lesion``, ``enhancement_bias_lesion``, ``missed_lesions`` (share of the lesions that
        the acquired image shows, NaN where it shows none) and ``visible_lesions`` (their number). Nothing without
        ``pre``.
        """
        if self.pre is None:
            return {}
        lesions = in_size(self.components, size)
        brightness = tissue_brightness(self.pre, self.head)
        visible = visible_lesions(lesions, self.pre, self.high, brightness)
        missed = sum(is_missed(part, image, self.pre, brightness) for part in visible)
        marked = self._marked(lesions)
        return {
            "enhancement_slope_lesion": enhancement_slope(image, self.pre, self.high, marked),
            "enhancement_bias_lesion": enhancement_bias(image, self.high, marked),
            "missed_lesions": missed / len(visible) if visible else float("nan"),
            "visible_lesions": float(len(visible)),
        }

    def row(self, image: torch.Tensor) -> dict[str, float]:
        """All of it, the keys of small and large lesions ending in ``_small`` and ``_large``; sizes without lesions
        are left out."""
        noise = tissue_noise(image, self.tissue)
        return self._by_size(lambda size: self.contrast(image, size, noise) | self.enhancement(image, size))

    def acquired_row(self) -> dict[str, float]:
        """The contrasts of the acquired image, to compare those of the others with."""
        noise = tissue_noise(self.high, self.tissue)
        return self._by_size(lambda size: self.contrast(self.high, size, noise))

    def _by_size(self, of: Callable[[str], dict[str, float]]) -> dict[str, float]:
        row: dict[str, float] = {}
        for size in LESION_SIZES:
            if in_size(self.components, size):
                row |= {key if size == "all" else f"{key}_{size}": value for key, value in of(size).items()}
        return row

    def _mean(self, of: Callable[[Component], float], size: str) -> float:
        values = [of(part) for part in in_size(self.components, size)]
        values = [value for value in values if math.isfinite(value)]
        return sum(values) / len(values) if values else float("nan")

    def _marked(self, lesions: Sequence[Component]) -> torch.Tensor:
        marked = np.zeros(tuple(self.lesion.shape), dtype=bool)
        for part in lesions:
            marked[part.box] |= part.mask
        return torch.from_numpy(marked).to(self.high.device)


def false_enhancement_row(
    image: torch.Tensor,
    pre: torch.Tensor,
    high: torch.Tensor,
    head: torch.Tensor,
    spacing: Sequence[float],
    lesion: torch.Tensor | None = None,
) -> dict[str, float]:
    """False enhancement of one image: arguments as for :func:`false_enhancement`.

    Returns:
        ``false_enhancement_per_cm3``, the number of components over the volume of the head, also of those below
        (``..._small``) and from 5 mm on (``..._large``); ``false_enhancement_mm``, the diameter of the largest one, 0
        where there is none; ``false_enhancement_3mm``, 1 where it has 3 mm or more and 0 otherwise: the mean over
        studies is the share of studies in which something could be taken for a lesion.
    """
    components = false_enhancement(image, pre, high, head, spacing, lesion)
    volume_cm3 = int(head.sum()) * math.prod(float(step) for step in spacing) / 1000.0
    largest = max((part.diameter_mm for part in components), default=0.0)
    row = {
        f"false_enhancement_per_cm3{'' if size == 'all' else f'_{size}'}": len(in_size(components, size)) / volume_cm3
        for size in LESION_SIZES
    }
    return row | {"false_enhancement_mm": largest, "false_enhancement_3mm": float(largest >= FALSE_LESION_MM)}
