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
"""What a prepared study is like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from monai_lipcar.transforms.domain_features import FEATURES, domain_features, out_of_range

Head = Callable[..., np.ndarray]
SHAPE = (80, 96, 20)
SCALE = 1000.0


@pytest.fixture(scope="module")
def examination(head: Head, thick_slices: np.ndarray) -> dict[str, np.ndarray]:
    noise = {"pre": 4.0, "low": 4.0}
    doses = {"pre": 0.0, "low": 0.2}
    return {
        name: head(thick_slices, SHAPE, dose=doses[name], noise=noise[name], seed=seed) / SCALE
        for seed, name in enumerate(doses)
    }


def test_what_a_head_is_like(examination: dict[str, np.ndarray], thick_slices: np.ndarray) -> None:
    found = domain_features(examination["low"], thick_slices, examination["pre"])
    assert set(found) == set(FEATURES)
    # the scalp is an ellipsoid with half axes of 68 and 82 mm and a soft rim, pixels of 2 mm
    assert 1.0 < found["head_mm"] / (2.0 * np.sqrt(68.0 * 82.0)) < 1.15
    assert found["head_pixels"] == pytest.approx(found["head_mm"] / 2.0, rel=1e-6)
    assert found["negative"] == 0.0
    # between that of fluid and of brain
    assert 0.08 < found["brightness"] < 0.26
    assert found["noise"] * found["brightness"] == pytest.approx(4.0 / SCALE, rel=0.1)
    assert 0.0 <= found["disagreement"] < 0.01
    assert found["dose_order"] > 0.9
    assert 0.05 < found["enhancing_share"] < 0.8


def test_one_image_alone(examination: dict[str, np.ndarray], thick_slices: np.ndarray) -> None:
    alone = domain_features(examination["low"], thick_slices)
    pair = domain_features(examination["low"], thick_slices, examination["pre"])
    assert alone == {name: pair[name] for name in FEATURES if name in alone}
    assert set(pair) - set(alone) == {"disagreement", "dose_order", "enhancing_share"}


def test_the_orientation_of_the_axes_does_not_matter(
    examination: dict[str, np.ndarray], thick_slices: np.ndarray
) -> None:
    turned = thick_slices[:, [2, 0, 1, 3]]
    pre, low = (np.ascontiguousarray(np.moveaxis(examination[name], 2, 0)) for name in ("pre", "low"))
    expected = domain_features(examination["low"], thick_slices, examination["pre"])
    assert domain_features(low, turned, pre) == pytest.approx(expected, rel=1e-5)


def test_faults_and_what_betrays_them(examination: dict[str, np.ndarray], head: Head, thick_slices: np.ndarray) -> None:
    pre, low = examination["pre"], examination["low"]
    usual = domain_features(low, thick_slices, pre)
    noisy = head(thick_slices, SHAPE, dose=0.2, noise=40.0, seed=3) / SCALE
    assert domain_features(noisy, thick_slices, pre)["noise"] > 8.0 * usual["noise"]
    assert domain_features(low, thick_slices @ np.diag([10.0, 10.0, 10.0, 1.0]))["head_mm"] == pytest.approx(
        10.0 * usual["head_mm"], rel=1e-6
    )
    assert domain_features(1.5 * low - 0.2, thick_slices)["negative"] > 0.5
    spike = low.copy()
    assert domain_features(spike / 5.0, thick_slices)["brightness"] == pytest.approx(
        usual["brightness"] / 5.0, rel=0.01
    )
    assert domain_features(low, thick_slices, pre[:, ::-1].copy())["disagreement"] > 20.0 * usual["disagreement"]
    assert domain_features(pre, thick_slices, low)["dose_order"] < -0.9


def test_nothing_enhances(head: Head, thick_slices: np.ndarray) -> None:
    first, second = (head(thick_slices, SHAPE, noise=4.0, seed=seed) / SCALE for seed in (0, 1))
    found = domain_features(second, thick_slices, first)
    assert found["enhancing_share"] < 0.005
    assert "dose_order" not in found  # nothing to judge by


def test_noise_hides_no_enhancement_that_is_there(head: Head, thick_slices: np.ndarray) -> None:
    pre, low = (head(thick_slices, SHAPE, dose=dose, noise=20.0, seed=int(10 * dose)) / SCALE for dose in (0.0, 0.2))
    assert domain_features(low, thick_slices, pre)["enhancing_share"] > 0.03


def test_volumes_without_common_tissue(examination: dict[str, np.ndarray], thick_slices: np.ndarray) -> None:
    corner = np.zeros(SHAPE)
    corner[:6, :6, :2] = 0.3
    found = domain_features(examination["low"], thick_slices, corner)
    assert found["disagreement"] == 1.0
    assert "enhancing_share" not in found


def test_an_empty_volume_has_no_features(thick_slices: np.ndarray) -> None:
    assert domain_features(np.zeros(SHAPE), thick_slices) == {}


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        (0.5, (0.4, 0.6), None),
        (0.4, (0.4, 0.6), None),
        (0.39, (0.4, 0.6), "contrast between tissues: expected 0.4 to 0.6, got 0.39: tissues hardly differ"),
        (0.7, (0.4, 0.6), "contrast between tissues: expected 0.4 to 0.6, got 0.7: tissues differ more"),
        (0.7, (None, 0.6), "contrast between tissues: expected at most 0.6, got 0.7: tissues differ more"),
        (0.1, (None, 0.6), None),
        (0.1, (0.2, None), "contrast between tissues: expected at least 0.2, got 0.1: tissues hardly differ"),
        (9.0, (0.2, None), None),
    ],
)
def test_out_of_range(value: float, limits: tuple[float | None, float | None], expected: str | None) -> None:
    found = out_of_range({"contrast": value, "noise": 1.0}, {"contrast": limits, "brightness": (0.0, 0.1)})
    assert len(found) == (expected is not None)
    assert expected is None or found[0].startswith(expected)
