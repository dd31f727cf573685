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

import pytest
import torch
from torch import Tensor

from monai_lipcar.metrics import enhancement_recovery, enhancing_tissue, psnr, relative_error, ssim, study_metrics

HEAD = {"ssim_head", "psnr_head", "relative_error_head"}
WHOLE = {"ssim", "psnr", "relative_error"}
ENHANCING = {"ssim_enhancing", "psnr_enhancing", "relative_error_enhancing", "enhancement_recovery"}
LESION = {"psnr_lesion", "relative_error_lesion", "enhancement_recovery_lesion"}


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
