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
"""The table of one study: every image against the acquired one, over the head, in enhancing tissue and in lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .enhancement import enhancement_bias, enhancement_recovery, enhancement_slope, enhancing_tissue
from .image import psnr, relative_error, ssim
from .lesion_table import LesionScorer, false_enhancement_row

__all__ = ["study_metrics"]


def study_metrics(
    images: Mapping[str, torch.Tensor],
    target: torch.Tensor,
    head: torch.Tensor,
    pre: torch.Tensor | None = None,
    lesion: torch.Tensor | None = None,
    spacing: Sequence[float] | None = None,
    target_name: str = "high",
) -> dict[str, dict[str, float]]:
    """Metrics of several images of one study against the acquired image.

    Args:
        images: name to volume (S, H, W), slices first, on the study's [0, 1] scale: the simulated image and what it
            is compared with (the low dose, linear extrapolation).
        target: the acquired image, same shape.
        head: boolean head mask, same shape.
        pre: the image before contrast; gives the metrics in enhancing tissue.
        lesion: boolean lesion mask, same shape; gives the metrics in the lesions, where it marks any.
        spacing: distance in mm of slices, rows and columns; gives what depends on sizes.
        target_name: name of the row of the acquired image.

    Returns:
        For each image ``ssim_head``, ``psnr_head``, ``relative_error_head``, ``ssim``, ``psnr``, ``relative_error``
        and, where tissue enhances, ``ssim_enhancing``, ``psnr_enhancing``, ``relative_error_enhancing``,
        ``enhancement_recovery``, ``enhancement_slope`` and ``enhancement_bias``; with a lesion ``psnr_lesion`` and
        ``relative_error_lesion``, with ``pre`` also ``enhancement_recovery_lesion``. With ``spacing`` and a lesion
        also those of :class:`~monai_lipcar.metrics.LesionScorer`, and a row ``target_name`` with the contrasts of the
        acquired image; with ``spacing`` and ``pre`` those of
        :func:`~monai_lipcar.metrics.lesion_table.false_enhancement_row`. An image that is not finite has NaN, and none
        of those that ``spacing`` gives.
    """
    if lesion is not None and not bool(lesion.any()):
        lesion = None
    scorer = None
    if lesion is not None and spacing is not None:
        scorer = LesionScorer(lesion, head, target, spacing, pre)
    enhancing = None
    if pre is not None:
        enhancing = enhancing_tissue(pre, target, head)
        if not bool(enhancing.any()):
            enhancing = None
    table = {}
    for name, image in images.items():
        row = {
            "ssim_head": ssim(image, target, head),
            "psnr_head": psnr(image, target, head),
            "relative_error_head": relative_error(image, target, head),
            "ssim": ssim(image, target),
            "psnr": psnr(image, target),
            "relative_error": relative_error(image, target),
        }
        if enhancing is not None and pre is not None:
            row["ssim_enhancing"] = ssim(image, target, enhancing)
            row["psnr_enhancing"] = psnr(image, target, enhancing)
            row["relative_error_enhancing"] = relative_error(image, target, enhancing)
            row["enhancement_recovery"] = enhancement_recovery(image, pre, target, enhancing)
            row["enhancement_slope"] = enhancement_slope(image, pre, target, enhancing)
            row["enhancement_bias"] = enhancement_bias(image, target, enhancing)
        if lesion is not None:
            row["psnr_lesion"] = psnr(image, target, lesion)
            row["relative_error_lesion"] = relative_error(image, target, lesion)
            if pre is not None:
                row["enhancement_recovery_lesion"] = enhancement_recovery(image, pre, target, lesion)
        finite = bool(torch.isfinite(image).all())
        if scorer is not None and finite:
            row |= scorer.row(image)
        if pre is not None and spacing is not None and finite:
            row |= false_enhancement_row(image, pre, target, head, spacing, lesion)
        table[name] = row
    if scorer is not None:
        table[target_name] = scorer.acquired_row()
    return table
