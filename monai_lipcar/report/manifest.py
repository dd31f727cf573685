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
"""The list of what an output folder holds, for scripts that pass it on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import read_json
from monai_lipcar.data.output import DERIVED_FILE, DERIVED_FOLDER, RESULT_FILE, StudyOutput

__all__ = ["MANIFEST_FILE", "manifest"]

MANIFEST_FILE = "manifest.json"


def manifest(output_dir: str | Path, levels: Mapping[str, str]) -> dict[str, Any]:
    """What is there of each study: verdict, bundle, checksums of the inputs, volumes with their sizes, derived series.

    It tells nothing that differs from run to run, so that the same studies give the same file.

    Args:
        output_dir: folder of the results.
        levels: verdict by study, or ``"failed"``.

    Returns:
        Content of ``manifest.json``.
    """
    there = {path.parent.name for path in Path(output_dir).glob(f"*/{RESULT_FILE}")}  # a name may be no folder's
    studies = {
        name: {"level": levels[name], **(_contents(StudyOutput(output_dir, name)) if name in there else {})}
        for name in sorted(levels)
    }
    return {"schema_version": "1.0", "notice": "simulated images, for research use only", "studies": studies}


def _contents(output: StudyOutput) -> dict[str, Any]:
    record = output.read()
    if record is None:
        return {}
    try:
        made = {
            "bundle": record["bundle"]["name"],
            "bundle_version": record["bundle"].get("version"),
            "inputs_sha256": {name: entry["sha256"] for name, entry in record["inputs"].items()},
        }
    except (AttributeError, KeyError, TypeError):
        return {}  # a record that something else wrote
    volumes = {path.name: path.stat().st_size for path in sorted(output.folder.glob("[!.]*.nii.gz"))}
    try:
        derived = read_json(output.folder / DERIVED_FOLDER / DERIVED_FILE)["series"]
        series = {kind: {"uid": one["series_uid"], "images": one["images"]} for kind, one in derived.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        series = {}
    return {**made, "volumes_bytes": volumes, "dicom_series": series}
