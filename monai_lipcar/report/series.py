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
"""Which DICOM series the inputs of a study were, as was noted when they were converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_lipcar.data import Study
from monai_lipcar.data.atomic import read_json
from monai_lipcar.dicom.importing import SERIES_FILE

__all__ = ["picked_series"]


def picked_series(study: Study) -> tuple[dict[str, str], list[str]]:
    """What the page tells of the series that a study's volumes were made of.

    Args:
        study: the inputs; ``series.json`` beside its volumes says it, where they come from DICOM.

    Returns:
        A line for each member, and what is doubtful; nothing where the volumes do not come from DICOM.
    """
    folders = {path.parent for path in study.members.values()}
    if len(folders) != 1:
        return {}, []
    try:
        content: Any = read_json(folders.pop() / SERIES_FILE)
        lines = {name: _line(entry) for name, entry in content["members"].items() if name in study.members}
        return lines, [str(note) for note in content["notes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, []


def _line(entry: Mapping[str, Any]) -> str:
    images = int(entry["images"])
    return f'DICOM series "{entry["description"]}", {images} image{"" if images == 1 else "s"}; {entry["reason"]}'
