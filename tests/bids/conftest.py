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
"""BIDS datasets, of phantoms or of empty files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data.phantom import write_cohort

SPIN_ECHO = {"RepetitionTime": 0.36, "EchoTime": 0.00551, "FlipAngle": 90, "ScanningSequence": "SE"}
NAMES = {"pre": "_T1w", "low": "_ce-low_T1w", "high": "_ce-full_T1w"}
WriteSession = Callable[..., Path]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study in the dataset layout."""
    folder = tmp_path_factory.mktemp("phantom")
    options = {"shape": (64, 64, 4)}
    (study,) = write_cohort(
        folder, "random", 1, seed=5, tumor_free_fraction=0.0, anatomy_options=options, progress=False
    )
    return study


@pytest.fixture(scope="session")
def write_session(phantom: Path) -> WriteSession:
    """Write a session of a BIDS dataset; the members' names and sidecars can be changed."""

    def write(
        root: Path,
        folders: str = "sub-01",
        names: Mapping[str, str] = NAMES,
        lesion: str | None = None,
        **sidecars: Mapping[str, Any],
    ) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        description = {"Name": "Phantoms", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"}
        (root / "dataset_description.json").write_text(json.dumps(description))
        (root / "README").write_text("Heads that were simulated, to see what becomes of them. " * 4)
        anat = root / folders / "anat"
        anat.mkdir(parents=True)
        stem = folders.replace("/", "_")
        for member, name in names.items():
            shutil.copy(phantom / f"{member}.nii.gz", anat / f"{stem}{name}.nii.gz")
            agent = {} if member == "pre" else {"ContrastBolusIngredient": "GADOLINIUM"}
            content = {**SPIN_ECHO, **agent, "MagneticFieldStrength": 3, "PatientName": "Doe"}
            (anat / f"{stem}{name}.json").write_text(json.dumps({**content, **sidecars.get(member, {})}))
        if lesion is not None:
            mask = root / "derivatives" / "manual" / folders / "anat" / f"{stem}{lesion}.nii.gz"
            mask.parent.mkdir(parents=True)
            shutil.copy(phantom / "lesion.nii.gz", mask)
        return root

    return write


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """A dataset of empty files below a folder of its own; those that end in .json get what they are given."""

    def write(*files: str, **content: Any) -> Path:
        root = tmp_path / "ds"
        for file in files:
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for file, value in content.get("json", {}).items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return root

    return write
