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
"""The table of a study."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_lipcar.metrics import (
    LesionScorer,
    enhancement_bias,
    enhancement_recovery,
    enhancement_slope,
    enhancing_tissue,
    false_enhancement_row,
    psnr,
    relative_error,
    ssim,
    study_metrics,
)

HEAD = {"ssim_head", "psnr_head", "relative_error_head"}
WHOLE = {"ssim", "psnr", "relative_error"}
ENHANCING = {
    *("ssim_enhancing", "psnr_enhancing", "relative_error_enhancing"),
    *("enhancement_recovery", "enhancement_slope", "enhancement_bias"),
}
LESION = {"psnr_lesion", "relative_error_lesion", "enhancement_recovery_lesion"}
CONTRAST = {"cnr_lesion", "lbr_lesion", "cep_lesion"}
IN_LESION = {"enhancement_slope_lesion", "enhancement_bias_lesion", "missed_lesions", "visible_lesions"}
FALSE = {
    *("false_enhancement_per_cm3", "false_enhancement_per_cm3_small", "false_enhancement_per_cm3_large"),
    *("false_enhancement_mm", "false_enhancement_3mm"),
}


@pytest.fixture
def study() -> dict[str, Tensor]:
    """Three slices of a head (0.3) with an enhancing lesion (0.6) in the second."""
    head = torch.zeros(3, 20, 20, dtype=torch.bool)
    head[:, 3:17, 3:17] = True
    pre = torch.where(head, 0.3, 0.0)
    high = pre.clone()
    high[1, 6:12, 6:12] = 0.6
    generator = torch.Generator().manual_seed(0)
    low = pre + 0.2 * (high - pre) + 0.01 * torch.randn(pre.shape, generator=generator)
    return {"head": head, "pre": pre, "low": low, "high": high}


def test_every_image_has_a_row_of_the_single_metrics(study: dict[str, Tensor]) -> None:
    simulated = 0.95 * study["high"] + 0.01
    table = study_metrics({"low": study["low"], "simulated": simulated}, study["high"], study["head"], study["pre"])
    assert list(table) == ["low", "simulated"]
    row = table["simulated"]
    assert row.keys() == HEAD | WHOLE | ENHANCING
    high, head = study["high"], study["head"]
    enhancing = enhancing_tissue(study["pre"], high, head)
    assert row["ssim_head"] == ssim(simulated, high, head)
    assert row["psnr_head"] == psnr(simulated, high, head)
    assert row["relative_error_head"] == relative_error(simulated, high, head)
    assert row["psnr"] == psnr(simulated, high)
    assert row["ssim_enhancing"] == ssim(simulated, high, enhancing)
    assert row["psnr_enhancing"] == psnr(simulated, high, enhancing)
    assert row["relative_error_enhancing"] == relative_error(simulated, high, enhancing)
    assert row["enhancement_recovery"] == enhancement_recovery(simulated, study["pre"], high, enhancing)
    assert math.isnan(row["enhancement_slope"])  # all enhance alike
    graded = high + 0.1 * torch.linspace(0, 1, 20)
    row_of_graded = study_metrics({"s": simulated}, graded, head, study["pre"])["s"]
    enhancing_there = enhancing_tissue(study["pre"], graded, head)
    assert row_of_graded["enhancement_slope"] == enhancement_slope(simulated, study["pre"], graded, enhancing_there)
    assert row["enhancement_bias"] == enhancement_bias(simulated, high, enhancing)
    assert table["low"]["enhancement_recovery"] == pytest.approx(0.2, abs=0.02)
    assert table["low"]["psnr_head"] < row["psnr_head"]


def test_without_a_pre_dose_image_or_without_enhancement_there_are_fewer(study: dict[str, Tensor]) -> None:
    images = {"low": study["low"]}
    assert study_metrics(images, study["high"], study["head"])["low"].keys() == HEAD | WHOLE
    assert study_metrics(images, study["pre"], study["head"], study["pre"])["low"].keys() == HEAD | WHOLE


def test_the_enhancing_tissue_is_that_of_the_acquired_image(study: dict[str, Tensor]) -> None:
    invented = study["high"].clone()
    invented[0, 6:12, 6:12] = 0.9  # enhancement where there is none: no help for the recovery
    table = study_metrics({"simulated": invented}, study["high"], study["head"], study["pre"])
    assert table["simulated"]["enhancement_recovery"] == pytest.approx(1.0)
    assert table["simulated"]["psnr_head"] < 20


def test_lesions_have_rows_of_their_own(study: dict[str, Tensor]) -> None:
    simulated = 0.95 * study["high"] + 0.01
    lesion = torch.zeros_like(study["head"])
    lesion[1, 6:12, 6:9] = True  # half of what enhances
    images, high, pre = {"simulated": simulated}, study["high"], study["pre"]
    row = study_metrics(images, high, study["head"], pre, lesion)["simulated"]
    assert row.keys() == HEAD | WHOLE | ENHANCING | LESION
    assert row["psnr_lesion"] == psnr(simulated, high, lesion)
    assert row["relative_error_lesion"] == relative_error(simulated, high, lesion)
    assert row["enhancement_recovery_lesion"] == enhancement_recovery(simulated, pre, high, lesion)
    without_pre = study_metrics(images, high, study["head"], lesion=lesion)["simulated"]
    assert without_pre.keys() == HEAD | WHOLE | LESION - {"enhancement_recovery_lesion"}
    no_lesion = study_metrics(images, high, study["head"], pre, torch.zeros_like(lesion))["simulated"]
    assert no_lesion.keys() == HEAD | WHOLE | ENHANCING


def test_with_millimeters_there_are_sizes(study: dict[str, Tensor]) -> None:
    simulated = 0.95 * study["high"] + 0.01
    head, pre, high = study["head"], study["pre"], study["high"]
    lesion = high > 0.5
    spacing = (5.0, 1.0, 1.0)
    table = study_metrics({"low": study["low"], "simulated": simulated}, high, head, pre, lesion, spacing)
    assert list(table) == ["low", "simulated", "high"]
    row = table["simulated"]
    large = {f"{name}_large" for name in CONTRAST | IN_LESION}
    assert row.keys() == HEAD | WHOLE | ENHANCING | LESION | CONTRAST | IN_LESION | large | FALSE
    scorer = LesionScorer(lesion, head, high, spacing, pre)
    expected = scorer.row(simulated) | false_enhancement_row(simulated, pre, high, head, spacing, lesion)
    # no noise in the simulated image, no contrast-to-noise ratio
    assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert table["high"] == pytest.approx(scorer.acquired_row(), nan_ok=True)
    assert table["high"].keys() == CONTRAST | {f"{name}_large" for name in CONTRAST}


def test_false_enhancement_needs_no_lesion_mask(study: dict[str, Tensor]) -> None:
    images, spacing = {"simulated": study["high"].clone()}, (5.0, 1.0, 1.0)
    images["simulated"][0, 6:10, 6:10] = 0.5
    table = study_metrics(images, study["high"], study["head"], study["pre"], spacing=spacing)
    assert list(table) == ["simulated"]
    row = table["simulated"]
    assert row.keys() == HEAD | WHOLE | ENHANCING | FALSE
    assert row["false_enhancement_3mm"] == 1.0
    assert row["false_enhancement_mm"] == pytest.approx(4.51, abs=0.01)
    assert row["false_enhancement_per_cm3"] == row["false_enhancement_per_cm3_small"] == pytest.approx(1 / 2.94)
    assert row["false_enhancement_per_cm3_large"] == 0.0


def test_a_target_of_another_name_and_no_pre(study: dict[str, Tensor]) -> None:
    """A forward operator, judged against the acquired low dose."""
    lesion = study["high"] > 0.5
    low, head = study["low"], study["head"]
    table = study_metrics(
        {"simulated": 0.9 * low}, low, head, lesion=lesion, spacing=(5.0, 1.0, 1.0), target_name="low"
    )
    contrast = {"cnr_lesion", "lbr_lesion"}
    assert table["low"].keys() == contrast | {f"{name}_large" for name in contrast}
    assert table["simulated"]["cnr_lesion"] == pytest.approx(table["low"]["cnr_lesion"], rel=1e-4)
    assert table["simulated"]["lbr_lesion"] == pytest.approx(table["low"]["lbr_lesion"], rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_measured(study: dict[str, Tensor], value: float) -> None:
    lesion, broken = study["high"] - study["pre"] > 0, study["low"].clone()
    broken[1, 8, 8] = value
    images = {"low": study["low"], "broken": broken}
    table = study_metrics(images, study["high"], study["head"], study["pre"], lesion, (5.0, 1.0, 1.0))
    assert table["low"].keys() >= CONTRAST | IN_LESION | FALSE
    assert not table["broken"].keys() & (CONTRAST | IN_LESION | FALSE)
    assert not any(math.isfinite(table["broken"][name]) for name in HEAD | {"psnr_lesion", "enhancement_recovery"})
