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
"""The digital scanner against the signal equation, and each imperfection by itself."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import ndimage

from monai_lipcar.data.phantom import AcquisitionOptions, TissueMaps, acquire, random_acquisition_options
from monai_lipcar.physics import HIGH_RELAXIVITY, DoseProtocol

PERFECT = AcquisitionOptions(
    texture=0,
    uptake_texture=0,
    bias_field=0,
    motion_voxels=0,
    rotation_deg=0,
    gain=0,
    blur_voxels=0,
    noise_level=0,
    units=(1000.0, 1000.0),
)


def _disc(uptake: float = 0.1) -> TissueMaps:
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")
    head = np.repeat((np.hypot(x, y) < 0.8)[..., None], 4, axis=2)
    density = np.where(head, 0.7, 0.0)
    t1 = np.where(np.repeat((x > 0)[..., None], 4, axis=2), 900.0, 1400.0)
    return TissueMaps(
        density, t1, np.full(t1.shape, 80.0), uptake * head, head, np.zeros_like(head), np.diag([1.0, 1.0, 5.0, 1.0])
    )


def _spin_echo(density: float, t1: float, t2: float, concentration: float) -> float:
    r1, r2 = 1000 / t1 + HIGH_RELAXIVITY.r1 * concentration, 1000 / t2 + HIGH_RELAXIVITY.r2 * concentration
    return float(density * (1 - np.exp(-0.360 * r1)) * np.exp(-0.00551 * r2))


def test_perfect_scanner_is_the_signal_equation() -> None:
    volumes = acquire(_disc(), np.random.default_rng(0), options=PERFECT)
    for x, t1 in ((45, 900.0), (18, 1400.0)):
        for member, concentration in (("pre", 0.0), ("low", 0.02), ("high", 0.1)):
            expected = _spin_echo(0.7, t1, 80.0, concentration) / _spin_echo(0.7, 900.0, 80.0, 0.1) * 1000
            assert volumes[member][x, 32, 1] == pytest.approx(expected, rel=1e-4)
    assert all(volume[0, 0].max() == 0 for volume in volumes.values())


def test_doses() -> None:
    none = acquire(_disc(), np.random.default_rng(0), options=PERFECT, protocol=DoseProtocol(1e-9, 0.05))
    assert np.allclose(none["low"], none["pre"], rtol=1e-4)
    full = acquire(_disc(), np.random.default_rng(0), options=PERFECT, protocol=DoseProtocol(0.05, 0.05))
    assert np.array_equal(full["low"], full["high"])


def test_coil_and_texture_cancel_in_ratios() -> None:
    options = replace(PERFECT, bias_field=0.3, texture=0.05)
    volumes = acquire(_disc(), np.random.default_rng(1), options=options)
    ratio = volumes["high"][36:60, 28:36] / np.maximum(volumes["pre"][36:60, 28:36], 1e-3)
    assert volumes["pre"][36:50, 28:36].std() > 0.02 * volumes["pre"][36:50, 28:36].mean()
    inside = volumes["pre"][36:60, 28:36] > 100
    assert np.ptp(ratio[inside]) < 1e-3


def test_gain_moves_pre_and_high_only() -> None:
    volumes = acquire(_disc(0.0), np.random.default_rng(2), options=replace(PERFECT, gain=0.05))
    ratio_pre = volumes["pre"][40, 32, 0] / volumes["low"][40, 32, 0]
    ratio_high = volumes["high"][40, 32, 0] / volumes["low"][40, 32, 0]
    assert 0.001 < abs(ratio_pre - 1) <= 0.05
    assert 0.001 < abs(ratio_high - 1) <= 0.05
    assert ratio_pre != ratio_high


def test_low_keeps_the_frame_of_the_maps() -> None:
    maps = _disc(0.0)
    rng = np.random.default_rng(4)
    volumes = acquire(maps, rng, options=replace(PERFECT, motion_voxels=2.0))

    def center(volume: np.ndarray) -> np.ndarray:
        return np.array(ndimage.center_of_mass(volume[..., 0] > 0.3 * volume.max()))

    middle = center(maps.proton_density)
    assert center(volumes["low"]) == pytest.approx(middle, abs=1e-6)
    shifts = [np.abs(center(volumes[name]) - middle).max() for name in ("pre", "high")]
    assert max(shifts) > 0.3
    assert max(shifts) < 2.2


def test_rotation() -> None:
    maps = _disc(0.0)
    volumes = acquire(maps, np.random.default_rng(0), options=replace(PERFECT, rotation_deg=10.0))
    assert np.abs(volumes["high"] - volumes["low"])[maps.head].max() > 50
    # the head is a disc: turned in plane, it stays where it is
    assert volumes["high"][..., 0].sum() == pytest.approx(volumes["low"][..., 0].sum(), rel=0.01)


def test_noise_level_is_relative_to_high() -> None:
    maps = _disc()
    options = replace(PERFECT, noise_level=0.02, high_noise_factor=0.5, low_noise_factor=0.0)
    clean = acquire(maps, np.random.default_rng(0), options=PERFECT)
    noisy = acquire(maps, np.random.default_rng(0), options=options)
    inside = maps.head & (clean["pre"] > 0.1 * clean["high"].max())
    assert (noisy["pre"] - clean["pre"])[inside].std() == pytest.approx(20.0, rel=0.05)
    assert (noisy["high"] - clean["high"])[inside].std() == pytest.approx(10.0, rel=0.05)
    assert np.array_equal(noisy["low"], clean["low"])
    # Rician floor in air
    assert noisy["pre"][~maps.head].mean() == pytest.approx(20.0 * np.sqrt(np.pi / 2), rel=0.05)


def test_expected_low_is_what_many_draws_average_to() -> None:
    maps = _disc()
    options = replace(PERFECT, noise_level=0.2)
    draws = [acquire(maps, np.random.default_rng(0), options=options)]
    expected = acquire(maps, np.random.default_rng(0), options=replace(options, expected_low=True))
    assert np.array_equal(expected["pre"], draws[0]["pre"])
    assert np.array_equal(expected["high"], draws[0]["high"])
    # units and anatomy do not depend on the seed here, the noise does
    draws += [acquire(maps, np.random.default_rng(seed), options=options) for seed in range(1, 200)]
    mean = np.mean([draw["low"] for draw in draws], axis=0)
    # standard error of a voxel 200 / sqrt(200) = 14, at most; of the mean over a region far below 1
    assert np.abs(expected["low"] - mean).max() < 5 * 14.2
    assert (expected["low"] - mean)[maps.head].mean() == pytest.approx(0, abs=1)
    assert (expected["low"] - mean)[~maps.head].mean() == pytest.approx(0, abs=1)
    assert expected["low"][~maps.head] == pytest.approx(200 * np.sqrt(np.pi / 2), rel=1e-5)


def test_blur_is_in_plane_only() -> None:
    maps = _disc(0.0)
    density = maps.proton_density.copy()
    density[..., 1:] = 0
    volumes = acquire(
        replace(maps, proton_density=density), np.random.default_rng(0), options=replace(PERFECT, blur_voxels=1.0)
    )
    assert volumes["low"][..., 1:].max() == 0
    edge = volumes["low"][:, 32, 0]
    assert ((edge > 0.05 * edge.max()) & (edge < 0.6 * edge.max())).any()


def test_default_units_fit_int16_and_are_deterministic() -> None:
    one, two = (acquire(_disc(), np.random.default_rng(7)) for _ in range(2))
    for name, volume in one.items():
        assert np.array_equal(volume, two[name])
        assert volume.dtype == np.float32
        assert volume.min() >= 0
        assert 500 < volume.max() <= np.iinfo(np.int16).max


def test_random_options_vary_everything_that_degrades() -> None:
    one, two = (random_acquisition_options(np.random.default_rng(seed)) for seed in (0, 1))
    fixed = {"units", "low_noise_factor", "high_noise_factor", "expected_low"}
    for option in fields(AcquisitionOptions):
        assert (getattr(one, option.name) == getattr(two, option.name)) == (option.name in fixed)
