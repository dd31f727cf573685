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
"""The lesion metrics by size on one scene, against values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from monai_lipcar.metrics import study_metrics

Image = NDArray[np.float64]
SPACING = (5.0, 1.0, 1.0)
HEAD = np.s_[4:76, 4:76]
SMALL, LARGE = np.s_[20:23, 20:24], np.s_[18:26, 34:42]  # 12 and 64 pixels of 1 mm²: 3.9 and 9.0 mm
INVENTED = (np.s_[60:67, 60:67], np.s_[60:63, 10:13], np.s_[66:69, 30:33])  # 7.9 mm, and twice 3.4 mm
SIGN = 1.0 - 2.0 * (np.indices((80, 80)).sum(axis=0) % 2)
"""A checkerboard: noise whose standard deviation is known."""
PRE_SMALL, PRE_LARGE = 0.25, 0.4
TRUE_SMALL = np.repeat([[0.1, 0.1, 0.2, 0.2]], 3, axis=0)
TRUE_LARGE = np.repeat([[0.3] * 4 + [0.5] * 4], 8, axis=0)


def scene(noise: float, small: Image, large: Image) -> Image:
    """Tissue of 0.3 with noise, and two lesions that enhance by this."""
    image = np.zeros((80, 80))
    image[HEAD] = 0.3 + noise * SIGN[HEAD]
    image[SMALL] = PRE_SMALL + small
    image[LARGE] = PRE_LARGE + large
    return image


def deviation(noise: float) -> float:
    """Of the 25 pixels of a checkerboard of 5x5, 13 are on one side."""
    return float(np.std([noise] * 13 + [-noise] * 12, ddof=1))


def normal(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the head, what is more than 2 and at most 20 mm away from the nearest pixel of a lesion."""
    pixels = np.indices((80, 80)).reshape(2, -1, 1)
    distance = np.sqrt(((pixels - np.argwhere(lesion).T[:, None]) ** 2).sum(axis=0)).min(axis=1).reshape(80, 80)
    inside = np.zeros((80, 80), dtype=bool)
    inside[HEAD] = True
    return inside & (distance > 2.0) & (distance <= 20.0)


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    found_small, found_large = 0.5 * TRUE_SMALL + 0.02, 0.8 * TRUE_LARGE + 0.05
    simulated = scene(0.02, found_small, found_large)
    for block in INVENTED:
        simulated[block] += 0.3
    return {
        "pre": scene(0.01, 0.0 * TRUE_SMALL, 0.0 * TRUE_LARGE),
        "high": scene(0.01, TRUE_SMALL, TRUE_LARGE),
        "simulated": simulated,
        # a tenth of 0.3 is 0.03
        "without the small one": scene(0.02, 0.1 * TRUE_SMALL, found_large),
        "without the large one": scene(0.02, found_small, 0.0 * TRUE_LARGE + 0.02),
    }


@pytest.fixture(scope="module")
def lesion() -> NDArray[np.bool_]:
    mask = np.zeros((80, 80), dtype=bool)
    mask[SMALL] = mask[LARGE] = True
    return mask


