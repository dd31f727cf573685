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
"""Tests of the heads that the adaptive prior is calibrated on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import adaptive_heads
from benchmarks.adaptive_heads import COHORTS, Comparison, OtherModel
from monai_lipcar.physics import SpoiledGradientEcho


@pytest.mark.slow
def test_heads_of_another_signal_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohorts = {"random": (6502, {"shape": (96, 96, 4)})}
    assert {seed for seed, _ in adaptive_heads.OTHER_COHORTS.values()}.isdisjoint(seed for seed, _ in COHORTS.values())
    monkeypatch.setattr(adaptive_heads, "OTHER_COHORTS", cohorts)
    other, usual = OtherModel(tmp_path / "other", 1), Comparison(tmp_path / "usual", 1, cohorts)
    (name,) = other.names
    assert list(other.studies) == list(usual.studies) == [name]
    inputs, sigma, sigma_pre = other.inputs(name, "noise 0.022")
    assert inputs.shape[:2] == (2, 2)
    assert sigma > 0.02 > sigma_pre
    study = other.studies[name]
    assert study["high"].shape == study["pre"].shape == (2, 1, *inputs.shape[2:])
    # the operator is told the sequence, and low is not what it makes of a clean pair
    assert isinstance(other.physics.network.response, torch.nn.Module)
    row = other.measure(name, "noise 0.0", "0.0", [0.1, 0.2], learned=False)["rows"][0]
    assert row["psnr_head"] > 30.0
    # a ratio more costs no other one again
    measured = other.measured(name, "noise 0.0", "0.0", [0.1, 0.2], learned=False)
    assert measured["rows"][0] == row
    compute, asked = other.measure, []
    monkeypatch.setattr(other, "measure", lambda *given: asked.append(given[3]) or compute(*given))
    more = other.measured(name, "noise 0.0", "0.0", [0.1, 0.15, 0.2], learned=False)
    assert asked == [[0.15]]
    assert [more["rows"][index] for index in (0, 2)] == measured["rows"]
    assert (more["sigma"], more["sigma_pre"]) == (measured["sigma"], measured["sigma_pre"])
    assert SpoiledGradientEcho is type(adaptive_heads.OTHER_MODEL.signal_model)
    files = sorted((tmp_path / "other" / "cohorts" / "random" / "data" / name).iterdir())
    times = [file.stat().st_mtime_ns for file in files]
    again = OtherModel(tmp_path / "other", 1)
    assert torch.equal(again.studies[name]["low"], study["low"])
    assert [file.stat().st_mtime_ns for file in files] == times
