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
"""Tests of the gain between acquisitions."""

from __future__ import annotations

import numpy as np
import pytest

from monai_lipcar.transforms.gain import (
    biweight,
    compare_in_head,
    least_enhancing,
    log_ratio_mode,
    mode_field,
    trimmed_line,
)


@pytest.mark.parametrize("enhancement", [1, -1])
def test_a_fifth_of_the_tissue_enhancing_does_not_move_the_mode(enhancement: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.3, 0.03, 16_000), 0.3 + enhancement * rng.uniform(0.0, 0.8, 4_000)])
    mode, width = log_ratio_mode(values, enhancement)
    assert mode == pytest.approx(0.3, abs=0.01)
    assert width == pytest.approx(0.03, rel=0.1)


def test_the_tissue_that_enhances_least_wins_over_the_most_frequent() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.0, 0.01, 4_000), rng.normal(0.15, 0.02, 16_000)])
    assert log_ratio_mode(values, 1)[0] == pytest.approx(0.0, abs=0.005)
    assert log_ratio_mode(-values, -1)[0] == pytest.approx(0.0, abs=0.005)
    assert log_ratio_mode(values, 0)[0] == pytest.approx(0.15, abs=0.005)


def test_equal_values_have_themselves_as_mode() -> None:
    assert log_ratio_mode(np.full(1000, -0.4), -1) == pytest.approx((-0.4, 0.0))


def test_biweight() -> None:
    np.testing.assert_allclose(biweight(np.array([-1.0, 0.0, 1.0, 5.0]), 2.0), [0.5625, 1.0, 0.5625, 0.0])


def test_field_follows_a_slope_and_not_a_lesion() -> None:
    x, y, z = np.meshgrid(*(np.arange(60.0),) * 3, indexing="ij")
    slope = 0.3 * (x / 59.0 - 0.5)
    rng = np.random.default_rng(2)
    lesion = (x - 30) ** 2 + (y - 30) ** 2 + (z - 30) ** 2 < 8**2
    log_ratio = (slope + 0.02 * rng.standard_normal(x.shape) + 0.7 * lesion).astype(np.float32)
    field = mode_field(log_ratio, np.ones(x.shape, dtype=bool), np.ones(3), 10.0, 1)
    assert field.shape == x.shape
    middle = np.s_[12:-12, 12:-12, 12:-12]
    assert np.abs(field - slope)[middle].max() < 0.03


def test_field_is_in_millimeters() -> None:
    # the same head on a grid of half the spacing has the same field
    coarse = np.linspace(-0.2, 0.2, 31)[:, None, None] * np.ones((31, 31, 31))
    fine = np.linspace(-0.2, 0.2, 61)[:, None, None] * np.ones((61, 61, 61))
    fields = [
        mode_field(ratio.astype(np.float32), np.ones(ratio.shape, dtype=bool), np.full(3, spacing), 8.0)
        for ratio, spacing in ((coarse, 2.0), (fine, 1.0))
    ]
    np.testing.assert_allclose(fields[0][5:-5, 15, 15], fields[1][::2][5:-5, 30, 30], atol=0.01)


@pytest.mark.parametrize("enhancement", [1, -1, 0])
def test_line_through_the_tissue_that_does_not_enhance(enhancement: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.choice([150.0, 300.0, 450.0], 20_000) + rng.normal(0, 20.0, 20_000)
    y = 0.9 * x + 40.0 + rng.normal(0, 2.0, x.size)
    enhancing = rng.random(x.size) < 0.2
    y[enhancing] += (enhancement or 1) * rng.uniform(50.0, 400.0, int(enhancing.sum()))
    slope, intercept = trimmed_line(x, y, enhancement)
    assert slope == pytest.approx(0.9, rel=0.01)
    assert intercept == pytest.approx(40.0, abs=3.0)


def test_compared_region_leaves_air_and_edges_out() -> None:
    volume = np.zeros((60, 60, 12), dtype=np.float32)
    volume[5:55, 5:55] = 100.0
    volume[18:42, 18:42] = 0.0  # a cavity inside the head
    _, _, region = compare_in_head(volume, 3.0 * volume, np.array([1.0, 1.0, 5.0]))
    assert region[9, 9, 5]
    assert not region[30, 30, 5]
    assert not region[5, 30, 5]
    assert not region[2, 2, 5]


def test_no_common_tissue_is_said() -> None:
    with pytest.raises(ValueError, match="at least 100 voxels of both volumes"):
        compare_in_head(np.zeros((30, 30, 12)), np.zeros((30, 30, 12)), np.ones(3))


def rat_like(enhancement: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Textured head, three quarters of which enhance a little; the reference has 1.1 times the gain."""
    rng = np.random.default_rng(5)
    image = 300.0 * np.exp(0.1 * rng.standard_normal((80, 80, 12)))
    uptake = np.zeros(image.shape)
    uptake[:, 20:] = enhancement
    uptake[40:60, 40:60] = 0.5
    reference = 1.1 * image * (1.0 + uptake)
    return tuple(volume + noise * rng.standard_normal(image.shape) for volume in (image, reference))


@pytest.mark.parametrize("noise", [3.0, 15.0])
@pytest.mark.parametrize("enhancement", [0.02, 0.04, 0.15])
def test_most_of_the_head_enhancing_a_little_does_not_move_the_lower_end(enhancement: float, noise: float) -> None:
    image, reference = rat_like(enhancement, noise)
    region, spacing = np.ones(image.shape, dtype=bool), np.array([1.0, 1.0, 5.0])
    up = least_enhancing(image, reference, region, spacing, 1)
    down = least_enhancing(reference, image, region, spacing, -1)
    assert up is not None
    assert down is not None
    assert np.exp(up) == pytest.approx(1.1, rel=0.006)
    assert np.exp(down) == pytest.approx(1 / 1.1, rel=0.006)


def test_no_lower_end_without_one_receiver_gain() -> None:
    image, reference = rat_like(0.04, 3.0)
    # another coil: smooth factors of 0.7 to 1.4
    field = np.exp(0.17 * np.add.outer(np.sin(np.arange(80) / 9.0), np.cos(np.arange(80) / 11.0)))[:, :, None]
    region, spacing = np.ones(image.shape, dtype=bool), np.array([1.0, 1.0, 5.0])
    assert least_enhancing(image, reference * field, region, spacing, 1) is None
