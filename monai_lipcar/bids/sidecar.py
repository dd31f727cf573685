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
"""Metadata of an image: its JSON sidecar, and what it inherits from the folders above."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_lipcar.data import atomic

from .names import BidsName

__all__ = ["number", "read_json", "read_sidecar", "words"]

logger = logging.getLogger(__name__)


def read_sidecar(image: Path, name: BidsName, root: Path) -> dict[str, Any]:
    """Read the metadata of an image by BIDS's inheritance principle.

    A JSON file of the same suffix, whose entities the image has too, holds for the image when it lies beside it or in a
    folder above, down from the dataset's root; what is nearer wins, and in one folder what has more entities.

    Args:
        image: the file.
        name: its name.
        root: folder of the dataset.

    Returns:
        The metadata; empty where there is none.
    """
    merged: dict[str, Any] = {}
    folders = [root]
    for part in image.parent.relative_to(root).parts:
        folders.append(folders[-1] / part)
    for folder in folders:
        found = []
        for path in folder.glob(f"*{name.suffix}.json"):
            other = BidsName.parse(path.name)
            if other is None or other.suffix != name.suffix or not other.entities.items() <= name.entities.items():
                continue
            found.append((len(other.entities), path.name, path))
        for _, _, path in sorted(found):
            merged.update(read_json(path))
    return merged


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, empty where there is none; one that cannot be read is passed over, with a warning."""
    try:
        content = atomic.read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read as JSON and is passed over: %s", path.name, error)
        return {}
    if not isinstance(content, dict):
        logger.warning("%s is passed over: expected a JSON object, got %s", path.name, type(content).__name__)
        return {}
    return content


def number(sidecar: Mapping[str, Any], key: str) -> float | None:
    """A positive number of a sidecar, or None where it does not say one.

    Example:
        >>> number({"EchoTime": 0.005}, "EchoTime"), number({"EchoTime": [0.005, 0.01]}, "EchoTime")
        (0.005, None)
    """
    value = sidecar.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    return float(value) if good and value is not None else None


def words(sidecar: Mapping[str, Any], key: str) -> list[str]:
    """DICOM's words in a sidecar, however their converter has joined them.

    Example:
        >>> words({"ScanningSequence": "GR_IR"}, "ScanningSequence")
        ['GR', 'IR']
        >>> words({"SequenceVariant": ["SK", "SP"]}, "SequenceVariant")
        ['SK', 'SP']
    """
    value = sidecar.get(key)
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return re.findall(r"[A-Z0-9]+", " ".join(texts).upper())
