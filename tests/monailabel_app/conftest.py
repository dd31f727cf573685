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
"""What the tests of the MONAI Label app share: its modules, a folder of images, and the app in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data.phantom import write_cohort

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "monailabel_app"

# the app's modules are found as `python monailabel_app` finds them
sys.path.append(str(APP))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one small study, ``rat``."""
    folder = tmp_path_factory.mktemp("cohort")
    options = {"shape": (64, 64, 4)}
    write_cohort(folder, "random", 1, seed=5, tumor_free_fraction=0.0, anatomy_options=options, progress=False)
    (study,) = [path for path in folder.iterdir() if path.is_dir()]
    study.rename(folder / "rat")
    return folder


@pytest.fixture(scope="session")
def images(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study as MONAI Label has images: side by side, ``rat_pre.nii.gz`` and so on."""
    folder = tmp_path_factory.mktemp("images")
    for member in ("pre", "low", "high"):
        shutil.copyfile(cohort / "rat" / f"{member}.nii.gz", folder / f"rat_{member}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def client(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The app in this process, asked as over HTTP."""
    from fastapi.testclient import TestClient
    from monailabel.config import settings
    from server import app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "MONAI_LABEL_APP_DIR", str(APP))
        patch.setattr(settings, "MONAI_LABEL_STUDIES", str(images))
        patch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
        patch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        with TestClient(app, raise_server_exceptions=False) as running:
            yield running
