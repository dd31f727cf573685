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
"""How much brighter one acquisition is than another where no contrast agent arrives."""

from __future__ import annotations

import numpy as np
import torch

from monai_lipcar.transforms.foreground import foreground_threshold, head_mask

__all__ = ["biweight", "compare_in_head", "least_enhancing", "log_ratio_mode", "mode_field", "trimmed_line"]

SMOOTHING_VOXELS = 2.0
"""In-plane smoothing before ratios are taken: brings noise of 7 % of the brightest tissue down to about 1 %."""
MIN_VOXELS = 100
EDGE_SMOOTHING = 11.2
"""Product of the three standard deviations, in voxels, of the smoothing before the lower end of the ratios is sought:
4 x 4 x 0.7 with thick slices. Averages 500 voxels: noise of 1 % leaves 0.2 % in the ratio, and tissues separate that
differ by 1 %."""
THROUGH_PLANE = 0.7
"""Standard deviation across thick slices, in slices."""
RISE = 0.1
"""Where the lower end is: the density has risen to this part of its maximum."""
PLATEAU_RISE = 1.28
"""Standard deviations of noise by which it lies below the true end of a plateau: the normal quantile of RISE."""
BLURRED_TAIL = 0.01
"""An end that takes this much longer (log ratio) to rise from a fifth of RISE than noise explains is none."""


