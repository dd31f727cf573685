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
"""The adaptive prior of ph2l_gentv, as its user runs it; only where it is calibrated for the weights that ship."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.networks import file_sha256
from monai_lipcar.problem import AlphaRule, GuessRule

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
CONFIGS = BUNDLES / "ph2l_gentv" / "configs"
RULES: dict[str, Any] | None = json.loads((CONFIGS / "metadata.json").read_text()).get("adaptive_prior")
Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.skipif(RULES is None, reason="the adaptive prior is not calibrated for these weights")


@pytest.mark.parametrize("file", ["inference.json", "evaluate.json"])
def test_the_adaptive_prior(file: str, dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    shutil.copytree(dataset / "random-0001", tmp_path / "data" / "one")
    arguments = ("--dataset_dir", "data", "--registration_policy", "none", "--max_iterations", "3")
    run_bundle("ph2l_gentv", file, *arguments, "--output_dir", "gentv")
    run_bundle("ph2l_gentv", file, *arguments, "--output_dir", "adaptive", "--prior", "adaptive")
    gentv, adaptive = (
        json.loads((tmp_path / out / "one" / "result.json").read_text()) for out in ("gentv", "adaptive")
    )
    assert (gentv["configuration"]["prior"], gentv["guess_choice"], gentv["alpha_choice"]) == ("gentv", None, None)
    assert (
        gentv["alpha"]
        == gentv["configuration"]["alpha"]
        == json.loads((CONFIGS / "inference.json").read_text())["alpha"]
    )
    rules = RULES
    assert rules is not None
    assert rules["dose_fraction"] == adaptive["configuration"]["dose_fraction"]
    assert adaptive["configuration"]["prior"] == "adaptive"
    assert adaptive["configuration"]["alpha"] == "auto"
    assert adaptive["configuration"]["alpha_rule"] == rules["alpha_rule"]
    assert adaptive["configuration"]["guess_rule"] == rules["guess_rule"]
    choice = adaptive["guess_choice"]
    noise = math.hypot(choice["sigma"], choice["sigma_pre"])
    assert adaptive["alpha"] == pytest.approx(AlphaRule(**rules["alpha_rule"]).alpha(noise))
    assert choice["sigma"] == adaptive["sigma"]
    assert choice["end_to_end"] == pytest.approx(
        GuessRule(**rules["guess_rule"]).end_to_end(choice["sigma"], choice["sigma_pre"])
    )
    assert choice["end_to_end"] + choice["pre"] == pytest.approx(1.0)
    again = run_bundle("ph2l_gentv", file, *arguments, "--output_dir", "adaptive", "--prior", "adaptive")
    assert "are finished already and are skipped" in again.stdout


def test_the_adaptive_prior_is_that_of_the_weights() -> None:
    rules = RULES
    assert rules is not None
    for key, operator in (("weights_sha256", "ph2l"), ("guess_weights_sha256", "pl2h")):
        assert rules[key] == file_sha256(BUNDLES / operator / "models" / "model.pt")
