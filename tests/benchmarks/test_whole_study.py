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
"""The benchmark of a whole study, on two small slices and with few steps."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks import whole_study
from monai_lipcar.networks import has_fast_bfloat16


def test_solvers_and_precisions_on_the_same_study(tmp_path: Path) -> None:
    chosen = argparse.Namespace(
        output=tmp_path,
        slices=2,
        variants=list(whole_study.VARIANTS),
        options={"max_iterations": 2, "out_of_domain": "ignore"},
        results=tmp_path / "whole_study.json",
    )
    anatomy = ("random", {"shape": (64, 64, 6)})
    whole_study.run(chosen, anatomy)
    written = json.loads(chosen.results.read_text())
    rows = written["rows"]
    measured = ["proximal", "paper"]
    if has_fast_bfloat16(torch.device("cpu")):
        measured.insert(1, "proximal, precision auto")
        assert rows["proximal, precision auto"]["solver"]["name"] == "proximal"
    assert list(rows) == measured
    assert [rows[name]["solver"]["name"] for name in ("proximal", "paper")] == ["proximal", "paper"]
    assert not any("network_precision" in rows[name]["solver"] for name in ("proximal", "paper"))
    assert rows["paper"]["network_evaluations"] == 3
    for row in rows.values():
        assert 0 < row["study_seconds"] < row["seconds"]
        assert row["cpu_seconds"] > 0
        assert 100 < row["peak_mib"] < 20000
        assert row["times_faster"] == pytest.approx(rows["paper"]["seconds"] / row["seconds"], rel=5e-3)
    residuals = list((tmp_path / "results").glob("*/*/residual.nii.gz"))
    assert len(residuals) == len(measured)
    before = [file.stat().st_mtime_ns for file in residuals]
    assert whole_study.run(chosen, anatomy)["rows"].keys() == rows.keys()
    assert [file.stat().st_mtime_ns for file in residuals] == before
    with pytest.raises(SystemExit, match="--slices: expected at most 6, got 7"):
        whole_study.write_study(tmp_path, 7, anatomy)
