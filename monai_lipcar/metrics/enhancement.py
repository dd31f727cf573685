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
"""How much of the true enhancement a simulated full-dose image recovers."""

from __future__ import annotations

import torch

__all__ = [
    "HIDDEN_ENHANCEMENT",
    "VISIBLE_ENHANCEMENT",
    "enhancement_bias",
    "enhancement_recovery",
    "enhancement_slope",
    "enhancing_tissue",
    "smooth_enhancement",
    "tissue_brightness",
]

VISIBLE_ENHANCEMENT = 0.2
"""Share of the tissue's brightness before contrast from which on enhancement is taken to be seen."""
HIDDEN_ENHANCEMENT = 0.1
"""Share below which it is taken not to be seen; what lies between the two counts neither way."""
FEWEST_VOXELS = 10


def smooth_enhancement(pre: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Enhancement :math:`x - x_P` of slices (S, H, W), mean over 3x3 pixels in the slice plane.

    Example:
        >>> smooth_enhancement(torch.zeros(1, 3, 3), torch.eye(3)[None])[0, 1, 1].item()
        0.3333...
    """
    difference = (image - pre).as_subclass(torch.Tensor).float()
    return torch.nn.functional.avg_pool2d(
        difference[:, None], kernel_size=3, stride=1, padding=1, count_include_pad=False
    )[:, 0]


def tissue_brightness(pre: torch.Tensor, head: torch.Tensor) -> float:
    """Median of the image before contrast over the head: what enhancement is compared with.

    Not the voxel's own brightness, of which noise alone would be a large share in fluid or bone.

    Raises:
        ValueError: the head mask is empty.

    Example:
        >>> tissue_brightness(torch.tensor([0.0, 0.2, 0.3, 0.5]), torch.tensor([False, True, True, True]))
        0.300...
    """
    if not bool(head.any()):
        raise ValueError("the head mask is empty: there is nothing to measure")
    return float(pre.as_subclass(torch.Tensor)[head.as_subclass(torch.Tensor)].float().median())


def enhancing_tissue(
    pre: torch.Tensor, high: torch.Tensor, mask: torch.Tensor | None = None, threshold: float = 0.1
) -> torch.Tensor:
    r"""Where the acquired full-dose image enhances: :math:`x_H - x_P > t`, after a 3x3 mean in the slice plane.

    Args:
        pre: (S, H, W), on the study's [0, 1] scale.
        high: same shape.
        mask: boolean, same shape: the head.
        threshold: t; with the default scale (twice the brightest tissue before contrast) 0.1 is 20 % of that tissue.

    Returns:
        Boolean (S, H, W).
    """
    enhancing = smooth_enhancement(pre, high) > threshold
    return enhancing if mask is None else enhancing & mask


def enhancement_recovery(
    simulated: torch.Tensor, pre: torch.Tensor, high: torch.Tensor, enhancing: torch.Tensor
) -> float:
    r"""Mean simulated enhancement over mean true enhancement, in enhancing tissue: 1 is right.

    .. math:: \frac{\mathrm{mean}_E (x_H^{sim} - x_P)}{\mathrm{mean}_E (x_H - x_P)}

    Args:
        simulated: the simulated full-dose image, any shape.
        pre: same shape.
        high: same shape.
        enhancing: boolean, same shape.

    Returns:
        The ratio; NaN where nothing enhances, and where the true enhancement is zero in the mean.

    Example:
        >>> pre, high = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
        >>> round(enhancement_recovery(0.9 * high, pre, high, high > 0.1), 6)
        0.9
    """
    if not bool(enhancing.any()):
        return float("nan")
    true = float((high - pre)[enhancing].double().mean())
    return float((simulated - pre)[enhancing].double().mean()) / true if true else float("nan")


def enhancement_slope(simulated: torch.Tensor, pre: torch.Tensor, high: torch.Tensor, mask: torch.Tensor) -> float:
    r"""Slope of the regression line of simulated enhancement on true enhancement: 1 is right.

    .. math:: \frac{\mathrm{cov}_M(x_H^{sim} - x_P,\; x_H - x_P)}{\mathrm{var}_M(x_H - x_P)}

    Below 1 strong enhancement is lowered against weak enhancement, whatever the mean (see
    :func:`enhancement_recovery` and :func:`enhancement_bias`). The line has an intercept. Noise in the acquired image
    flattens it: by the factor :math:`v / (v + \sigma^2)` where the enhancement varies by :math:`v` and the noise of the
    acquired enhancement by :math:`\sigma^2`, which matters where all of a lesion enhances alike.

    Args:
        simulated: the simulated full-dose image, any shape.
        pre: same shape.
        high: same shape.
        mask: boolean, same shape: lesions, or enhancing tissue.

    Returns:
        The slope; NaN with fewer than 10 voxels, or where all of them enhance alike.

    Example:
        >>> pre, high = torch.zeros(12), torch.linspace(0.2, 0.6, 12)
        >>> round(enhancement_slope(0.5 * high + 0.2, pre, high, high > 0), 6)
        0.5
    """
    true = (high - pre).as_subclass(torch.Tensor)[mask].double()
    found = (simulated - pre).as_subclass(torch.Tensor)[mask].double()
    if true.numel() < FEWEST_VOXELS:
        return float("nan")
    deviation = true - true.mean()
    variance = float(deviation.square().mean())
    # equal values differ by rounding only, which gives no line
    if variance <= 1e-10 * float(true.square().mean()):
        return float("nan")
    return float((deviation * (found - found.mean())).mean()) / variance


def enhancement_bias(simulated: torch.Tensor, high: torch.Tensor, mask: torch.Tensor) -> float:
    r"""Mean signed error of the enhancement: 0 is right, below 0 enhancement is lost.

    .. math:: \mathrm{mean}_M \left[ (x_H^{sim} - x_P) - (x_H - x_P) \right] = \mathrm{mean}_M (x_H^{sim} - x_H)

    Args:
        simulated: the simulated full-dose image, any shape.
        high: same shape.
        mask: boolean, same shape: lesions, or enhancing tissue.

    Returns:
        In the unit of the images; NaN where the mask is empty.

    Example:
        >>> round(enhancement_bias(torch.tensor([0.5, 0.7]), torch.tensor([0.6, 0.9]), torch.tensor([True, True])), 6)
        -0.15
    """
    return float((simulated - high).as_subclass(torch.Tensor)[mask].double().mean())
