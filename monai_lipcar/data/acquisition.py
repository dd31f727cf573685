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
"""How a study was acquired, where it says so: ``<study_id>/acquisition.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import read_json, write_json
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics.acquisition import Acquisition

__all__ = ["ACQUISITION_FILE", "load_acquisition", "parse_acquisition", "read_acquisition", "write_acquisition"]

ACQUISITION_FILE = "acquisition.json"


def write_acquisition(folder: Path, acquisition: Acquisition, details: Mapping[str, Any] | None = None) -> None:
    """Note a study's acquisition in its folder.

    Args:
        folder: the study's folder.
        acquisition: dose fraction, sequence and agent.
        details: what else is known, for people.
    """
    content = {**asdict(acquisition), **(details or {})}
    write_json(folder / ACQUISITION_FILE, content)


def read_acquisition(folder: Path) -> Acquisition | None:
    """The acquisition noted in a study's folder, or None where there is no note.

    Raises:
        StudyError: the note is not JSON, or what it says is impossible.
    """
    file = folder / ACQUISITION_FILE
    if not file.exists():
        return None
    try:
        return load_acquisition(file)
    except ConfigurationError as error:
        raise StudyError(
            str(error), study=folder.name, member=ACQUISITION_FILE, advice="correct or remove it"
        ) from error


def load_acquisition(file: Path) -> Acquisition:
    """Read an acquisition from a JSON file.

    Raises:
        ConfigurationError: it cannot be read, or what it says is impossible.
    """
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file.name} is not readable as JSON: {error}") from error
    return _read(content)


def parse_acquisition(content: Any, study: str, where: str) -> Acquisition:
    """The acquisition that a JSON object describes.

    Args:
        content: the object, with ``"dose_fraction"`` and what else of :class:`Acquisition` is not the paper's.
        study: whose it is, for messages.
        where: where it was read, for messages.

    Raises:
        StudyError: it is none.
    """
    try:
        return _read(content)
    except ConfigurationError as error:
        raise StudyError(str(error), study=study, member=where, advice="correct or remove it") from error


def _read(content: Any) -> Acquisition:
    if not isinstance(content, dict):
        raise ConfigurationError(f"expected an object with 'dose_fraction', got {content!r}")
    return Acquisition.read(content)
