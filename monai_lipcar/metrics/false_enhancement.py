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
"""Enhancement that is not there in the acquired image, and lesions that do not enhance any more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from monai_lipcar.transforms.noise_level import MEDIAN_OF_ABSOLUTE_NORMAL

from .components import Component, connected_components
from .enhancement import HIDDEN_ENHANCEMENT, VISIBLE_ENHANCEMENT, smooth_enhancement, tissue_brightness

__all__ = ["FALSE_LESION_MM", "false_enhancement", "is_missed", "visible_lesions"]

FALSE_LESION_MM = 3.0
"""False enhancement of this diameter or more could be taken for a lesion."""
SIGMAS = 5.0
"""Gaussian noise is above it in 3 of ten million voxels, in a study of less than a million in less than one."""
MARGIN_PIXELS = 2
"""Around lesions and around what enhances: blur and what is left of motion make an edge thicker, not a lesion."""


def false_enhancement(
    simulated: torch.Tensor,
    pre: torch.Tensor,
    high: torch.Tensor,
    head: torch.Tensor,
    spacing: Sequence[float],
    lesion: torch.Tensor | None = None,
    sigmas: float = SIGMAS,
    sigma: float | None = None,
    visible: float = VISIBLE_ENHANCEMENT,
    hidden: float = HIDDEN_ENHANCEMENT,
) -> list[Component]:
    r"""Components that enhance in the simulated image where the acquired full dose shows nothing.

    What a reader would call a false lesion: *seen* in one image and *absent* in the other, not a vessel that is a bit
    brighter. With the 3x3 median :math:`m` and the 3x3 mean :math:`\mu` in the slice plane, a voxel of the head starts
    a component where

    .. math::
        m(x^{sim} - x_P) \ge t_v, \qquad \mu(x_H - x_P) < t_h, \qquad m(x^{sim} - x_H) - c > k \sigma,

    with :math:`c` the median of :math:`m(x^{sim} - x_H)` over the head and
    :math:`\sigma = \mathrm{median} |m(x^{sim} - x_H) - c| / 0.6745` its robust standard deviation. The neighbors of
    such a voxel belong to it where :math:`x^{sim} - x_P \ge t_v` (the median rounds corners off). Nothing counts in the
    lesion mask, where the acquired image enhances (:math:`\mu(x_H - x_P) \ge t_v`), and within 2 pixels of either.

    The thresholds :math:`t_v` and :math:`t_h` are 20 % and 10 % of the median of :math:`x_P` over the head, a choice:
    what lies between them is neither enhancement nor its absence. :math:`k = 5` keeps noise from counting where it
    reaches :math:`t_v`: Gaussian noise exceeds it in 3 of ten million voxels. The median removes what is smaller than 5
    pixels of a 3x3 neighborhood.

    Args:
        simulated: the image to judge, (S, H, W), slices first, in any unit in which empty space is 0.
        pre: the image before contrast, same shape.
        high: the acquired full dose, same shape.
        head: boolean head mask, same shape.
        spacing: distance in mm of slices, rows and columns.
        lesion: boolean lesion mask, same shape.
        sigmas: k.
        sigma: standard deviation of the difference after the median; estimated by default.
        visible: :math:`t_v` as a share of the tissue's brightness.
        hidden: :math:`t_h`, the same.

    Returns:
        The components, see :func:`~monai_lipcar.metrics.connected_components`; over the volume of the head they give
        the count per cm³.

    Raises:
        ValueError: the head mask is empty, or an image has values in it that are not finite.

    Example:
        >>> pre = torch.full((1, 40, 40), 0.3)
        >>> simulated = pre.clone(); simulated[0, 10:14, 10:14] += 0.2
        >>> head = torch.ones(1, 40, 40, dtype=torch.bool)
        >>> [round(part.diameter_mm, 2) for part in false_enhancement(simulated, pre, pre, head, (5.0, 1.0, 1.0))]
        [4.51]
        >>> false_enhancement(simulated, pre, simulated, head, (5.0, 1.0, 1.0))
        []
    """
    plain = torch.Tensor
    in_head = (image.as_subclass(plain)[head.as_subclass(plain)] for image in (simulated, pre, high))
    if not all(bool(torch.isfinite(values).all()) for values in in_head):
        raise ValueError("an image has values in the head that are not finite: there is nothing to compare")
    brightness = tissue_brightness(pre, head)
    visible, hidden = visible * brightness, hidden * brightness
    inside = np.asarray(head.detach().cpu()).astype(bool)
    acquired = np.asarray(smooth_enhancement(pre, high).cpu())
    enhancement = _plain(simulated) - _plain(pre)
    difference = _median(_plain(simulated) - _plain(high))
    center = float(np.median(difference[inside]))
    if sigma is None:
        sigma = float(np.median(np.abs(difference[inside] - center))) / MEDIAN_OF_ABSOLUTE_NORMAL
    explained = acquired >= visible
    if lesion is not None:
        explained |= np.asarray(lesion.detach().cpu()).astype(bool)
    near = ndimage.binary_dilation(explained, structure=np.ones((1, 3, 3)), iterations=MARGIN_PIXELS)
    possible = inside & ~near & (acquired < hidden)
    starts = possible & (_median(enhancement) >= visible) & (difference - center > sigmas * sigma)
    neighbors = ndimage.binary_dilation(starts, structure=np.ones((1, 3, 3)))
    return connected_components(starts | (neighbors & possible & (enhancement >= visible)), spacing)


def _plain(image: torch.Tensor) -> np.ndarray:
    values: np.ndarray = image.detach().as_subclass(torch.Tensor).float().cpu().numpy()
    return values


def _median(volume: np.ndarray) -> np.ndarray:
    filtered: np.ndarray = ndimage.median_filter(volume, size=(1, 3, 3), mode="nearest")
    return filtered


def visible_lesions(
    lesions: Sequence[Component],
    pre: torch.Tensor,
    high: torch.Tensor,
    brightness: float,
    visible: float = VISIBLE_ENHANCEMENT,
) -> list[Component]:
    r"""Lesions that the acquired full dose shows: those whose mean enhancement :math:`x_H - x_P` is at least t.

    Args:
        lesions: components of the lesion mask.
        pre: the image before contrast, (S, H, W).
        high: the acquired full dose, same shape.
        brightness: of the tissue before contrast, see :func:`tissue_brightness`.
        visible: t as a share of it.
    """
    threshold = visible * brightness
    return [part for part in lesions if float((part.values(high) - part.values(pre)).mean()) >= threshold]


def is_missed(
    lesion: Component,
    simulated: torch.Tensor,
    pre: torch.Tensor,
    brightness: float,
    hidden: float = HIDDEN_ENHANCEMENT,
) -> bool:
    r"""Is a lesion that the acquired image shows not seen in the simulated one?

    The mirror of :func:`false_enhancement`: its mean enhancement :math:`x^{sim} - x_P` is below :math:`t_h`. The mean
    over a lesion needs neither smoothing nor :math:`k \sigma`: a lesion that only noise hides from a reader is not
    called missed.

    Args:
        lesion: one of :func:`visible_lesions`.
        simulated: the image to judge, (S, H, W).
        pre: the image before contrast, same shape.
        brightness: of the tissue before contrast, see :func:`tissue_brightness`.
        hidden: :math:`t_h` as a share of it.

    Raises:
        ValueError: an image has values in the lesion that are not finite.

    Example:
        >>> pre, mask = torch.full((1, 9, 9), 0.3), torch.zeros(1, 9, 9, dtype=torch.bool)
        >>> mask[0, 3:6, 3:6] = True
        >>> (lesion,) = visible_lesions(connected_components(mask, (1, 1, 1)), pre, pre + 0.2 * mask, brightness=0.3)
        >>> is_missed(lesion, pre + 0.15 * mask, pre, 0.3), is_missed(lesion, pre + 0.02 * mask, pre, 0.3)
        (False, True)
    """
    enhancement = float((lesion.values(simulated) - lesion.values(pre)).mean())
    if not math.isfinite(enhancement):
        raise ValueError("an image has values in the lesion that are not finite: there is nothing to compare")
    return enhancement < hidden * brightness
