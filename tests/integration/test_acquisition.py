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
"""A study that says how it was acquired, and a run that is told so or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_lipcar.cli import app
from monai_lipcar.data.acquisition import load_acquisition
from monai_lipcar.data.phantom import write_cohort


def test_evaluate_with_the_acquisition_of_the_studies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, options = tmp_path / "data", {"shape": (96, 96, 6)}
    write_cohort(data, "random", 1, seed=5, anatomy_options=options, vary_scanner=True, progress=False)
    note = data / "random-0001" / "acquisition.json"
    common = ("evaluate", str(data), "--bundle", "physics_tv", "--max-iterations", "1")

    untold = CliRunner().invoke(app, [*common, str(tmp_path / "untold")])
    assert untold.exit_code == 1
    assert "study random-0001: expected what this run is set to" in caplog.text
    assert "this one with repetition_time_ms" in caplog.text or "this one with dose_fraction" in caplog.text
    assert "relaxivity_r1" in caplog.text  # named as the option is

    told = CliRunner().invoke(app, [*common, str(tmp_path / "told"), "--acquisition", str(note)])
    assert told.exit_code == 0, told.output
    configuration = json.loads((tmp_path / "told" / "random-0001" / "result.json").read_text())["configuration"]
    for name, value in load_acquisition(note).options().items():
        assert configuration[name] == value