@pytest.fixture(scope="module")
def table(images: dict[str, Image], lesion: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    volumes = {name: torch.from_numpy(image)[None].float() for name, image in images.items()}
    pre, high = volumes.pop("pre"), volumes.pop("high")
    head = torch.zeros(1, 80, 80, dtype=torch.bool)
    head[(0, *HEAD)] = True
    return study_metrics(volumes, high, head, pre, torch.from_numpy(lesion)[None], SPACING)


@pytest.mark.parametrize(("name", "noise"), [("simulated", 0.02), ("high", 0.01)])
def test_contrasts_by_size(
    name: str, noise: float, images: dict[str, Image], lesion: NDArray[np.bool_], table: dict[str, dict[str, float]]
) -> None:
    # 0.5 * 0.15 + 0.02 and 0.8 * 0.4 + 0.05 in the simulated image
    small, large = {"simulated": (0.095, 0.37), "high": (0.15, 0.4)}[name]
    tissue = float(images[name][normal(lesion)].mean())
    assert tissue == pytest.approx(0.3, abs=1e-3)
    expected = {
        "cep_lesion_small": 100 * small / 0.25,
        "cep_lesion_large": 100 * large / 0.4,
        "lbr_lesion_small": (0.25 + small) / tissue,
        "lbr_lesion_large": (0.4 + large) / tissue,
        "cnr_lesion_small": (0.25 + small - tissue) / deviation(noise),
        "cnr_lesion_large": (0.4 + large - tissue) / deviation(noise),
    }
    for metric in ("cep_lesion", "lbr_lesion", "cnr_lesion"):  # each lesion counts once, whatever its size
        expected[metric] = (expected[f"{metric}_small"] + expected[f"{metric}_large"]) / 2
    assert {metric: table[name][metric] for metric in expected} == pytest.approx(expected, rel=1e-4)


def test_slope_and_bias_by_size(table: dict[str, dict[str, float]]) -> None:
    true = np.concatenate([TRUE_SMALL.ravel(), TRUE_LARGE.ravel()])
    found = np.concatenate([0.5 * TRUE_SMALL.ravel() + 0.02, 0.8 * TRUE_LARGE.ravel() + 0.05])
    expected = {
        "enhancement_slope_lesion_small": 0.5,
        "enhancement_slope_lesion_large": 0.8,
        "enhancement_slope_lesion": float(np.polyfit(true, found, 1)[0]),  # of all voxels, not a mean of the two
        "enhancement_bias_lesion_small": 0.095 - 0.15,
        "enhancement_bias_lesion_large": 0.37 - 0.4,
        "enhancement_bias_lesion": (12 * (0.095 - 0.15) + 64 * (0.37 - 0.4)) / 76,
    }
    assert {metric: table["simulated"][metric] for metric in expected} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "missed"),
    [
        ("simulated", {"": 0.0, "_small": 0.0, "_large": 0.0}),
        ("without the small one", {"": 0.5, "_small": 1.0, "_large": 0.0}),
        ("without the large one", {"": 0.5, "_small": 0.0, "_large": 1.0}),
    ],
)
def test_missed_by_size(name: str, missed: dict[str, float], table: dict[str, dict[str, float]]) -> None:
    assert {size: table[name][f"missed_lesions{size}"] for size in missed} == missed
    assert [table[name][f"visible_lesions{size}"] for size in missed] == [2.0, 1.0, 1.0]


def test_false_enhancement_by_size(table: dict[str, dict[str, float]]) -> None:
    cm3 = 72 * 72 * 5.0 / 1000.0  # of the head, not of the image
    expected = {
        "false_enhancement_per_cm3": 3 / cm3,
        "false_enhancement_per_cm3_small": 2 / cm3,
        "false_enhancement_per_cm3_large": 1 / cm3,
        "false_enhancement_mm": 2.0 * math.sqrt(49 / math.pi),
        "false_enhancement_3mm": 1.0,
    }
    assert {metric: table["simulated"][metric] for metric in expected} == pytest.approx(expected, rel=1e-9)
    for name in ("without the small one", "without the large one"):
        assert {table[name][metric] for metric in expected} == {0.0}


def test_no_metric_by_size_is_left_out_here(table: dict[str, dict[str, float]]) -> None:
    metrics = {"cnr_lesion", "lbr_lesion", "cep_lesion", "enhancement_slope_lesion", "enhancement_bias_lesion"}
    metrics |= {"missed_lesions", "visible_lesions", "false_enhancement_per_cm3"}
    by_size = {key for key in table["simulated"] if key.endswith(("_small", "_large"))}
    assert by_size == {f"{metric}{size}" for metric in metrics for size in ("_small", "_large")}
