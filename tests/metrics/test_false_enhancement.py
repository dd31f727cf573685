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
"""Invented and missed enhancement: made on purpose, and found."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import monai_lipcar.data
from monai_lipcar.metrics import (
    Component,
    connected_components,
    false_enhancement,
    is_missed,
    study_metrics,
    tissue_brightness,
    visible_lesions,
)
from monai_lipcar.transforms.foreground import head_mask

SPACING = (5.0, 1.0, 1.0)
SAMPLE = Path(monai_lipcar.data.__file__).parent / "sample" / "mni152-0003"


@pytest.fixture
def scene() -> dict[str, Tensor]:
    """Tissue at 0.3 (visible from 0.06, hidden below 0.03) with an enhancing vessel of two pixels."""
    pre = torch.full((3, 48, 48), 0.3)
    high = pre.clone()
    high[:, :, 40:42] += 0.3
    return {"pre": pre, "high": high, "head": torch.ones(3, 48, 48, dtype=torch.bool)}


def found(simulated: Tensor, scene: dict[str, Tensor], **options: object) -> list[Component]:
    return false_enhancement(simulated, spacing=SPACING, **scene, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "diameter"), [(3, 3.39), (4, 4.51), (8, 9.03)])
def test_an_invented_block_is_found_with_its_size(scene: dict[str, Tensor], side: int, diameter: float) -> None:
    simulated = scene["high"].clone()
    simulated[1, 10 : 10 + side, 10 : 10 + side] += 0.1
    (part,) = found(simulated, scene)
    assert part.diameter_mm == pytest.approx(diameter, abs=0.01)
    assert part.volume_mm3 == side * side * 5.0
    assert part.box == (slice(1, 2), slice(10, 10 + side), slice(10, 10 + side))


def test_what_nobody_would_see_does_not_count(scene: dict[str, Tensor]) -> None:
    simulated = scene["high"].clone()
    simulated[1, 10:18, 10:18] += 0.055  # 18 % of the tissue
    simulated[1, 30, 30] += 0.6  # a pixel
    simulated[0, 30:32, 30:32] += 0.6  # four
    simulated[2, 10:18, 10:18] -= 0.2  # darker
    assert found(simulated, scene) == []


def test_where_the_acquired_image_enhances_it_is_not_false(scene: dict[str, Tensor]) -> None:
    simulated = scene["high"].clone()
    simulated[:, :, 38:44] += 0.4  # a vessel too bright and two pixels wider on either side
    assert found(simulated, scene) == []
    simulated[:, :, 36:44] += 0.4  # but not that wide
    assert len(found(simulated, scene)) == 1


def test_nor_between_nothing_and_visible(scene: dict[str, Tensor]) -> None:
    scene["high"][1, 10:20, 10:20] += 0.045  # 15 %
    simulated = scene["high"].clone()
    simulated[1, 12:18, 12:18] += 0.3
    assert found(simulated, scene) == []


def test_nor_in_lesions_and_outside_of_the_head(scene: dict[str, Tensor]) -> None:
    simulated = scene["high"].clone()
    simulated[1, 10:18, 10:18] += 0.2
    lesion = torch.zeros_like(scene["head"])
    lesion[1, 12:16, 12:16] = True  # drawn two pixels too tightly
    assert found(simulated, scene, lesion=lesion) == []
    assert len(found(simulated, scene, lesion=torch.zeros_like(lesion))) == 1
    scene["head"][1, 10:18, 10:18] = False
    assert found(simulated, scene) == []


def test_a_gain_that_is_off_is_no_lesion(scene: dict[str, Tensor]) -> None:
    assert found(1.25 * scene["high"], scene) == []
    simulated = 1.25 * scene["high"]
    simulated[1, 10:18, 10:18] += 0.1
    assert len(found(simulated, scene)) == 1


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.2])
def test_noise_is_not_found_and_a_block_in_it_is(scene: dict[str, Tensor], scale: float) -> None:
    noise = scale * torch.randn(20, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    assert sum(len(found(scene["high"] + part, scene)) for part in noise) <= 1  # of 138 000 voxels
    simulated = scene["high"] + noise[0]
    simulated[1, 10:18, 10:18] += 10 * scale
    (part,) = found(simulated, scene)
    assert part.diameter_mm == pytest.approx(9.03, rel=0.15)


def test_sigma_can_be_given(scene: dict[str, Tensor]) -> None:
    simulated = scene["high"].clone()
    simulated[1, 10:18, 10:18] += 0.1
    assert len(found(simulated, scene, sigma=0.019)) == 1
    assert found(simulated, scene, sigma=0.021) == []
    assert len(found(simulated, scene, sigma=0.021, sigmas=4.0)) == 1


def test_an_empty_head_is_refused(scene: dict[str, Tensor]) -> None:
    scene["head"][:] = False
    with pytest.raises(ValueError, match="the head mask is empty: there is nothing to measure"):
        found(scene["high"], scene)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("member", ["simulated", "pre", "high"])
def test_what_is_not_finite_is_refused(member: str, value: float, scene: dict[str, Tensor]) -> None:
    images = {"simulated": scene["high"].clone(), "pre": scene["pre"].clone(), "high": scene["high"].clone()}
    images[member][1, 20, 20] = value
    with pytest.raises(ValueError, match="an image has values in the head that are not finite"):
        false_enhancement(images["simulated"], images["pre"], images["high"], scene["head"], SPACING)
    mask = torch.zeros_like(scene["head"])
    mask[1, 18:24, 18:24] = True
    (lesion,) = connected_components(mask, SPACING)
    if member != "high":
        with pytest.raises(ValueError, match="an image has values in the lesion that are not finite"):
            is_missed(lesion, images["simulated"], images["pre"], 0.3)


def test_missed_is_the_mirror(scene: dict[str, Tensor]) -> None:
    mask = torch.zeros_like(scene["head"])
    mask[0, 5:8, 5:8] = True
    mask[2, 20:30, 20:30] = True
    mask[1, 5:8, 5:8] = True  # touches the first
    mask[1, 30:34, 5:9] = True
    lesions = connected_components(mask, SPACING)
    pre, brightness = scene["pre"], tissue_brightness(scene["pre"], scene["head"])
    assert brightness == pytest.approx(0.3)
    high = pre + 0.061 * mask
    high[1, 30:34, 5:9] = 0.355  # 18 %: not even the acquired image shows it
    shown = visible_lesions(lesions, pre, high, brightness)
    assert [part.volume_mm3 for part in shown] == [90.0, 500.0]
    simulated = pre.clone()
    simulated[0:2, 5:8, 5:8] += 0.031
    simulated[2, 20:30, 20:30] += 0.029
    assert [is_missed(part, simulated, pre, brightness) for part in shown] == [False, True]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 1000.0), scale=st.floats(0.0, 0.1))
def test_perfect_images_and_units(seed: int, factor: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    pre = 0.3 + scale * torch.randn(2, 24, 24, generator=generator)
    uptake = torch.nn.functional.avg_pool2d(torch.rand(2, 24, 24, generator=generator), 5, 1, 2) > 0.55
    high = pre + 0.3 * uptake
    head = torch.ones_like(uptake)
    assert false_enhancement(high, pre, high, head, SPACING) == []
    brightness = tissue_brightness(pre, head)
    shown = visible_lesions(connected_components(uptake, SPACING), pre, high, brightness)
    assert not any(is_missed(part, high, pre, brightness) for part in shown)
    # the other way around everything was invented
    everything = false_enhancement(high, pre, pre, head, SPACING)
    # a power of two: other units round differently at a threshold
    factor = 2.0 ** round(math.log2(factor))
    scaled = false_enhancement(factor * high, factor * pre, factor * pre, head, SPACING)
    assert [part.box for part in scaled] == [part.box for part in everything]


def test_a_lesion_erased_and_one_invented_in_a_simulated_head() -> None:
    volumes = {path.name.split(".")[0]: nibabel.load(path) for path in SAMPLE.glob("*.nii.gz")}
    spacing = (6.0, 1.2, 1.2)
    pre, low, high, lesion = (
        torch.from_numpy(np.moveaxis(volumes[name].get_fdata(dtype=np.float32), 2, 0).copy())
        for name in ("pre", "low", "high", "lesion")
    )
    pre, low, high = (volume / 4000.0 for volume in (pre, low, high))
    head, lesion = torch.from_numpy(head_mask(low.numpy(), axis=0).copy()), lesion > 0.5
    lesions = connected_components(lesion, spacing)
    assert [round(part.diameter_mm, 1) for part in lesions] == [13.7, 9.4, 7.7, 2.3]

    wrong = high.clone()
    inside = torch.from_numpy(lesions[1].mask)
    wrong[lesions[1].box][inside] = pre[lesions[1].box][inside]
    row, column = torch.meshgrid(torch.arange(160.0), torch.arange(192.0), indexing="ij")
    blob = ((row - 100) ** 2 + (column - 120) ** 2).sqrt() * 1.2 <= 2.5
    assert not lesion[5, blob].any()
    wrong[5, blob] += 0.5 * tissue_brightness(pre, head)
    table = study_metrics({"low": low, "perfect": high, "wrong": wrong}, high, head, pre, lesion, spacing)

    def values(name: str) -> dict[str, float]:
        return {image: row[name] for image, row in table.items() if name in row}

    assert values("missed_lesions") == {"low": 0.0, "perfect": 0.0, "wrong": 0.25}
    assert values("missed_lesions_large")["wrong"] == pytest.approx(1 / 3)
    assert values("missed_lesions_small")["wrong"] == 0.0
    assert values("false_enhancement_3mm") == {"low": 0.0, "perfect": 0.0, "wrong": 1.0}
    assert values("false_enhancement_mm")["wrong"] == pytest.approx(5.0, rel=0.1)
    cm3 = float(head.sum()) * 6.0 * 1.2 * 1.2 / 1000
    assert values("false_enhancement_per_cm3") == {"low": 0.0, "perfect": 0.0, "wrong": pytest.approx(1 / cm3)}
    assert values("enhancement_slope_lesion")["perfect"] == pytest.approx(1.0)
    assert values("enhancement_bias_lesion")["perfect"] == 0.0
    assert values("enhancement_bias_lesion_large")["wrong"] < -0.02
    assert table["perfect"]["cep_lesion"] == table["high"]["cep_lesion"] > 2 * table["low"]["cep_lesion"]
