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

from benchmarks.columns import LESIONS
from benchmarks.tables import Row, named, numbers
from monai_lipcar.report.words import LESION_SIZE_NAMES


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


def reference_first(rows: Mapping[str, Row]) -> dict[str, Row]:
    """The same rows, the acquired full dose before the others."""
    return dict(sorted(rows.items(), key=lambda item: item[0] != "high"))


def of_size(row: Row, size: str) -> dict[str, float | None]:
    """The metrics of the lesions of a size, under the names without it."""
    return {name: row[f"{name}_{size}"] for name in LESIONS if f"{name}_{size}" in row}
