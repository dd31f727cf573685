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
"""The application for MONAI Deploy, in the environment of ``examples/deploy/README.md``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("holoscan") is None, reason="MONAI Deploy App SDK has an environment of its own"
)
DEPLOY = Path(__file__).resolve().parent.parent.parent / "examples" / "deploy"


def run(*arguments: object, bundle: str = "physics_tv") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LIPCAR_BUNDLE": bundle, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def examination(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "examination"
    assert run(DEPLOY / "sample_examination.py", folder).returncode == 0
    return folder


def test_derived_series(examination: Path, tmp_path: Path) -> None:
    import pydicom

    ended = run(DEPLOY / "app.py", "-i", examination, "-o", tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    images = [pydicom.dcmread(file) for file in sorted((tmp_path / "high_sim").iterdir())]
    sources = [pydicom.dcmread(file) for file in sorted(examination.glob("low-*"))]
    assert len(images) == len(sources) == 10
    assert {tuple(image.ImagePositionPatient) for image in images} == {
        tuple(image.ImagePositionPatient) for image in sources
    }
    assert {image.ImageType[0] for image in images} == {"DERIVED"}
    assert {image.StudyInstanceUID for image in images} == {sources[0].StudyInstanceUID}


def test_unusable_examination_fails(examination: Path, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for file in examination.glob("low-*"):
        (lacking / file.name).write_bytes(file.read_bytes())
    ended = run(DEPLOY / "app.py", "-i", lacking, "-o", tmp_path / "out")
    assert ended.returncode != 0
    assert "pre" in ended.stderr + ended.stdout
    assert not list((tmp_path / "out").glob("high_sim/*"))
