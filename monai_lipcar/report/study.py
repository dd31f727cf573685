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
"""Report of one finished study: a figure and a self-contained HTML page."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from monai_lipcar.bundle import prepare_again
from monai_lipcar.data import Study, list_studies
from monai_lipcar.data.atomic import write_text
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.data.output import RESULT_FILE, StudyOutput, refuse_links
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.handlers import input_hashes

from .content import page_content
from .figure import study_figure
from .page import render
from .series import picked_series
from .view import view_study

__all__ = ["REPORT_FILE", "finished_studies", "study_report"]

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
"""In the folder of a study's results."""


def finished_studies(output_dir: str | Path, dataset_dir: str | Path | None = None) -> list[Study]:
    """The inputs of finished results.

    Args:
        output_dir: folder of the results.
        dataset_dir: dataset folder or datalist, to list its studies only and take the inputs from there; by default
            they are looked for where they were, seen from ``output_dir``, when the results were made. A study whose
            inputs are not there says so when it is checked.

    Raises:
        ConfigurationError: there is no finished result, or no such dataset.
    """
    if dataset_dir is None:
        candidates = []
        for path in sorted(Path(output_dir).glob(f"*/{RESULT_FILE}")):
            record = StudyOutput(output_dir, path.parent.name).read()
            if record is not None:
                try:
                    candidates.append(_recorded_study(path.parent.name, record, Path(output_dir)))
                except (ConfigurationError, AttributeError, KeyError, TypeError) as error:
                    logger.warning("%s is no result of this package: %s", path.parent.name, error)
    else:
        studies = list_studies(dataset_dir, required=())
        candidates = [study for study in studies if StudyOutput(output_dir, study.study_id).read() is not None]
    if not candidates:
        raise ConfigurationError(f"no finished result in {output_dir}; expected <study_id>/{RESULT_FILE}")
    return candidates


def _recorded_study(study_id: str, record: dict[str, Any], output_dir: Path) -> Study:
    members, problems = {}, []
    for name, entry in record["inputs"].items():
        path = Path(os.path.normpath(output_dir.absolute() / entry["path"])) if entry.get("path") else None
        if path is not None and path.exists():
            members[name] = path
        else:
            problems.append(
                StudyError(
                    f"the file is not {'where it was when' if path else 'in one folder with'} the result"
                    f"{' was made' if path else ''}",
                    study=study_id,
                    member=entry["file"],
                    advice="say where the inputs are with --dataset DIR",
                )
            )
    return Study(study_id, members, tuple(problems))


def study_report(study: Study, output_dir: str | Path) -> dict[str, Path]:
    """Draw ``figure.png`` and write ``report.html`` beside a finished result.

    The page is one file without anything from elsewhere; it opens from a disk, and its security policy lets a browser
    load nothing and run no script but the one that moves through the slices. The figure shows the slice with the
    largest lesion, or without a lesion mask the one that enhances most; the page begins with it too, or with the worst
    place to look at, where there is one.

    Args:
        study: the inputs.
        output_dir: folder of the results.

    Returns:
        Paths, keys ``"figure"`` and ``"report"``.

    Raises:
        StudyError: the study has no finished result there, its inputs are not those of the result any more, or the
            report cannot be written.
    """
    output = StudyOutput(output_dir, study.study_id)
    record = output.read()
    if record is None:
        raise StudyError(f"no finished result in {output.folder}", study=study.study_id, advice="run it first")
    refuse_links(output_dir, output.folder, study.study_id)
    study.check()
    for name, entry in input_hashes(study).items():
        if entry["sha256"] != record["inputs"].get(name, entry)["sha256"]:
            raise StudyError(
                "the file has changed since the result was made",
                study=study.study_id,
                member=name,
                advice="run it again",
            )
    # registered, matched and denoised as they were for the computation, in the units of the result
    view = view_study(prepare_again(study, record), output.folder, record)
    heading = f"{study.study_id}: {record['bundle']['name']}, slice {view.index + 1} of {view.slices}"
    report = output.folder / REPORT_FILE
    series, series_notes = picked_series(study)
    content = {**page_content(view, output.folder, record), "series": series, "series_notes": series_notes}
    advice = "free space, then write it with python -m monai_lipcar report; the result is there"
    with explain_write_failure("the report cannot be written", study.study_id, advice):
        figure = study_figure(view.rows, output.folder / "figure.png", heading, view.index, view.axis, view.affine)
        write_text(report, render("study.html.j2", **content))
    return {"figure": figure, "report": report}
