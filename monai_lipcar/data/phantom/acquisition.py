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
"""The digital scanner: from tissue maps to the pre, low and high volumes of one examination.

What the three acquisitions of one examination share (anatomy, texture, coil sensitivity, point spread) is drawn once;
what differs between them (small movement, receiver gain, noise) is drawn for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from monai_lipcar.data.phantom.fields import smooth_field
from monai_lipcar.data.phantom.maps import TissueMaps
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import DoseProtocol
from monai_lipcar.physics.noise import add_rician_noise
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho

__all__ = ["AcquisitionOptions", "acquire", "random_acquisition_options"]


@dataclass(frozen=True)
class AcquisitionOptions:
    """What makes three acquisitions of one head differ from three perfect images.

    Args:
        texture: standard deviation of the fine multiplicative texture of the tissue, the same in the three members.
        uptake_texture: standard deviation of the multiplicative texture of the uptake, the same in low and high.
        bias_field: standard deviation of the logarithm of the coil sensitivity, the same in the three members.
        motion_voxels: largest in-plane shift of pre and of high against low, in voxels. Through-plane motion of this
            size does not show in thick slices and is left out.
        rotation_deg: largest in-plane rotation of pre and of high against low, degrees.
        gain: largest relative difference of receiver gain of pre and of high against low.
        blur_voxels: standard deviation of the in-plane point spread, in voxels.
        noise_level: standard deviation of the noise of pre and low in each of the two receiver channels, relative to
            the 99.5th percentile of high in the head; the magnitude noise is Rician. 0: no noise anywhere.
        low_noise_factor: noise of low relative to ``noise_level``.
        high_noise_factor: noise of high relative to ``noise_level`` (the full dose is often averaged longer).
        units: range of the scanner units given to the 99.5th percentile of high in the head.

    Example:
        >>> AcquisitionOptions(noise_level=0.0).noise_level
        0.0
    """

    texture: float = 0.025
    uptake_texture: float = 0.10
    bias_field: float = 0.12
    motion_voxels: float = 0.3
    rotation_deg: float = 0.1
    gain: float = 0.02
    blur_voxels: float = 0.45
    noise_level: float = 0.01
    low_noise_factor: float = 1.0
    high_noise_factor: float = 0.3
    units: tuple[float, float] = (1500.0, 4000.0)


def random_acquisition_options(rng: np.random.Generator) -> AcquisitionOptions:
    """Draw options for domain randomization: from a perfect scanner to a poor one.

    Example:
        >>> options = random_acquisition_options(np.random.default_rng(0))
        >>> 0 <= options.noise_level <= 0.03
        True
    """
    return AcquisitionOptions(
        texture=float(rng.uniform(0.0, 0.08)),
        uptake_texture=float(rng.uniform(0.0, 0.3)),
        bias_field=float(rng.uniform(0.0, 0.3)),
        motion_voxels=float(rng.uniform(0.0, 0.4)),
        rotation_deg=float(rng.uniform(0.0, 0.15)),
        gain=float(rng.uniform(0.0, 0.03)),
        blur_voxels=float(rng.uniform(0.0, 1.0)),
        noise_level=float(rng.uniform(0.0, 0.03)),
    )


def acquire(
    maps: TissueMaps,
    rng: np.random.Generator,
    *,
    signal_model: SignalModel | None = None,
    agent: ContrastAgent = HIGH_RELAXIVITY,
    protocol: DoseProtocol | None = None,
    options: AcquisitionOptions | None = None,
) -> dict[str, np.ndarray]:
    """Acquire pre, low and high of one head.

    Args:
        maps: the head. Its frame is that of low: the lesion mask fits low exactly.
        rng: source of randomness; the same state gives the same volumes.
        signal_model: default ``SpinEcho()``, the T1-weighted spin echo with TR 360 ms and TE 5.51 ms.
        agent: contrast agent.
        protocol: doses; low gets the fraction ``protocol.dose_fraction`` of the uptake, high all of it.
        options: imperfections, default ``AcquisitionOptions()``.

    Returns:
        ``{"pre", "low", "high"}``: float32 volumes, not negative, in scanner-like units that fit int16.

    Example:
        >>> from monai_lipcar.data.phantom import random_head
        >>> head = random_head(np.random.default_rng(0), shape=(64, 64, 4))
        >>> study = acquire(head, np.random.default_rng(1))
        >>> {name: volume.shape for name, volume in study.items()}
        {'pre': (64, 64, 4), 'low': (64, 64, 4), 'high': (64, 64, 4)}
    """
    signal_model = signal_model or SpinEcho()
    protocol = protocol or DoseProtocol()
    options = options or AcquisitionOptions()

    sensitivity = np.exp(options.bias_field * _coil(rng, maps))
    density = maps.proton_density * _texture(rng, maps, options.texture) * sensitivity
    uptake = maps.uptake_mm * _texture(rng, maps, options.uptake_texture)
    volumes = {}
    for member, dose in (("pre", 0.0), ("low", protocol.dose_fraction), ("high", 1.0)):
        signal = signal_model.signal(
            torch.from_numpy(density),
            torch.from_numpy(maps.t1_ms),
            torch.from_numpy(maps.t2_ms),
            torch.from_numpy(dose * uptake),
            agent,
        )
        shift = rng.uniform(-1, 1, 2) * options.motion_voxels
        turn = rng.uniform(-1, 1) * options.rotation_deg
        gain = 1 + rng.uniform(-1, 1) * options.gain
        still = member == "low"
        volume = _blur(signal.numpy(), options.blur_voxels)
        volumes[member] = volume if still else gain * _move(volume, shift, turn)

    reference = float(np.percentile(volumes["high"][maps.head], 99.5))
    units = rng.uniform(*options.units)
    factors = {"pre": 1.0, "low": options.low_noise_factor, "high": options.high_noise_factor}
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    for member, volume in volumes.items():
        scaled = torch.from_numpy(np.clip(volume / reference, 0, None).astype(np.float32))
        level = options.noise_level * factors[member]
        noisy = add_rician_noise(scaled, level, generator) if level > 0 else scaled
        # a vessel may shine, but never beyond what a scanner stores
        volumes[member] = np.clip(noisy.numpy() * units, 0, np.iinfo(np.int16).max).astype(np.float32)
    return volumes


def _coil(rng: np.random.Generator, maps: TissueMaps) -> np.ndarray:
    """Log sensitivity, variance about 1: variations as wide as the head."""
    extent = np.array(maps.shape) * maps.spacing
    return smooth_field(rng, maps.shape, maps.spacing, 0.45 * extent)


def _texture(rng: np.random.Generator, maps: TissueMaps, strength: float) -> np.ndarray:
    """Positive multiplicative texture of mean 1: grain of about a voxel on patches of several voxels."""
    step = min(maps.spacing[:2])
    fine = smooth_field(rng, maps.shape, maps.spacing, 1.3 * step)
    coarse = smooth_field(rng, maps.shape, maps.spacing, 5.0 * step)
    return np.clip(1 + strength * (0.8 * fine + 0.6 * coarse), 0.05, None).astype(np.float32)


def _blur(volume: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(volume, (sigma, sigma, 0)) if sigma > 0 else volume


def _move(volume: np.ndarray, shift: np.ndarray, rotation_deg: float) -> np.ndarray:
    """Shift and rotate in plane about the center, cubic interpolation, slice by slice."""
    if not np.any(shift) and rotation_deg == 0:
        return volume
    cos, sin = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    matrix = np.array([[cos, -sin], [sin, cos]])
    center = (np.array(volume.shape[:2]) - 1) / 2
    offset = center + shift - matrix @ center
    slices = (volume[..., k] for k in range(volume.shape[2]))
    return np.stack([ndimage.affine_transform(s, matrix, offset, order=3, mode="nearest") for s in slices], axis=-1)