def compare_in_head(
    image: np.ndarray, reference: np.ndarray, spacing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth both volumes and find the tissue that both show.

    Args:
        image: ``(X, Y, Z)``, finite.
        reference: same shape.
        spacing: voxel sides in mm; thick slices are not smoothed into each other.

    Returns:
        Smoothed image, smoothed reference, and the boolean region in which both are foreground, away from the head's
        surface, where position matters more than signal.

    Raises:
        ValueError: the region has fewer than 100 voxels.

    Example:
        >>> volume = np.zeros((20, 20, 20), dtype=np.float32); volume[3:17, 3:17, 3:17] = 100.0
        >>> image, reference, region = compare_in_head(volume, 2 * volume, np.ones(3))
        >>> round(float(np.median(reference[region] / image[region])), 6)
        2.0
    """
    from scipy import ndimage

    sigma = np.where(spacing > 1.5 * spacing.min(), 0.0, SMOOTHING_VOXELS)
    axis = int(np.argmax(spacing))
    smooth_image, smooth_reference = (
        ndimage.gaussian_filter(np.asarray(volume, dtype=np.float32), sigma) for volume in (image, reference)
    )
    plane = [3, 3, 3]
    plane[axis] = 1
    head = head_mask(image, axis=axis) & head_mask(reference, axis=axis)
    inner = ndimage.binary_erosion(head, np.ones(plane), iterations=2)
    region = inner if inner.sum() >= MIN_VOXELS else head
    # air and bone inside the head say nothing about gain
    region = region & (smooth_image > foreground_threshold(image))
    region &= smooth_reference > foreground_threshold(reference)
    if region.sum() < MIN_VOXELS:
        raise ValueError(f"expected tissue in at least {MIN_VOXELS} voxels of both volumes, found {int(region.sum())}")
    return smooth_image, smooth_reference, region


def biweight(distance: np.ndarray, width: float) -> np.ndarray:
    """Tukey's weight: 1 at distance 0, falling to 0 at ``width`` and beyond.

    Example:
        >>> biweight(np.array([0.0, 1.0, 2.0, 3.0]), 2.0).tolist()
        [1.0, 0.5625, 0.0, 0.0]
    """
    return np.asarray(np.clip(1.0 - (distance / width) ** 2, 0.0, None) ** 2)


def log_ratio_mode(values: np.ndarray, enhancement: int = 0) -> tuple[float, float]:
    """Most frequent value of a log ratio, among tissues that enhance to different degrees.

    The histogram is smoothed and its significant peaks are found (higher than 15 % of the highest, standing out by
    5 %). Where enhancement raises the values, the lowest of them is the tissue that enhances least, even when more
    tissue enhances a little (the muscles of a rat) than not at all (its brain). The peak is then refined by the mean
    shift with Tukey's weights, whose width comes from the side that enhancement does not reach.

    Args:
        values: log ratios, any shape.
        enhancement: 1 when enhancement raises the values, -1 when it lowers them, 0 when not known (the highest peak).

    Returns:
        The mode, and the width (one standard deviation) of the distribution on its less enhancing side.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> values = np.concatenate([rng.normal(0.2, 0.02, 8000), rng.uniform(0.2, 1.0, 2000)])
        >>> mode, width = log_ratio_mode(values, enhancement=1)
        >>> round(mode, 2), round(width, 2)
        (0.2, 0.02)
    """
    from scipy import ndimage, signal

    # 200 000 values are enough for a mode
    signed = np.asarray(values, dtype=np.float64).ravel()[:: max(1, np.size(values) // 200_000)]
    signed = signed * (enhancement or 1)
    lowest, highest = np.percentile(signed, [0.5, 99.5])
    if highest - lowest < 1e-6:
        return float(np.median(signed)) * (enhancement or 1), 0.0
    counts, edges = np.histogram(signed, bins=256, range=(lowest, highest))
    density = ndimage.gaussian_filter1d(counts.astype(float), 4.0, mode="constant")
    top = float(density.max())
    peaks, _ = signal.find_peaks(np.pad(density, 1), height=0.15 * top, prominence=0.05 * top)
    peak = int(peaks[0]) - 1 if enhancement else int(density.argmax())
    mode = 0.5 * (edges[peak] + edges[peak + 1])
    width = 0.0
    for _ in range(30):
        distance = signed - mode
        below, above = -distance[distance < 0], distance[distance > 0]
        side = below if enhancement or np.median(below) < np.median(above) else above
        width = max(1.4826 * float(np.median(side)) if side.size else 0.0, 1e-4)
        weights = biweight(distance, 2.0 * width)
        shifted = float((weights * signed).sum() / weights.sum())
        if abs(shifted - mode) < 1e-6:
            break
        mode = shifted
    return mode * (enhancement or 1), width


def least_enhancing(
    image: np.ndarray, reference: np.ndarray, region: np.ndarray, spacing: np.ndarray, enhancement: int
) -> float | None:
    r"""Log ratio of the tissue that enhances least: the lower end of the ratios within one session.

    Where only receiver gain, enhancement and noise differ, no tissue lies below the gain, and some lies close to it:
    the ratios have a sharp lower end there, however much tissue enhances a little. Averages over about 500 voxels of
    tissue, :math:`\log (\sum w r / \sum w x)` under a Gaussian ``w``, bring noise below the differences between
    tissues. The end is where their histogram, weighted by brightness squared as noise demands, reaches a tenth of its
    maximum, plus the 1.28 standard deviations by which noise moves it. The noise is measured: the averages over the
    two colors of a checkerboard differ by it alone.

    Args:
        image: ``(X, Y, Z)``.
        reference: same shape.
        region: boolean, tissue that both show, from :func:`compare_in_head`.
        spacing: voxel sides in mm.
        enhancement: 1 when enhancement raises the ratio of reference to image, -1 when it lowers it.

    Returns:
        The log ratio, or None where the ratios have no sharp end: the acquisitions differ by more than the receiver's
        gain, so that the end says nothing about it.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> image = np.full((60, 60, 10), 100.0)
        >>> reference = 1.1 * image; reference[:, 20:] *= 1.04  # two thirds enhance by 4 %
        >>> noisy = reference + 3.0 * rng.standard_normal(image.shape)
        >>> found = least_enhancing(image, noisy, image > 0, np.array([1.0, 1.0, 5.0]), 1)
        >>> round(float(np.exp(found)), 2)
        1.1
    """
    from scipy import ndimage

    thick = spacing > 1.5 * spacing.min()
    across = THROUGH_PLANE ** int(thick.sum())
    sigma = np.where(thick, THROUGH_PLANE, (EDGE_SMOOTHING / across) ** (1.0 / max(1, int((~thick).sum()))))
    weight = region.astype(np.float32)
    # away from the region's border, where an average holds few voxels
    core = region & (ndimage.gaussian_filter(weight, sigma, truncate=3.0) > 0.7)
    if core.sum() < MIN_VOXELS:
        return None

    def averages(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = (
            ndimage.gaussian_filter(np.asarray(volume * mask, dtype=np.float32), sigma, truncate=3.0)[core]
            for volume in (reference, image)
        )
        return first, second

    top, bottom = averages(weight)
    x, y, z = np.ogrid[: region.shape[0], : region.shape[1], : region.shape[2]]
    color = (x + y + z) % 2 == 0
    top_half, bottom_half = averages(weight * color)
    sign = float(enhancement)
    ratio = sign * np.log(top / bottom).astype(np.float64)
    halves = np.log(top_half / bottom_half) - np.log((top - top_half) / (bottom - bottom_half))
    noise = 0.5 * 1.4826 * float(np.median(np.abs(halves)))
    middle = float(np.median(ratio))
    # bins of 1/3 permille; what lies further out enhances, or is not of one session
    counts, edges = np.histogram(ratio - middle, bins=3600, range=(-0.6, 0.6), weights=top.astype(np.float64) ** 2)
    density = ndimage.gaussian_filter1d(counts, 2.0, mode="constant")
    start, end = (edges[int(np.argmax(density >= part * density.max()))] for part in (0.2 * RISE, RISE))
    # in a Gaussian, the two lie 2.80 and 2.15 standard deviations below the peak
    if end - start - 0.65 * noise > BLURRED_TAIL:
        return None
    return sign * (middle + float(end) + PLATEAU_RISE * noise)


def mode_field(
    log_ratio: np.ndarray, region: np.ndarray, spacing: np.ndarray, width_mm: float, enhancement: int = 0
) -> np.ndarray:
    """Log ratio of the tissue that enhances least, as a function of place that varies over ``width_mm``.

    Tukey-weighted averages under a Gaussian of standard deviation ``width_mm``, reweighted 15 times by the
    distance of each voxel from the field: enhancing tissue, which stays far from it, loses its weight. Two acquisitions
    with different coils, or with and without the scanner's own coil correction, differ by such a field.

    Args:
        log_ratio: ``(X, Y, Z)``.
        region: boolean, where the log ratio can be trusted.
        spacing: voxel sides in mm.
        width_mm: well above the size of a lesion's half, or the lesion becomes part of the field.
        enhancement: see :func:`log_ratio_mode`.

    Returns:
        float32 field of the same shape; far from the region it falls back to the mode.

    Example:
        >>> x = np.linspace(0.0, 0.2, 40)[:, None, None] * np.ones((40, 40, 40))
        >>> field = mode_field(x, np.ones(x.shape, dtype=bool), np.ones(3), width_mm=5.0)
        >>> bool(np.abs(field - x)[10:30, 10:30, 10:30].max() < 0.01)
        True
    """
    from scipy import ndimage

    mode, _ = log_ratio_mode(log_ratio[region], enhancement)
    # a tenth to a sixth of the width is fine enough
    steps = np.maximum(1, np.round(width_mm / 7.5 / spacing)).astype(int)
    coarse = (slice(None, None, steps[0]), slice(None, None, steps[1]), slice(None, None, steps[2]))
    values, inside = log_ratio[coarse].astype(np.float32), region[coarse]
    sigma = width_mm / (spacing * steps)
    field = np.full(values.shape, mode, dtype=np.float32)
    for _ in range(15):
        distance = values - field
        signed = distance[inside] * (enhancement or 1)
        below = -signed[signed < 0] if enhancement else np.abs(signed)
        width = max(1.4826 * float(np.median(below)) if below.size else 0.0, 1e-4)
        weights = np.where(inside, biweight(distance, 4.0 * width), 0.0).astype(np.float32)
        total = ndimage.gaussian_filter(weights, sigma, mode="constant", truncate=3.0)
        deviation = ndimage.gaussian_filter(weights * (values - mode), sigma, mode="constant", truncate=3.0)
        field = mode + deviation / (total + 1e-3 * total.max())
    sides = (steps * (np.array(values.shape) - 1) + 1).tolist()
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(field.astype(np.float32))[None, None], size=sides, mode="trilinear", align_corners=True
    )
    missing = [(0, full - side) for full, side in zip(region.shape, sides, strict=True)]
    return np.pad(fine[0, 0].numpy(), missing, mode="edge")


def trimmed_line(x: np.ndarray, y: np.ndarray, enhancement: int = 0) -> tuple[float, float]:
    """Line ``y = a x + b`` through the tissue that does not enhance: reweighted least squares with Tukey's weights.

    Args:
        x: values of one acquisition.
        y: values of the other, already at about the same gain (the line starts at ``y = x``).
        enhancement: 1 when enhancement raises ``y``, -1 when it raises ``x``, 0 when not known. The spread comes from
            the residuals on the other side, so that enhancing tissue does not widen the net.

    Returns:
        ``a`` and ``b``.

    Example:
        >>> x = np.linspace(100.0, 500.0, 1000)
        >>> y = 0.8 * x + 50.0; y[::5] += 300.0
        >>> a, b = trimmed_line(x, y, enhancement=1)
        >>> round(a, 3), round(b, 1)
        (0.8, 50.0)
    """
    slope, intercept = 1.0, 0.0
    for _ in range(50):
        residual = y - slope * x - intercept
        signed = residual * (enhancement or 1)
        below = -signed[signed < 0] if enhancement and (signed < 0).any() else np.abs(signed)
        width = max(1.4826 * float(np.median(below)), 1e-6 * float(np.abs(y).max()))
        weights = biweight(residual, 2.0 * width)
        total = weights.sum()
        mean_x, mean_y = (weights * x).sum() / total, (weights * y).sum() / total
        variance = (weights * (x - mean_x) ** 2).sum()
        if variance <= 0.0:
            break
        slope = float((weights * (x - mean_x) * (y - mean_y)).sum() / variance)
        intercept = float(mean_y - slope * mean_x)
    return slope, intercept
