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
"""Metrics over all studies."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import write_summary


def write_result(output_dir: Path, study_id: str, metrics: dict[str, Any] | None) -> str:
    (output_dir / study_id).mkdir()
    record = {"study_id": study_id} | ({} if metrics is None else {"metrics": metrics})
    (output_dir / study_id / "result.json").write_text(json.dumps(record))
    return study_id


@pytest.fixture
def studies(tmp_path: Path) -> list[str]:
    return [
        write_result(tmp_path, "b", {"low": {"psnr": 20.0}, "simulated": {"psnr": 30.0, "recovery": 0.8}}),
        write_result(tmp_path, "a", {"low": {"psnr": 24.0}, "simulated": {"psnr": 33.0}}),
        write_result(tmp_path, "unscored", None),
        "unfinished",
    ]


def test_mean_and_standard_deviation(tmp_path: Path, studies: list[str]) -> None:
    summary = write_summary(tmp_path, studies, "ph2l_tv")
    assert summary == json.loads((tmp_path / "metrics.json").read_text())
    assert summary["bundle"] == "ph2l_tv"
    assert summary["studies"] == 2
    assert summary["mean"] == {"low": {"psnr": 22.0}, "simulated": {"psnr": 31.5, "recovery": 0.8}}
    assert summary["count"] == {"low": {"psnr": 2}, "simulated": {"psnr": 2, "recovery": 1}}
    # of a sample: |20 - 24| / sqrt(2); a single value has none
    assert summary["std"]["low"]["psnr"] == pytest.approx(2.8284271)
    assert summary["std"]["simulated"] == {"psnr": pytest.approx(2.1213203), "recovery": 0.0}


def test_a_row_for_each_study_and_image(tmp_path: Path, studies: list[str]) -> None:
    write_summary(tmp_path, studies, "ph2l_tv")
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"study_id": "b", "image": "low", "psnr": "20.0", "recovery": ""},
        {"study_id": "b", "image": "simulated", "psnr": "30.0", "recovery": "0.8"},
        {"study_id": "a", "image": "low", "psnr": "24.0", "recovery": ""},
        {"study_id": "a", "image": "simulated", "psnr": "33.0", "recovery": ""},
    ]


def test_what_is_no_number_does_not_spoil_the_mean(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"psnr": 20.0, "missed": None}, {"psnr": None}, {"psnr": float("nan"), "missed": 0.5}]
    studies = [write_result(tmp_path, f"s{index}", {"simulated": row}) for index, row in enumerate(rows)]
    summary = write_summary(tmp_path, studies, "l2h")
    assert summary["studies"] == 3
    assert summary["mean"] == {"simulated": {"psnr": 20.0, "missed": 0.5}}
    assert summary["count"] == {"simulated": {"psnr": 1, "missed": 1}}
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "study_id,image,psnr,missed",
        "s0,simulated,20.0,",
        "s1,simulated,,",
        "s2,simulated,,0.5",
    ]


def test_no_metrics_at_all(tmp_path: Path) -> None:
    assert write_summary(tmp_path, ["unfinished"], "l2h") == {
        "bundle": "l2h",
        "studies": 0,
        "mean": {},
        "std": {},
        "count": {},
    }
    assert (tmp_path / "metrics.csv").read_text().strip() == "study_id,image"


def test_a_failing_write_keeps_the_older_summary(
    tmp_path: Path, studies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_summary(tmp_path, studies, "ph2l_tv")
    before = sorted(path.name for path in tmp_path.iterdir()), (tmp_path / "metrics.json").read_bytes()
    write_text = Path.write_text

    def half(self: Path, text: str, **options: Any) -> int:
        write_text(self, text[:10], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(ConfigurationError, match=r"metrics.json cannot be written \(No space left on device\)"):
        write_summary(tmp_path, studies[:1], "ph2l_tv")
    assert (sorted(path.name for path in tmp_path.iterdir()), (tmp_path / "metrics.json").read_bytes()) == before
