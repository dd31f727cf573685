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
"""Acquisition noise: Rician for MR magnitude images, Gaussian for CT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_lipcar.errors import ConfigurationError

__all__ = ["add_gaussian_noise", "add_rician_noise", "rician_mean"]


def add_gaussian_noise(image: Tensor, noise_level: float, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise: x + sigma n.

    Args:
        image: any shape, floating point, any units.
        noise_level: standard deviation sigma, in the image's units.
        generator: where the noise comes from; a CPU generator gives the same noise whatever the image's device.

    Returns:
        A new tensor of the same shape, type and device.

    Raises:
        ConfigurationError: when ``noise_level`` is negative.

    Example:
        >>> import torch
        >>> noisy = add_gaussian_noise(torch.zeros(10000), 0.1, torch.Generator().manual_seed(0))
        >>> round(float(noisy.std()), 2)
        0.1
    """
    return image + noise_level * _standard_normal(image, noise_level, generator)


def add_rician_noise(image: Tensor, noise_level: float, generator: torch.Generator) -> Tensor:
    """Add noise to the two channels of an MR signal and take the magnitude: sqrt((x + sigma n1)^2 + (sigma n2)^2).

    Where the signal is far above sigma this is Gaussian noise of standard deviation sigma; in air it leaves a floor
    of mean sigma sqrt(pi / 2) (Gudbjartsson and Patz, Magn Reson Med 1995;34:910-914).

    Args:
        image: noise-free magnitude image, any shape, floating point, values >= 0.
        noise_level: standard deviation sigma of each channel, in the image's units.
        generator: where the noise comes from; a CPU generator gives the same noise whatever the image's device.

    Returns:
        A new tensor of the same shape, type and device, values >= 0.

    Raises:
        ConfigurationError: when ``noise_level`` is negative.

    Example:
        >>> import torch
        >>> air = add_rician_noise(torch.zeros(10000), 0.1, torch.Generator().manual_seed(0))
        >>> round(float(air.mean()), 3)
        0.126
    """
    real = image + noise_level * _standard_normal(image, noise_level, generator)
    return torch.hypot(real, noise_level * _standard_normal(image, noise_level, generator))


def rician_mean(signal: Tensor, noise_level: float) -> Tensor:
    """Expectation of the magnitude that :func:`add_rician_noise` draws: the image of infinitely many averages.

    E[sqrt((A + sigma n1)^2 + (sigma n2)^2)] = sigma sqrt(pi / 2) L(-A^2 / (2 sigma^2)), where
    L(-x) = exp(-x / 2) ((1 + x) I0(x / 2) + x I1(x / 2)) is the Laguerre function of order 1/2 and I0, I1 are modified
    Bessel functions (Gudbjartsson and Patz, Magn Reson Med 1995;34:910-914). In air it is sigma sqrt(pi / 2), far above
    the noise A + sigma^2 / (2 A).

    Args:
        signal: noise-free magnitude image A, any shape, floating point, values >= 0.
        noise_level: standard deviation sigma of each channel, in the image's units.

    Returns:
        A new tensor of the same shape, type and device, nowhere below ``signal``.

    Raises:
        ConfigurationError: when ``noise_level`` is negative.

    Example:
        >>> import torch
        >>> [round(value, 4) for value in rician_mean(torch.tensor([0.0, 0.1, 1.0]), 0.1).tolist()]
        [0.1253, 0.1549, 1.005]
    """
    _check_level(noise_level)
    if noise_level == 0:
        return signal.clone()
    ratio = signal / noise_level
    # beyond 1000 the series below is exact to rounding, and the squares of the closed form could overflow
    half = ratio.clamp(max=1000).square() / 4
    closed = (1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half)
    series = signal + noise_level / (2 * ratio.clamp(min=1))
    return torch.where(ratio < 1000, math.sqrt(math.pi / 2) * noise_level * closed, series)


def _check_level(noise_level: float) -> None:
    if not noise_level >= 0:
        raise ConfigurationError(f"expected a noise level >= 0, got {noise_level}")


def _standard_normal(image: Tensor, noise_level: float, generator: torch.Generator) -> Tensor:
    _check_level(noise_level)
    noise = torch.randn(image.shape, generator=generator, device=generator.device, dtype=image.dtype)
    return noise.to(image.device)
