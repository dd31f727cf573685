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
"""Derived series of finished results."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_lipcar.data import Study
from monai_lipcar.data.atomic import new_folder, read_json, write_json
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.data.output import DERIVED_FILE, DERIVED_FOLDER, StudyOutput, refuse_links
from monai_lipcar.errors import StudyError
from monai_lipcar.volumes import result_volumes

from .derived import Source, write_derived
from .header import words
from .series import Series
from .volume import slices_of

__all__ = ["write_derived_series"]

logger = logging.getLogger(__name__)


def write_derived_series(
    study: Study, series: Mapping[str, Series], output_dir: str | Path, also: Sequence[str] = ()
) -> dict[str, Path]:
    """Write a finished result as DICOM series: ``<output_dir>/<study_id>/dicom/<volume>/*.dcm``.

    The folder appears whole or not at all. One that was made of the same result and series is left as it is.

    Args:
        study: the inputs.
        series: where each member comes from.
        output_dir: folder of the results.
        also: ``"residual"``, what the result does not explain, and ``"enhancement"``, the simulated high dose minus the
            pre-dose image as it was registered and matched for the computation.

    Returns:
        Folder of each series.

    Raises:
        StudyError: there is no result, no DICOM series on whose grid it is, or it cannot be written.
    """
    from pydicom.config import disable_value_validation

    output = StudyOutput(output_dir, study.study_id)
    record = output.read()
    if record is None:
        raise StudyError(f"no finished result in {output.folder}", study=study.study_id, advice="run it first")
    forward = (output.folder / "low_sim.nii.gz").is_file()
    used = [name for name in (("pre", "high") if forward else ("pre", "low")) if name in series]
    reference = used[0] if forward and used else "low"
    if reference not in used:
        raise StudyError(
            "it is not a DICOM series, so there is no examination for derived series to belong to",
            study=study.study_id,
            member=reference,
            advice="run without --dicom",
        )
    modality = "".join(words(series[reference].header, "Modality"))
    if modality != "MR":
        raise StudyError(
            f"derived series are MR images; the examination is {modality or 'of no modality'}",
            study=study.study_id,
            member=reference,
            advice="run with --no-dicom",
        )
    sources = {name: Source(series[name], slices_of(series[name], study.study_id, name)) for name in used}
    made_of = _made_of(output, sources, also)
    folder = output.folder / DERIVED_FOLDER
    existing = _read_manifest(folder)
    if existing.get("made_of") == made_of:
        return {kind: folder / kind for kind in existing["series"]}
    volumes = result_volumes(study, record, output.folder, also)
    refuse_links(output_dir, folder, study.study_id)
    # values of the source that are not as they should be are carried over as they are, and not quoted in warnings
    with (
        explain_write_failure("the derived series cannot be written", study.study_id),
        disable_value_validation(),
        new_folder(folder) as partial,
    ):
        written = {
            kind: write_derived(kind, volume, partial / kind, sources, reference, record)
            for kind, volume in volumes.items()
        }
        write_json(partial / DERIVED_FILE, {"made_of": made_of, "series": written})
        shutil.rmtree(folder, ignore_errors=True)
    for kind in written:
        logger.info("study %s: %s (%d images)", study.study_id, folder / kind, written[kind]["images"])
    return {kind: folder / kind for kind in written}


def _made_of(output: StudyOutput, sources: Mapping[str, Source], also: Sequence[str]) -> str:
    digest = hashlib.sha256(output.result_file.read_bytes())
    digest.update(json.dumps([sorted(also), {name: one.series.instances for name, one in sources.items()}]).encode())
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / DERIVED_FILE)
        complete = all(len([*(folder / kind).iterdir()]) == one["images"] for kind, one in content["series"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return dict(content) if complete else {}
