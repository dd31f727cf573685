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
"""Markdown tables of the published numbers: an image or a condition a row, what was measured of it the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.columns import BASELINES
from monai_lipcar.report import METRIC_NAMES

Row = Mapping[str, float | None]
"""Metrics of an image; None where an approach was not trained for the dose."""


def table(rows: Mapping[str, Row], columns: Sequence[str], names: Mapping[str, str] = METRIC_NAMES) -> str:
    """Markdown table, an image a row; columns that no row has and rows that have no column are left out."""
    columns = [name for name in columns if any(name in row for row in rows.values())]
    rows = {image: row for image, row in rows.items() if any(name in row for name in columns)}
    lines = ["| | " + " | ".join(names[name] for name in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for image, row in rows.items():
        cells = [cell(row[name], 2 if "psnr" in name else 3) if name in row else "" for name in columns]
        lines.append("| " + " | ".join([image, *cells]) + " |")
    return "\n".join(lines)


def cell(value: float | None, digits: int) -> str:
    """A number as tables show it."""
    return "not trained" if value is None else f"{value:.{digits}f}"


def named(rows: Mapping[str, Row]) -> dict[str, Row]:
    """The same rows under the names that readers know."""
    return {BASELINES.get(name, f"`{name}`"): row for name, row in rows.items()}


def numbers(rows: Mapping[str, Row], columns: Mapping[str, tuple[str, int]]) -> str:
    """Markdown table, without the columns that no row has.

    Args:
        rows: title to numbers.
        columns: key to title and digits; those whose title ends with a percent sign are shares.
    """
    kept = {name: column for name, column in columns.items() if any(name in row for row in rows.values())}
    lines = ["| | " + " | ".join(title for title, _ in kept.values()) + " |", "| --- |" + " ---: |" * len(kept)]
    for image, row in rows.items():
        cells = []
        for name, (title, digits) in kept.items():
            value = row.get(name)
            factor = 100 if title.endswith("%") else 1
            cells.append("" if value is None else f"{factor * value:.{digits}f}")
        lines.append("| " + " | ".join([image, *cells]) + " |")
    return "\n".join(lines)
