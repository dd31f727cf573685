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
"""What a prepared study is like, in a few numbers that each betray a fault with a name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from monai.data.utils import affine_to_spacing
from scipy import ndimage

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.transforms.dose_order import dose_order
from monai_lipcar.transforms.foreground import head_mask
from monai_lipcar.transforms.gain import compare_in_head
from monai_lipcar.transforms.noise_level import EstimateNoise

__all__ = ["FEATURES", "Feature", "domain_features", "out_of_range", "side_of_range"]

WINDOW = 9
"""Side in pixels of the windows in which enhancement is looked for."""
STANDARD_ERRORS = 3.0
"""By which the mean of a window has to differ to count: of noise alone 0.13 % of the windows do on either side."""


@dataclass(frozen=True)
class Feature:
    """A number that describes a study.

    Args:
        label: in words.
        too_low: what a value below the range of the training means; None where low values are no fault.
        too_high: the same above the range.
    """

    label: str
    too_low: str | None
    too_high: str | None


FEATURES = {
    "head_mm": Feature(
        "width of the head in mm",
        "another body part, or voxel sizes that are wrong",
        "another body part, or voxel sizes that are wrong",
    ),
    "head_pixels": Feature(
        "width of the head in pixels",
        "a coarser grid than the operator knows",
        "a finer grid than the operator knows, or air that is bright enough to be taken for the head",
    ),
    "negative": Feature(
        "depth of the values below zero",
        None,
        "not a magnitude image of MR: CT, a phase image, or standardized intensities",
    ),
    "brightness": Feature(
        "brightness of the tissue on the scale of the computation",
        "something far brighter than tissue sets the scale: an artifact, or another sequence or body part",
        "nothing is brighter than most of the tissue: not a T1-weighted image, or clipped",
    ),
    "contrast": Feature(
        "contrast between tissues",
        "tissues hardly differ: not a T1-weighted image",
        "tissues differ more than in a T1-weighted head: another sequence or body part",
    ),
    "noise": Feature("noise over the brightness of the tissue", None, "more noise than the operator knows"),
    "disagreement": Feature(
        "disagreement of the two images",
        None,
        "they do not show the same tissues: another sequence, region or head in one of them",
    ),
    "dose_order": Feature(
        "order of the doses",
        "what changes becomes darker: the two were exchanged, or the first had more contrast agent",
        None,
    ),
    "enhancing_share": Feature(
        "share of the head that enhances",
        "nothing enhances: no contrast agent arrived, it was there before the first image, or one image came twice",
        None,
    ),
}
"""The features, in the order in which they are told."""


def domain_features(image: np.ndarray, affine: np.ndarray, before: np.ndarray | None = None) -> dict[str, float]:
    r"""Measure a prepared study.

    Of the image, over its head (:func:`~monai_lipcar.transforms.foreground.head_mask`):

    - ``head_mm``, ``head_pixels``: diameter of the disk with the area of the largest cross-section;
    - ``negative``: how far the 1st percentile of the volume lies below 0, over the median;
    - ``brightness``: the median;
    - ``contrast``: interquartile range over the median;
    - ``noise``: noise level (:class:`~monai_lipcar.transforms.EstimateNoise`) over the median.

    With an image before, at a smaller dose, over the tissue that both show
    (:func:`~monai_lipcar.transforms.gain.compare_in_head`):

    - ``disagreement``: :math:`1 - r` with Pearson's correlation :math:`r` of both, smoothed;
    - ``dose_order``: see :func:`~monai_lipcar.transforms.dose_order.dose_order`; not where it has nothing to judge by;
    - ``enhancing_share``: share of the windows of 9x9 pixels whose mean is brighter than before by more than three
      standard errors, less the share of those that are darker by as much.

    Args:
        image: ``(X, Y, Z)``, finite, on the [0, 1] scale: the one at the larger dose.
        affine: 4x4, voxel to RAS mm.
        before: the one at the smaller dose, matched in intensity and on the same grid, or None.

    Returns:
        The features that can be measured, by name.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> before = rng.normal(0.01, 0.002, (64, 64, 4)); before[12:52, 12:52] += 0.2; before[20:30] *= 1.5
        >>> image = before + rng.normal(0.0, 0.002, before.shape); image[36:48, 20:44] += 0.1
        >>> features = domain_features(image, np.diag([4.0, 4.0, 20.0, 1.0]), before)
        >>> round(features["head_mm"]), round(features["brightness"], 1), features["dose_order"]
        (189, 0.2, 1.0)
    """
    axis = slice_axis(affine, image.shape)
    spacing = np.asarray(affine_to_spacing(affine), dtype=float)
    head = head_mask(image, axis=axis)
    if not head.any():
        return {}
    pixels = 2.0 * math.sqrt(float(np.moveaxis(head, axis, 0).sum(axis=(1, 2)).max()) / math.pi)
    first, median, third = (float(value) for value in np.percentile(image[head], [25.0, 50.0, 75.0]))
    sigma = EstimateNoise(axis)(image[None])
    found = {
        "head_mm": pixels * math.sqrt(float(np.delete(spacing, axis).prod())),
        "head_pixels": pixels,
        "negative": max(0.0, -float(np.percentile(image, 1.0))) / median,
        "brightness": median,
        "contrast": (third - first) / median,
        "noise": sigma / median,
    }
    if before is not None:
        found |= _pair_features(before, image, spacing, axis, sigma)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _pair_features(
    before: np.ndarray, image: np.ndarray, spacing: np.ndarray, axis: int, sigma: float
) -> dict[str, float]:
    try:
        smooth_before, smooth_image, region = compare_in_head(before, image, spacing)
    except ValueError:  # no tissue that both show
        return {"disagreement": 1.0}
    window = [WINDOW] * 3
    window[axis] = 1
    change = ndimage.uniform_filter(np.asarray(image - before, dtype=np.float64), window)[region]
    limit = STANDARD_ERRORS * math.hypot(sigma, EstimateNoise(axis)(before[None])) / WINDOW
    order = dose_order(before, image, spacing)
    return {
        "disagreement": 1.0 - float(np.corrcoef(smooth_before[region], smooth_image[region])[0, 1]),
        "dose_order": order or math.nan,
        "enhancing_share": float((change > limit).mean() - (change < -limit).mean()),
    }


def side_of_range(value: float, bounds: tuple[float | None, float | None]) -> int:
    """On which side of a range a value lies: -1 below, 1 above, 0 within; a bound that is None is not judged.

    Example:
        >>> side_of_range(0.2, (None, 0.1)), side_of_range(0.2, (0.3, None)), side_of_range(0.2, (0.1, 0.2))
        (1, -1, 0)
    """
    low, high = bounds
    return int(high is not None and value > high) - int(low is not None and value < low)


def out_of_range(features: Mapping[str, float], ranges: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """What lies outside of the ranges of the training, a sentence each.

    Args:
        features: of a study.
        ranges: lowest and highest value by feature, None where that side is not judged. Features without a range, and
            ranges of features that could not be measured, are passed over.

    Returns:
        What was expected, what came, and what that means.

    Example:
        >>> out_of_range({"head_mm": 352.0, "noise": 0.02}, {"head_mm": (23.0, 240.0), "noise": (None, 0.15)})
        ['width of the head in mm: expected 23 to 240, got 352: another body part, or voxel sizes that are wrong']
    """
    findings = []
    for name, feature in FEATURES.items():
        if name not in features or name not in ranges:
            continue
        value, (low, high) = features[name], ranges[name]
        if outside := side_of_range(value, (low, high)):
            expected = (
                f"{low:.3g} to {high:.3g}"
                if None not in (low, high)
                else (f"at least {low:.3g}" if high is None else f"at most {high:.3g}")
            )
            meaning = feature.too_low if outside < 0 else feature.too_high
            findings.append(f"{feature.label}: expected {expected}, got {value:.3g}: {meaning}")
    return findings
