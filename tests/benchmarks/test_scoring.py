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
"""Images that no bundle makes are scored as the bundles score theirs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import approaches
from benchmarks.scoring import load_scaled, score
from monai_lipcar.data import find_studies, write_datalist
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.physics import LinearDoseOperator, linear_extrapolation


def test_approaches_and_what_they_are_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    write_cohort(data, "random", 2, seed=3, anatomy_options={"shape": (64, 64, 6)}, progress=False)
    write_datalist(tmp_path / "datalist.json", {"test": find_studies(data, ("pre", "low", "high"))})
    results = tmp_path / "results.json"
    command = ["approaches", str(data), "--datalist-file", str(tmp_path / "datalist.json"), "--output", str(output)]
    monkeypatch.setattr(
        sys, "argv", [*command, "--slices=2", "--bundles", "ph2l", "physics_tv", f"--results={results}"]
    )
    approaches.main()
    content = json.loads(results.read_text(encoding="utf-8"))
    # and the contrast of the lesions in the target itself
    assert list(content["mean"]["to low dose"]) == ["high", "linear_dose_model", "low", "signal_equation", "ph2l"]
    assert list(content["mean"]["to full dose"]) == ["low", "linear_extrapolation", "physics_tv", "high"]
    assert content["solvers"]["ph2l"] is None
    assert content["solvers"]["physics_tv"]["name"] == "proximal"
    (equation,) = approaches.signal_equation(output / "dataset", content["studies"][:1])
    assert equation["psnr_head"] > 30

    study = content["studies"][0]
    scaled = load_scaled(output / "dataset" / study)
    recorded = {
        name: json.loads((output / name / study / "result.json").read_text(encoding="utf-8"))["metrics"]
        for name in ("ph2l", "physics_tv")
    }
    pair = torch.stack([scaled[name].as_subclass(torch.Tensor)[0] for name in ("pre", "high")])[None]
    low = score({"linear_dose_model": LinearDoseOperator(0.2)(pair)[0], "high": scaled["high"]}, scaled, target="low")
    extrapolated = linear_extrapolation(scaled["pre"], scaled["low"], 0.2)
    high = score({"low": scaled["low"], "linear_extrapolation": extrapolated}, scaled)
    for name, row in low.items():
        assert row == pytest.approx(recorded["ph2l"][name], rel=1e-4)
    for name, row in high.items():
        assert row == pytest.approx(recorded["physics_tv"][name], rel=1e-4)
