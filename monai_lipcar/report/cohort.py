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
"""The page of a whole output folder: every study, the most concerning first."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from monai_lipcar.data.atomic import write_json, write_text
from monai_lipcar.data.output import RESULT_FILE, StudyOutput
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import read_failures

from .content import verdict_of
from .manifest import MANIFEST_FILE, manifest
from .page import render
from .study import REPORT_FILE

__all__ = ["INDEX_FILE", "StudyRow", "study_rows", "write_index"]

INDEX_FILE = "index.html"
"""In the output folder: the page of all studies, the most concerning first."""
TABLE_FILE = "studies.csv"
_ORDER = ("failed", "out_of_domain", "look", "not_judged", "explained")


@dataclass(frozen=True)
class StudyRow:
    """One study of the page.

    Args:
        study_id: its name.
        level: of its verdict, or ``"failed"``.
        reasons: why, a sentence each.
        notes: what else to know: warnings, and a search that did not come to its end.
        severity: how far the worst measure is over its limit; orders the studies of a level.
        link: to its report, where there is one.
        numbers: by column.
    """

    study_id: str
    level: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    severity: float
    link: str | None
    numbers: dict[str, str]


def study_rows(output_dir: str | Path) -> list[StudyRow]:
    """All studies of an output folder, the most concerning first.

    Failed, then out of domain, then to be looked at, then not judged, then explained; of those that are equal the one
    that is further over its limit first, then the one with warnings, then in order of name.

    Args:
        output_dir: folder of the results.

    Returns:
        A row for each study with a result, or a reason why it has none.
    """
    folder = Path(output_dir)
    failures = read_failures(folder)
    records = {}
    for path in sorted(folder.glob(f"*/{RESULT_FILE}")):
        record = StudyOutput(folder, path.parent.name).read()
        if record is not None:
            records[path.parent.name] = record
    rows = []
    for study_id, record in records.items():
        try:
            rows.append(_row(study_id, record, folder, failures.get(study_id)))
        except (AttributeError, KeyError, TypeError, ValueError):
            reason = f"its {RESULT_FILE} is not one that this package writes"
            rows.append(StudyRow(study_id, "failed", (reason,), (), 0.0, None, {}))
    rows += [
        StudyRow(name, "failed", (why,), (), 0.0, None, {}) for name, why in failures.items() if name not in records
    ]
    return sorted(rows, key=lambda row: (_ORDER.index(row.level), -row.severity, -len(row.notes), row.study_id))


def write_index(output_dir: str | Path) -> Path:
    """Write ``index.html``, a table of all studies with links to their reports, ``studies.csv`` and ``manifest.json``.

    Args:
        output_dir: folder of the results.

    Returns:
        The page.

    Raises:
        ConfigurationError: there is no study, or the page cannot be written.
    """
    rows = study_rows(output_dir)
    if not rows:
        raise ConfigurationError(f"no result and no failure in {output_dir}; expected <study_id>/{RESULT_FILE}")
    counts = {level: sum(row.level == level for row in rows) for level in _ORDER}
    page = render("index.html.j2", rows=rows, counts={level: count for level, count in counts.items() if count})
    path = Path(output_dir) / INDEX_FILE
    try:
        write_text(path, page)
        write_text(path.with_name(TABLE_FILE), _table(rows))
        write_json(path.with_name(MANIFEST_FILE), manifest(output_dir, {row.study_id: row.level for row in rows}))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror})") from error
    return path


def _table(rows: Sequence[StudyRow]) -> str:
    numbers = list(dict.fromkeys(name for row in rows for name in row.numbers))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["study_id", "level", "reasons", "notes", "report", *numbers])
    for row in rows:
        told = ["; ".join(row.reasons), "; ".join(row.notes), row.link or ""]
        writer.writerow([row.study_id, row.level, *told, *(row.numbers.get(name, "") for name in numbers)])
    return text.getvalue()


def _row(study_id: str, record: dict[str, Any], folder: Path, failure: str | None) -> StudyRow:
    verdict = verdict_of(record)
    notes = list(record.get("warnings") or ())
    if record.get("status") in ("stalled", "non_finite"):
        notes.append(f"the solver {record['status'].replace('_', ' ')}")
    level, reasons = verdict["level"], list(verdict["reasons"])
    if failure is not None:
        # the result is that of another run
        level, reasons = "failed", [failure]
    has_report = (folder / study_id / REPORT_FILE).is_file()
    return StudyRow(
        study_id=study_id,
        level=level if level in _ORDER else "not_judged",
        reasons=tuple(reasons),
        notes=tuple(notes),
        severity=max((float(place["value"]) for place in verdict["places"]), default=0.0),
        # quoted whole: a study may be called like a protocol
        link=f"./{quote(study_id, safe='')}/{REPORT_FILE}" if has_report else None,
        numbers=_numbers(record, verdict),
    )


def _numbers(record: dict[str, Any], verdict: dict[str, Any]) -> dict[str, str]:
    numbers = {}
    measures = verdict["measures"]
    for name, label in (("residual_head", "residual, head"), ("residual_window", "residual, worst window")):
        if name in measures:
            numbers[label] = f"{measures[name]:.2f}"
    if "untrusted_enhancement" in measures:
        numbers["not to be trusted below (%)"] = f"{100 * measures['untrusted_enhancement']:.0f}"
    if record.get("sigma") is not None:
        numbers["sigma"] = f"{record['sigma']:.4f}"
    if record.get("alpha") is not None:
        numbers["alpha"] = f"{record['alpha']:g}"
    if record.get("status"):
        numbers["solver"] = record["status"].replace("_", " ")
    simulated = (record.get("metrics") or {}).get("simulated") or {}
    if "ssim_head" in simulated:
        numbers["SSIM, head"] = f"{simulated['ssim_head']:.3f}"
    return numbers
