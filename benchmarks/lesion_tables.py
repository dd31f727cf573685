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
"""Tables of what an approach makes of lesions: how they look beside the full dose, and which are missed or invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.columns import LESIONS, REAL_LESION
from benchmarks.tables import Row, named, numbers
from monai_lipcar.report.words import LESION_SIZE_NAMES

FALSE_MM = "false_enhancement_mm"


def lesions_by_size(rows: Mapping[str, Row]) -> str:
    """Table of the lesions of the simulated studies, the approaches under each size.

    Args:
        rows: approach to its metrics; ``high``, what the others should equal, comes first.
    """
    sized = {
        f"{title}: {image}": of_size(row, size)
        for size, title in LESION_SIZE_NAMES.items()
        for image, row in named(reference_first(rows)).items()
    }
    return numbers({image: row for image, row in sized.items() if row}, LESIONS)


def real_lesions(content: Mapping[str, Any], simulation: str, dose: float) -> str:
    """Table of the marked lesions of the real examinations and of the largest false component in each examination.

    Lesions from 5 mm on: smaller parts of an automatic segmentation need not be any.

    Args:
        content: rows of ``benchmarks/real_examinations.py``.
        simulation: how the low dose was made.
        dose: its fraction.
    """
    rows: dict[str, dict[str, float | None]] = {}
    columns: dict[str, tuple[str, int]] = {}
    for examination, entry in content["examinations"].items():
        measured_at = entry["results"].get(simulation, {}).get(f"{dose:g}", {})
        columns |= {f"{examination} {name}": (f"{examination}: {of}", n) for name, (of, n) in REAL_LESION.items()}
        found = {image: row or {} for image, row in measured_at.items()}
        for image, row in named(reference_first(found)).items():
            measured = {**of_size(row, "large"), FALSE_MM: row.get(FALSE_MM)}
            rows.setdefault(image, {}).update(
                {f"{examination} {name}": measured[name] for name in REAL_LESION if name in measured}
            )
    return numbers(rows, columns)


def reference_first(rows: Mapping[str, Row]) -> dict[str, Row]:
    """The same rows, the acquired full dose before the others."""
    return dict(sorted(rows.items(), key=lambda item: item[0] != "high"))


def of_size(row: Row, size: str) -> dict[str, float | None]:
    """The metrics of the lesions of a size, under the names without it."""
    return {name: row[f"{name}_{size}"] for name in LESIONS if f"{name}_{size}" in row}
