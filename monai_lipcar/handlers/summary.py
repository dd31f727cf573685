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
"""Metrics over all studies: one JSON and one CSV file."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import write_text
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.errors import ConfigurationError

__all__ = ["write_summary"]


def write_summary(output_dir: Path, study_ids: Sequence[str], bundle: str) -> dict[str, Any]:
    """Write ``metrics.json`` (mean and standard deviation over studies) and ``metrics.csv`` (a row a study and image).

    Not every study has every metric (no lesion, nothing that enhances): ``count`` says how many a mean is over.

    Args:
        output_dir: folder of finished results.
        study_ids: studies to look at; those without metrics are left out.
        bundle: name, for the JSON file.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for study_id in study_ids:
        metrics = (StudyOutput(output_dir, study_id).read() or {}).get("metrics") or {}
        for image, values in metrics.items():
            rows.append({"study_id": study_id, "image": image} | {k: v for k, v in values.items() if _is_number(v)})
    names = list(dict.fromkeys(key for row in rows for key in row if key not in ("study_id", "image")))
    studies = len({row["study_id"] for row in rows})
    summary: dict[str, Any] = {"bundle": bundle, "studies": studies, "mean": {}, "std": {}, "count": {}}
    for image in dict.fromkeys(row["image"] for row in rows):
        for name in names:
            values = [row[name] for row in rows if row["image"] == image and name in row]
            if values:
                summary["mean"].setdefault(image, {})[name] = statistics.fmean(values)
                summary["std"].setdefault(image, {})[name] = statistics.stdev(values) if len(values) > 1 else 0.0
                summary["count"].setdefault(image, {})[name] = len(values)
    _replace(output_dir / "metrics.json", json.dumps(summary, indent=2) + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=["study_id", "image", *names])
    writer.writeheader()
    writer.writerows(rows)
    _replace(output_dir / "metrics.csv", table.getvalue())
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _replace(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); the results are not concerned"
        ) from error
