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
"""What is shown of a study: which volumes, in which units, and which slice first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_lipcar.data import Study
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.handlers import input_hashes
from monai_lipcar.report import Panel, study, study_report
from monai_lipcar.transforms import ScaleIntensityByReference

AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])
METRICS = {"simulated": {"ssim_head": 0.98, "psnr_head": 33.333}}
Finish = Callable[..., Study]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Panel]]:
    """Panels of each row that is drawn, by title."""
    rows: list[dict[str, Panel]] = []
    draw = study.study_figure

    def spy(given: list[list[Panel]], *args: Any, **kwargs: Any) -> Path:
        rows.extend({panel.title: panel for panel in row} for row in given)
        rows.append({"slice": args[2], "heading": args[1]})
        return draw(given, *args, **kwargs)

    monkeypatch.setattr(study, "study_figure", spy)
    return rows


def test_figure_of_an_inverse_problem(finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]) -> None:
    study_report(finish(metrics=METRICS), tmp_path / "out")
    first, second, place = panels
    assert list(first) == [
        "pre-dose",
        "low dose (observed)",
        "linear extrapolation",
        "simulated high dose",
        "acquired high dose",
    ]
    assert first["simulated high dose"].note == "SSIM 0.980, 33.3 dB"
    assert list(second) == [
        "simulated enhancement",
        "acquired enhancement",
        "error: simulated - acquired",
        "residual over noise level",
    ]
    assert place == {"slice": 2, "heading": "sub-01: physics_tv, slice 3 of 4"}  # where it enhances
    enhancing = (slice(11, 15), slice(21, 25), 2)
    # intensities of the three acquisitions are matched before they are compared
    np.testing.assert_allclose(first["linear extrapolation"].volume[enhancing], 160.5, atol=3.0)
    np.testing.assert_allclose(second["simulated enhancement"].volume[enhancing], 105.0, atol=1.0)
    scale = ScaleIntensityByReference().scale_of([torch.from_numpy(first[name].volume) for name in list(first)[:2]])
    residual = second["residual over noise level"]
    np.testing.assert_allclose(residual.volume, 0.5 / (0.00712 * scale), rtol=1e-3)
    assert (residual.limit, residual.unit) == (4.0, "sigma")


def test_a_residual_without_a_noise_level_is_in_scanner_units(
    finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]
) -> None:
    study_report(finish(sigma=None), tmp_path / "out")
    np.testing.assert_allclose(panels[1]["residual: not explained"].volume, 0.5)


@pytest.mark.parametrize(("slices", "expected"), [({0: 2, 3: 20}, 3), ({}, 2)])
def test_the_largest_lesion_is_shown(
    slices: dict[int, int], expected: int, finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]
) -> None:
    inputs = finish()
    mask = np.zeros((40, 40, 4), dtype=np.uint8)
    for index, side in slices.items():
        mask[:side, :side, index] = 1
    path = tmp_path / "lesion.nii.gz"
    nib.save(nib.Nifti1Image(mask, AFFINE), path)
    study_report(Study(inputs.study_id, {**inputs.members, "lesion": path}), tmp_path / "out")
    assert panels[-1]["slice"] == expected  # without a lesion the slice that enhances


def test_figure_of_a_forward_operator(finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]) -> None:
    study_report(finish(output_name="low_sim", residual=False), tmp_path / "out")
    first, second, _ = panels
    assert list(first) == ["pre-dose", "high dose", "simulated low dose", "acquired low dose"]
    assert list(second) == ["simulated enhancement", "acquired enhancement", "error: simulated - acquired"]


def test_figure_of_a_study_with_the_low_dose_only(finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]) -> None:
    study_report(finish(members=("low",), residual=False, registration=None), tmp_path / "out")
    first, _ = panels
    assert list(first) == ["low dose (observed)", "simulated high dose"]


def test_a_member_that_was_left_out_is_not_shown(finish: Finish, tmp_path: Path, panels: list[dict[str, Any]]) -> None:
    inputs = finish()
    high = inputs.members["high"]
    nib.save(nib.Nifti1Image(np.full((40, 40, 4), np.nan, np.float32), AFFINE), high)
    output = StudyOutput(tmp_path / "out", inputs.study_id)
    record = output.read()
    assert record is not None
    record["inputs"]["high"]["sha256"] = input_hashes(inputs)["high"]["sha256"]
    output.result_file.write_text(json.dumps(record))
    study_report(inputs, tmp_path / "out")
    assert "acquired high dose" not in panels[0]
