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
"""Studies that are not of the kind that the operator was trained on, from the command to the pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.bundle import run_studies
from monai_lipcar.report.cohort import study_rows

QUICK = {"device": "cpu", "registration_policy": "none", "max_iterations": 1}
RANGES = {"head_pixels": [20.0, 300.0], "enhancing_share": [0.01, None]}


@pytest.fixture
def studies(good_study: Path, tmp_path: Path) -> Path:
    """A good study, and the same with its pre-dose image in place of the low dose."""
    data = tmp_path / "data"
    for name in ("good", "twice"):
        shutil.copytree(good_study, data / name)
    image = nib.load(data / "twice" / "pre.nii.gz")
    noise = np.random.default_rng(0).normal(scale=1.0, size=image.shape)
    values = np.asarray(image.dataobj, dtype=np.float32)
    nib.save(nib.Nifti1Image((values + noise).astype(np.float32), image.affine), data / "twice" / "low.nii.gz")
    return data


def run(studies: Path, out: Path, **options: Any) -> tuple[int, list[str]]:
    ended = run_studies("physics_tv", studies, out, domain_ranges=RANGES, **{**QUICK, **options})
    return ended.status, ended.done


def test_flagged(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(studies, out) == (0, ["good", "twice"])
    good, twice = (json.loads((out / name / "result.json").read_text()) for name in ("good", "twice"))
    assert good["domain"]["findings"] == []
    assert good["verdict"]["level"] != "out_of_domain"
    (finding,) = twice["domain"]["findings"]
    assert finding.startswith("share of the head that enhances: expected at least 0.01, got 0")
    assert twice["verdict"]["level"] == "out_of_domain"
    assert twice["verdict"]["reasons"][0] == finding
    assert next((row.study_id, row.level) for row in study_rows(out)) == ("twice", "out_of_domain")


def test_refused(studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    assert run(studies, out, out_of_domain="refuse") == (1, ["good"])
    assert not (out / "twice").exists()
    assert any(
        message.startswith("study twice: out of domain: refused (share of the head that enhances: ")
        for message in caplog.messages
    )
    assert next((row.study_id, row.level) for row in study_rows(out)) == ("twice", "failed")


def test_ignored(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(studies, out, out_of_domain="ignore") == (0, ["good", "twice"])
    record = json.loads((out / "twice" / "result.json").read_text())
    assert record["domain"] is None


def test_another_policy_is_another_run(
    studies: Path, tmp_path: Path, command: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(studies / "twice")
    out = tmp_path / "out"
    run(studies, out)
    ended = command(
        "run", studies, out, "--bundle", "physics_tv", "--max-iterations", 1, "--device", "cpu",
        "--out-of-domain", "refuse",
    )  # fmt: skip
    assert ended.status == 1
    assert any("holds the result of another run" in message for message in caplog.messages)
    assert any("out_of_domain" in message for message in caplog.messages)
