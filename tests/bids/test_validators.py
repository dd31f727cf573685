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
"""A derivative under the eyes of the BIDS validator, where it is installed (``pip install bids-validator-deno``)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.bids import run_bids

PLACES = (None, str(Path(sys.executable).parent))  # on the path, or in the environment that runs the tests
VALIDATOR = next(filter(None, (shutil.which("bids-validator-deno", path=place) for place in PLACES)), None)
pytestmark = pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")

# who the authors are is for those to say who publish the dataset
IN_DOUBT = {"TOO_FEW_AUTHORS"}


def issues(dataset: Path) -> list[dict[str, Any]]:
    """What the validator finds wrong or doubtful."""
    assert VALIDATOR is not None
    command = [VALIDATOR, str(dataset), "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    content = json.loads(process.stdout)
    assert content["summary"]["dataProcessed"]
    found: list[dict[str, Any]] = content["issues"]["issues"]
    return found


@pytest.fixture(scope="module")
def derivative(tmp_path_factory, write_session) -> Path:
    """Of a dataset with one session, with none, and with other entities."""
    folder = tmp_path_factory.mktemp("bids")
    root = write_session(folder / "ds", "sub-01/ses-1")
    write_session(root, "sub-02")
    names = {"pre": "_rec-a_run-1_T1w", "low": "_acq-lowdose_ce-gd_rec-a_run-1_T1w"}
    write_session(root, "sub-03", names, low={"DoseFraction": 0.2})
    run = run_bids("physics_tv", root, folder / "out", also=("residual", "enhancement"), device="cpu")
    assert run.status == 0
    return folder / "out"


def test_no_error_and_no_warning(derivative) -> None:
    assert {issue["code"] for issue in issues(derivative)} <= IN_DOUBT


def test_the_validator_is_not_blind(derivative, tmp_path) -> None:
    out = Path(shutil.copytree(derivative, tmp_path / "out"))
    (file,) = (out / "sub-02").rglob("*desc-simulated_T1w.json")
    sidecar = json.loads(file.read_text())
    del sidecar["SkullStripped"]
    file.write_text(json.dumps(sidecar))
    file.with_name("sub-02_desc-simulated_ce-full_T1w.nii.gz").write_bytes(b"")
    errors = {issue["code"] for issue in issues(out) if issue["severity"] == "error"}
    assert {"SIDECAR_KEY_REQUIRED", "EMPTY_FILE"} <= errors
