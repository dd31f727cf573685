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
"""Lesion metrics and false enhancement in the records of results: with the sizes that the affine tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_lipcar.data import Study
from monai_lipcar.handlers import ResultWriter

WriteStudy = Callable[..., Study]
Run = Callable[..., ResultWriter]
LoadRecord = Callable[[Path, str], dict[str, Any]]
SCALE = 200.0


def test_metrics_in_the_lesion(run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study("sub-01")
    high = nibabel.load(study.members["high"])
    mask = (high.get_fdata() > 100).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, high.affine), tmp_path / "lesion.nii.gz")
    run([Study("sub-01", {**study.members, "lesion": tmp_path / "lesion.nii.gz"})], tmp_path / "out").finish()
    metrics = load_record(tmp_path / "out", "sub-01")["metrics"]
    simulated = nibabel.load(tmp_path / "out" / "sub-01" / "high_sim.nii.gz").get_fdata()
    error = ((simulated - high.get_fdata()) / SCALE)[mask > 0]
    assert metrics["simulated"]["psnr_lesion"] == pytest.approx(-10 * math.log10((error**2).mean()), abs=1e-3)
    recovery = (simulated - nibabel.load(study.members["pre"]).get_fdata())[mask > 0].mean() / 80.0
    assert metrics["simulated"]["enhancement_recovery_lesion"] == pytest.approx(recovery, rel=1e-4)
    assert metrics["low"]["enhancement_recovery_lesion"] == pytest.approx(0.2, abs=0.02)
    # one lesion of 10 pixels of 0.5 mm: sizes are those of the affine, 0.5 x 0.5 x 3 mm
    for row in metrics.values():
        assert "cep_lesion_large" in row or "cep_lesion_small" in row
    assert list(metrics) == ["low", "linear_extrapolation", "simulated", "high"]
    assert metrics["high"]["cep_lesion"] == pytest.approx(100 * 80 / 60, rel=1e-4)
    assert metrics["high"]["lbr_lesion"] == pytest.approx(140 / 60, rel=1e-4)
    assert "psnr" not in metrics["high"]
    assert metrics["low"]["cep_lesion"] == pytest.approx(100 * 16 / 60, rel=0.05)
    assert metrics["low"]["visible_lesions"] == 1
    assert metrics["simulated"]["missed_lesions"] == 0.0


def test_false_enhancement_is_measured_in_millimeters(
    run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path
) -> None:
    study = write_study("sub-01")
    low = nibabel.load(study.members["low"])
    values = low.get_fdata()
    values[6:10, 14:19, 1] += 16.0  # a fifth of a lesion that the full dose does not show, 20 pixels of 0.25 mm²
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), low.affine), study.members["low"])
    run([study], tmp_path / "out").finish()
    metrics = load_record(tmp_path / "out", "sub-01")["metrics"]
    assert list(metrics) == ["low", "linear_extrapolation", "simulated"]
    for image in ("linear_extrapolation", "simulated"):
        row = metrics[image]
        assert row["false_enhancement_mm"] == pytest.approx(2 * math.sqrt(5 / math.pi), rel=0.1)
        assert row["false_enhancement_3mm"] == 0.0
        head = 3 * 529 * 0.75 / 1000  # cm³ of a disk of 26 pixels
        assert row["false_enhancement_per_cm3"] == pytest.approx(1 / head, rel=0.1)
