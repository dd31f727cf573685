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
"""Continuing an interrupted training: from its newest checkpoint, and with the settings it was started with only."""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import write_json
from monai_lipcar.errors import ConfigurationError

__all__ = ["CONFIGURATION_FILE", "latest_checkpoint", "resume_from"]

logger = logging.getLogger(__name__)

CONFIGURATION_FILE = "configuration.json"


def latest_checkpoint(folder: str | Path) -> str | None:
    """Newest complete ``checkpoint_epoch=N.pt`` of a training's folder, or None.

    A training that was killed while it saved leaves a file that cannot be read; the one before it is taken.
    """
    found = [
        (int(match.group(1)), path)
        for path in Path(folder).glob("checkpoint_epoch=*.pt")
        if (match := re.fullmatch(r"checkpoint_epoch=(\d+)\.pt", path.name))
    ]
    for _, path in sorted(found, reverse=True):
        # the directory of a zip file is at its end: a file cut short is none
        if zipfile.is_zipfile(path):
            return str(path)
        logger.warning("checkpoint %s is not complete and is left out", path)
    return None


def resume_from(folder: str | Path, resume: bool, configuration: Mapping[str, Any]) -> str | None:
    """Checkpoint that a training in ``folder`` continues from, or None for a new one.

    A new training notes its settings in ``<folder>/configuration.json``. A training is continued with the same settings
    only, the number of epochs included: the learning rate falls over all of them.

    Args:
        folder: output folder of the training, made when missing.
        resume: False refuses a folder that holds checkpoints.
        configuration: all settings that decide what weights come out; what JSON can hold.

    Raises:
        ConfigurationError: the folder holds checkpoints of another training, with which its own would be mixed, or it
            cannot be written to.
    """
    folder = Path(folder)
    file = folder / CONFIGURATION_FILE
    # as it will be read back: tuples become lists
    settings: dict[str, Any] = json.loads(json.dumps(dict(configuration)))
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        try:
            write_json(file, settings)
        except OSError as error:
            raise ConfigurationError(
                f"output_dir: {folder} cannot be written to ({error.strerror or error}); choose another --output_dir"
            ) from error
        return None
    if not resume:
        raise ConfigurationError(
            f"{folder} holds the checkpoints of another training; choose another --output_dir, or remove them"
        )
    differing = _differences(_read(file, checkpoint), settings)
    if differing:
        raise ConfigurationError(
            f"{folder} holds a training with other settings: {'; '.join(differing)}. Give the settings it was started "
            "with to continue it, or another --output_dir for a new training"
        )
    return checkpoint


def _read(file: Path, checkpoint: str) -> dict[str, Any]:
    advice = (
        f"choose another --output_dir for a new training, or, if you are sure of the settings, continue with "
        f"--checkpoint '{checkpoint}'"
    )
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{file.parent} holds checkpoints but no {file.name}: they are of an earlier version, or of a training "
            f"that was started with --checkpoint, and nothing tells with what settings; {advice}"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read ({error}); {advice}") from error
    if not isinstance(known, dict):
        raise ConfigurationError(f"{file}: expected an object with the settings of the training; {advice}")
    return known


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        _difference(key, there.get(key), here.get(key))
        for key in dict.fromkeys([*here, *there])
        if there.get(key) != here.get(key)
    ]


def _difference(key: str, there: Any, here: Any) -> str:
    if key == "epochs":
        reason = "their number is fixed: the learning rate falls over all of them"
        return f"epochs is {there!r} there, {here!r} here ({reason})"
    if isinstance(there, list) and isinstance(here, list) and max(len(there), len(here)) > 4:
        more, fewer = (
            ", ".join(map(str, sorted({*one} - {*other})[:3])) for one, other in ((here, there), (there, here))
        )
        changes = [f"{names} {verb}" for names, verb in ((more, "new"), (fewer, "gone")) if names]
        return (
            f"{key} has {len(there)} entries there, {len(here)} here ({', '.join(changes) or 'in another order'}, ...)"
        )
    return f"{key} is {there!r} there, {here!r} here"
