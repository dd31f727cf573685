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
"""How well a lesion stands out: contrast-to-noise, lesion-to-brain ratio, contrast enhancement percentage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from .components import Component
from .enhancement import VISIBLE_ENHANCEMENT, smooth_enhancement, tissue_brightness

__all__ = [
    "contrast_enhancement_percentage",
    "contrast_to_noise",
    "lesion_to_brain_ratio",
    "normal_tissue",
    "tissue_noise",
]

GAP_MM = 2.0
"""Tissue closer to a lesion is not normal tissue: partial volume, blur, an outline drawn too tightly."""
REACH_MM = 20.0
"""Tissue further away may lie in another part of the receiver coil's field."""
SIMILAR = 0.3
"""Normal tissue is within this share of the median: gray and white matter are, fluid, bone and fat are not."""
FEWEST_VOXELS = 20
REGION_PIXELS = 5
"""Side of the regions in which noise is measured."""


def normal_tissue(
    lesion: torch.Tensor,
    head: torch.Tensor,
    high: torch.Tensor,
    spacing: Sequence[float],
    pre: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Normal tissue around the lesions, the *brain* of the lesion-to-brain ratio, found without a segmentation.

    Voxels of the head that are 2 to 20 mm away from the nearest lesion voxel, do not enhance in the acquired image
    (3x3 mean of :math:`x_H - x_P` below 20 % of the head's median before contrast), and whose value before contrast is
    within 30 % of the median of all such voxels (which leaves fluid, bone and fat out). It is chosen on acquired images
    only, hence the same for every image that is judged.

    Args:
        lesion: boolean (S, H, W), all lesions.
        head: boolean, same shape.
        high: the acquired full dose, same shape, any unit in which empty space is 0.
        spacing: distance in mm of slices, rows and columns.
        pre: the image before contrast; without it enhancing tissue is recognized by its brightness only.

    Returns:
        Boolean (S, H, W); nothing where fewer than 20 voxels are left.

    Example:
        >>> lesion = torch.zeros(1, 60, 60, dtype=torch.bool); lesion[0, 28:32, 28:32] = True
        >>> image = torch.full((1, 60, 60), 0.3)
        >>> tissue = normal_tissue(lesion, torch.ones_like(lesion), image, (5.0, 1.0, 1.0), image)
        >>> [bool(tissue[0, 30, column]) for column in (32, 36, 50, 55)]
        [False, True, True, False]
    """
    candidates = _near(lesion, spacing) & head.as_subclass(torch.Tensor)
    reference = (high if pre is None else pre).as_subclass(torch.Tensor).float()
    if pre is not None and bool(candidates.any()):
        candidates &= smooth_enhancement(pre, high) < VISIBLE_ENHANCEMENT * tissue_brightness(pre, head)
    if not bool(candidates.any()):
        return candidates
    median = reference[candidates].median()
    tissue = candidates & ((reference - median).abs() <= SIMILAR * median)
    return tissue if int(tissue.sum()) >= FEWEST_VOXELS else torch.zeros_like(tissue)


def _near(lesion: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    marked = np.asarray(lesion.detach().cpu()).astype(bool)
    near = np.zeros_like(marked)
    if marked.any():
        reach = [int(REACH_MM / step) + 1 for step in spacing]
        around = ndimage.find_objects(marked.astype(np.uint8))[0]
        box = tuple(
            slice(max(part.start - margin, 0), part.stop + margin) for part, margin in zip(around, reach, strict=True)
        )
        distance = ndimage.distance_transform_edt(~marked[box], sampling=[float(step) for step in spacing])
        near[box] = (distance > GAP_MM) & (distance <= REACH_MM)
    return torch.from_numpy(near).to(lesion.device)


def _mean(image: torch.Tensor, where: torch.Tensor | Component) -> float:
    values = where.values(image) if isinstance(where, Component) else image.as_subclass(torch.Tensor)[where].double()
    return float(values.mean())  # of nothing: NaN


def tissue_noise(image: torch.Tensor, tissue: torch.Tensor) -> float:
    """Noise as a reader measures it: standard deviation in a small region of normal tissue.

    The median over all regions of 5x5 pixels in the slice plane of which at least half are normal tissue, so that the
    difference between gray and white matter does not count as noise.

    Args:
        image: (S, H, W).
        tissue: boolean, same shape.

    Returns:
        In the unit of ``image``; NaN where no such region fits.

    Example:
        >>> noise = 0.02 * torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> round(tissue_noise(0.3 + noise, noise < 9), 3)
        0.02
    """
    tissue, image = tissue.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor)
    slices = tissue.flatten(1).any(dim=1)
    tissue, inside = tissue[slices], tissue[slices].double()[:, None]
    values = image[slices].double()[:, None] * inside

    if not bool(slices.any()):
        return float("nan")

    def total(of: torch.Tensor) -> torch.Tensor:
        margin = REGION_PIXELS // 2
        return torch.nn.functional.avg_pool2d(of, REGION_PIXELS, 1, margin)[:, 0] * REGION_PIXELS**2

    count = total(inside).round()
    fits = tissue & (count > REGION_PIXELS**2 // 2)
    if not bool(fits.any()):
        return float("nan")
    # around the mean of all, so that little is lost by subtracting squares
    count, center = count[fits], float(values.sum() / inside.sum())
    shifted = (values - center) * inside
    first, second = total(shifted)[fits], total(shifted.square())[fits]
    return float(((second - first.square() / count) / (count - 1)).clamp(min=0).sqrt().median())


def contrast_to_noise(
    image: torch.Tensor, lesion: torch.Tensor | Component, tissue: torch.Tensor, noise: float | None = None
) -> float:
    r"""Contrast-to-noise ratio (CNR) of a lesion.

    .. math:: \mathrm{CNR} = \frac{\mathrm{mean}_L\, x - \mathrm{mean}_N\, x}{\sigma_N}

    The noise :math:`\sigma_N` is that of the normal tissue in the image that is judged (:func:`tissue_noise`).
    Smoothing lowers it: a higher CNR than the acquired image's is no merit by itself. Give ``noise`` to compare
    contrasts at one noise level.

    Args:
        image: the image to judge, (S, H, W), any unit.
        lesion: boolean, same shape, or a component.
        tissue: boolean, same shape: see :func:`normal_tissue`.
        noise: standard deviation to divide by, in the unit of ``image``.

    Returns:
        The ratio; NaN where there is no lesion, no normal tissue or no noise.

    References:
        A. Bône, S. Ammari et al., "From dose reduction to contrast maximization", Invest. Radiol. 57(8), 2022, and the
        clearance summary K240290 judge images in CNR, LBR and CEP.

    Example:
        >>> image = torch.tensor([0.9, 0.7, 0.2, 0.4])
        >>> lesion = torch.tensor([True, True, False, False])
        >>> round(contrast_to_noise(image, lesion, ~lesion, noise=0.1), 3)
        5.0
    """
    if noise is None:
        noise = tissue_noise(image, tissue)
    contrast = _mean(image, lesion) - _mean(image, tissue)
    return contrast / noise if noise > 0 else float("nan")


def lesion_to_brain_ratio(image: torch.Tensor, lesion: torch.Tensor | Component, tissue: torch.Tensor) -> float:
    r"""Lesion-to-brain ratio (LBR): :math:`\mathrm{mean}_L\, x / \mathrm{mean}_N\, x`.

    Args:
        image: the image to judge, (S, H, W), any unit in which empty space is 0.
        lesion: boolean, same shape, or a component.
        tissue: boolean, same shape: see :func:`normal_tissue`.

    Returns:
        The ratio; NaN where there is no lesion or no normal tissue.

    Example:
        >>> image = torch.tensor([0.9, 0.6, 0.3, 0.2])
        >>> lesion = torch.tensor([True, True, False, False])
        >>> round(lesion_to_brain_ratio(image, lesion, ~lesion), 3)
        3.0
    """
    return _ratio(_mean(image, lesion), _mean(image, tissue))


def contrast_enhancement_percentage(image: torch.Tensor, pre: torch.Tensor, lesion: torch.Tensor | Component) -> float:
    r"""Contrast enhancement percentage (CEP) of a lesion.

    .. math:: \mathrm{CEP} = 100 \, \frac{\mathrm{mean}_L\, x - \mathrm{mean}_L\, x_P}{\mathrm{mean}_L\, x_P}

    Args:
        image: the image to judge, (S, H, W), any unit in which empty space is 0.
        pre: the image before contrast, same shape and unit.
        lesion: boolean, same shape, or a component.

    Returns:
        Percent; NaN where there is no lesion.

    Example:
        >>> lesion = torch.tensor([True, True, False])
        >>> contrast_enhancement_percentage(torch.tensor([0.75, 0.75, 0.9]), torch.tensor([0.5, 0.5, 0.1]), lesion)
        50.0
    """
    before = _mean(pre, lesion)
    return 100.0 * _ratio(_mean(image, lesion) - before, before)


def _ratio(value: float, over: float) -> float:
    return value / over if over != 0 else float("nan")
