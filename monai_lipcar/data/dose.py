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
"""The dose fraction of a study, where it is known: ``<study_id>/dose.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import write_text
from monai_lipcar.errors import StudyError

__all__ = ["DOSE_FILE", "check_study_dose", "read_dose", "write_dose"]

DOSE_FILE = "dose.json"
_KEY = "dose_fraction"


def write_dose(folder: Path, dose_fraction: float, details: Mapping[str, Any] | None = None) -> None:
    """Note a study's dose fraction in its folder.

    Args:
        folder: the study's folder.
        dose_fraction: low dose over high dose, in (0, 1].
        details: what else is known of the acquisition, for people.
    """
    content = {_KEY: dose_fraction, **(details or {})}
    write_text(folder / DOSE_FILE, json.dumps(content, indent=2) + "\n")


def read_dose(folder: Path) -> float | None:
    """The dose fraction noted in a study's folder, or None where there is no note.

    Raises:
        StudyError: the note is not JSON, or its dose fraction is not a number in (0, 1].
    """
    file = folder / DOSE_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StudyError(
            f"it is not readable as JSON ({error})", study=folder.name, member=DOSE_FILE, advice="correct or remove it"
        ) from error
    value = content.get(_KEY) if isinstance(content, dict) else None
    return check_study_dose(value, folder.name, DOSE_FILE)


def check_study_dose(value: Any, study: str, where: str) -> float:
    """A dose fraction as a number.

    Raises:
        StudyError: it is not one in (0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise StudyError(
            f"expected {_KEY!r}, low dose over high dose, in (0, 1], got {value!r}",
            study=study,
            member=where,
            advice="correct or remove it",
        )
    return float(value)
