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
"""Which studies of an output folder gave no result, and why: for those who look at it later."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import read_json, write_json
from monai_lipcar.data.failures import without_paths
from monai_lipcar.data.studies import Study
from monai_lipcar.errors import StudyError

__all__ = ["FAILURES_FILE", "add_failures", "read_failures", "write_failures"]

logger = logging.getLogger(__name__)

FAILURES_FILE = "failures.json"
"""In the output folder, while there are studies without a result: why each of them failed."""


def read_failures(output_dir: str | Path) -> dict[str, str]:
    """Study id to its one-line reason, of the studies that failed in the last run that asked for them."""
    try:
        content = read_json(Path(output_dir) / FAILURES_FILE)
        return {str(study): str(reason) for study, reason in content["failures"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_failures(output_dir: str | Path, requested: Sequence[Study], failures: Iterable[StudyError]) -> None:
    """Bring ``failures.json`` up to date after a run: its studies replaced, those of other runs kept.

    The file is passed on with the results, so no reason in it names a folder of this machine. It is there only while
    there are failures.

    Args:
        output_dir: folder of the results.
        requested: studies that the run was asked for.
        failures: their errors.

    Raises:
        OSError: the file cannot be written.
    """
    by_id = {study.study_id: study for study in requested}
    reasons = {study: reason for study, reason in read_failures(output_dir).items() if study not in by_id}
    for error in failures:
        inputs = by_id[error.study].members.values() if error.study in by_id else ()
        text = f"{error.reason}; {error.advice}" if error.advice else error.reason
        text = f"{error.member}: {text}" if error.member else text
        folders = {path.parent for path in inputs}
        reasons[str(error.study)] = without_paths(text, [*inputs, *folders, Path(output_dir)])
    path = Path(output_dir) / FAILURES_FILE
    if reasons:
        content: dict[str, Any] = {"schema_version": "1.0", "failures": dict(sorted(reasons.items()))}
        write_json(path, content)
    else:
        path.unlink(missing_ok=True)


def add_failures(output_dir: str | Path, failures: Sequence[StudyError]) -> None:
    """Add studies that could not even be read to ``failures.json``; a warning where it cannot be written.

    Args:
        output_dir: folder of the results.
        failures: their errors.
    """
    try:
        write_failures(output_dir, [Study(str(error.study), {}) for error in failures], failures)
    except OSError as error:
        logger.warning("the list of failed studies cannot be written to %s (%s)", output_dir, error.strerror)
