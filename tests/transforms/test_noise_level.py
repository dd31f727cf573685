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
"""Tests of the noise estimate against noise of known deviation."""

from __future__ import annotations

import numpy as np
import pytest

from monai_lipcar.data.phantom import AcquisitionOptions, simulate_study
from monai_lipcar.transforms import EstimateNoise, EstimateNoised, ScaleIntensityByReferenced
from monai_lipcar.transforms.noise_level import estimate_air_noise, estimate_noise


def head(shape: tuple[int, int, int] = (3, 96, 96)) -> tuple[np.ndarray, np.ndarray]:
    """A smooth bright disk with a sharp rim in empty space, and where it is."""
    rows, columns = np.mgrid[-1:1:96j, -1:1:96j]
    inside = rows**2 + columns**2 < 0.6
    image = np.where(inside, 400.0 + 100.0 * rows, 0.0)
    return np.broadcast_to(image, shape).copy(), np.broadcast_to(inside, shape).copy()


@pytest.mark.parametrize("sigma", [4.0, 20.0])
def test_estimate_is_the_deviation_of_rician_noise_in_the_head(sigma: float) -> None:
    clean, inside = head()
    rng = np.random.default_rng(0)
    noisy = np.hypot(clean + rng.normal(scale=sigma, size=clean.shape), rng.normal(scale=sigma, size=clean.shape))
    assert estimate_noise(noisy, inside) == pytest.approx(sigma, rel=0.05)


def test_empty_background_does_not_pull_the_estimate_down() -> None:
    clean, inside = head()
    noisy = clean + np.random.default_rng(0).normal(scale=10.0, size=clean.shape) * inside
    assert estimate_noise(noisy, inside) == pytest.approx(10.0, rel=0.05)
    # over the whole image, half of which is empty, the same rule finds much less
    assert estimate_noise(noisy, np.ones_like(inside)) < 7.0


def test_a_plane_has_no_noise() -> None:
    rows, columns = np.mgrid[:32, :32].astype(float)
    plane = (3.0 * rows + 5.0 * columns)[None]
    assert estimate_noise(plane, np.ones(plane.shape, bool)) == pytest.approx(0.0, abs=1e-4)


def test_too_few_pixels_give_no_estimate() -> None:
    mask = np.zeros((1, 32, 32), bool)
    mask[0, :9, :9] = True  # 7x7 pixels with a whole neighborhood
    assert np.isnan(estimate_noise(np.ones((1, 32, 32)), mask))


def test_texture_and_edges_count_little() -> None:
    """Of a head that is full of detail, the flat parts are judged."""
    clean, inside = head()
    rng = np.random.default_rng(0)
    detail = rng.uniform(-60.0, 60.0, (3, 48, 48)).repeat(2, axis=1).repeat(2, axis=2)
    detail[:, 20:60, 20:60] = 0.0
    noisy = clean + detail + rng.normal(scale=5.0, size=clean.shape)
    assert estimate_noise(noisy, inside) == pytest.approx(5.0, rel=0.15)


@pytest.mark.parametrize("coils", [1, 2])
def test_only_air_of_a_single_channel_tells_the_noise(coils: int) -> None:
    channels = np.random.default_rng(0).normal(scale=7.0, size=(2 * coils, 50000))
    air = np.linalg.norm(channels, axis=0)
    assert estimate_air_noise(air) == (
        pytest.approx(7.0, rel=0.02) if coils == 1 else pytest.approx(np.nan, nan_ok=True)
    )


@pytest.mark.parametrize(
    "air",
    [np.zeros(5000), np.full(5000, 3.0), np.abs(np.random.default_rng(0).normal(size=5000)), np.ones(10), np.zeros(0)],
)
def test_air_that_tells_nothing(air: np.ndarray) -> None:
    assert np.isnan(estimate_air_noise(air))


def test_air_that_was_cut_away_but_for_a_rim_tells_nothing() -> None:
    air = np.zeros(20000)
    air[:4000] = np.hypot(*np.random.default_rng(0).normal(scale=7.0, size=(2, 4000)))
    assert np.isnan(estimate_air_noise(air))


@pytest.fixture(scope="module")
def clean_studies() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Head, pre and low without noise of each anatomy."""
    studies = {}
    options = {"rat": {}, "mni152": {}, "random": {"shape": (128, 128, 8)}}
    for anatomy in options:
        maps, volumes = simulate_study(
            anatomy, 1, seed=7, options=AcquisitionOptions(noise_level=0.0), anatomy_options=options[anatomy]
        )
        middle = maps.shape[2] // 2
        slices = slice(middle - 4, middle + 4)
        studies[anatomy] = tuple(volume[..., slices] for volume in (maps.head, volumes["pre"], volumes["low"]))
    return studies


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("anatomy", ["rat", "mni152", "random"])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.033, 0.066])
def test_known_noise_of_phantoms(
    level: float, anatomy: str, stripped: bool, clean_studies: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    inside, pre, low = clean_studies[anatomy]
    scaled = ScaleIntensityByReferenced(["pre", "low"])({"pre": pre[None], "low": low[None]})
    sigma = level * float(np.percentile(low[inside], 99.5)) / scaled["scale"]
    rng = np.random.default_rng(1)
    clean = scaled["low"].numpy()
    noisy = np.hypot(clean + rng.normal(scale=sigma, size=clean.shape), rng.normal(scale=sigma, size=clean.shape))
    estimate = EstimateNoise(slice_axis=2)(np.where(inside, noisy, 0.0) if stripped else noisy)
    assert estimate == pytest.approx(sigma, rel=0.15, abs=0.001)


def test_noise_levels_of_members() -> None:
    rng = np.random.default_rng(0)
    data = {name: 100.0 + rng.normal(scale=scale, size=(1, 64, 64, 2)) for name, scale in (("pre", 2.0), ("low", 4.0))}
    for volume in data.values():
        volume[:, :8] = 0.0
    found = EstimateNoised(["pre", "low"], ["of_pre", "of_low"])(data)
    assert (found["of_pre"], found["of_low"]) == (pytest.approx(2.0, rel=0.1), pytest.approx(4.0, rel=0.1))
    assert "sigma" not in EstimateNoised("low", allow_missing_keys=True)({"pre": data["pre"]})
    with pytest.raises(ValueError, match="expected a name for each of 2 keys, got 1"):
        EstimateNoised(["pre", "low"])
