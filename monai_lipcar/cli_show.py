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
"""What the commands print of finished results, and the reports that they write of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

__all__ = ["print_table", "show_result", "show_results", "tell"]


def tell(content: dict[str, Any], text: str, as_json: bool) -> None:
    """Print what a command made: ``content`` as JSON for a script, ``text`` for a reader."""
    typer.echo(json.dumps(content) if as_json else text)


def show_results(
    out: Path, dataset: Path | None, done: list[str] | None = None, studies: list[Any] | None = None
) -> bool:
    """Write and tell the reports of finished results, and the index page.

    Args:
        out: folder of the results.
        dataset: of their inputs, where it is not where it was.
        done: only these; by default all.
        studies: the inputs, where they are known.

    Returns:
        False, after a line for each, where one cannot be reported; also where nothing was done.
    """
    from monai_lipcar.data import explain_failure
    from monai_lipcar.report import finished_studies, write_index

    good = done is None or bool(done)
    finished = (studies if studies is not None else finished_studies(out, dataset)) if good else ()
    for study in finished:
        if done is not None and study.study_id not in done:
            continue  # the result of another run
        try:
            show_result(study, out)
        except Exception as error:
            typer.echo(f"no report: {explain_failure(study, error)}", err=True)
            good = False
    typer.echo(f"all studies, the most concerning first: {write_index(out)}")
    return good


def show_result(study: Any, out: Path) -> None:
    """Write the report of a finished result, and tell where everything is."""
    from monai_lipcar.data.output import DERIVED_FOLDER, StudyOutput
    from monai_lipcar.report import study_report

    places = study_report(study, out)
    output = StudyOutput(out, study.study_id)
    record = output.read() or {}
    volumes = (output.folder / f"{name}.nii.gz" for name in ("high_sim", "low_sim"))
    volume = next(path for path in volumes if path.exists())
    typer.echo(f"study {study.study_id}")
    typer.echo(f"  simulated volume  {volume}")
    typer.echo(f"  figure            {places['figure']}")
    typer.echo(f"  report            {places['report']}")
    typer.echo(f"  verdict           {(record.get('verdict') or {}).get('level', 'not judged').replace('_', ' ')}")
    if (output.folder / DERIVED_FOLDER).is_dir():
        typer.echo(f"  DICOM series      {output.folder / DERIVED_FOLDER}")
    if record.get("metrics"):
        print_table(record["metrics"], indent="  ")


def print_table(table: dict[str, dict[str, float]], indent: str = "") -> None:
    """Print metrics, an image a column."""
    from monai_lipcar.report import METRIC_NAMES

    names = [name for name in METRIC_NAMES if any(name in row for row in table.values())]
    width = max(len(METRIC_NAMES[name]) for name in names)
    typer.echo(indent + " " * width + "".join(f"{image.replace('_', ' '):>22}" for image in table))
    for name in names:
        cells = "".join(f"{row[name]:>22.3f}" if name in row else " " * 22 for row in table.values())
        typer.echo(f"{indent}{METRIC_NAMES[name]:<{width}}{cells}")
