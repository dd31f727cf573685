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
"""What a BIDS derivative says of itself as a whole: ``dataset_description.json`` and ``README``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_lipcar import __version__
from monai_lipcar.data.atomic import write_text
from monai_lipcar.data.output import path_from
from monai_lipcar.errors import ConfigurationError

from .sidecar import read_json

__all__ = ["BIDS_VERSION", "NOTICE", "RESULTS", "SOURCE", "describe_dataset", "refuse_other_dataset"]

BIDS_VERSION = "1.10.0"
"""The version of the standard that the derivative is written in."""
NOTICE = "Simulated, for research use only, not for diagnosis."
RESULTS = ("sourcedata", "monai_lipcar")
"""Folders of the results that the derivative is made of; validators and indexers pass over ``sourcedata``."""
SOURCE = "source"
"""What BIDS URIs call the dataset that it was computed from."""
_DESCRIPTION = "dataset_description.json"
_NAME = "monai_lipcar"
_PAPER = "https://arxiv.org/abs/2407.10559"

_README = """\
Contrast agent reduction
========================

The images of this dataset are simulated, for research use only, not for diagnosis.

They were computed by monai_lipcar from examinations with a reduced dose of contrast agent, after LIP-CAR:
contrast agent reduction by a deep learned inverse problem (https://arxiv.org/abs/2407.10559).

desc-simulated    the image that the dose in its name would have given
desc-residual     what that image does not explain of the acquired low dose, where it was asked for
desc-enhancement  that image minus the image before contrast, where it was asked for

The sidecar of an image says how it was made. sourcedata/monai_lipcar/ has the results that the images are copied from,
with a report of each: open sourcedata/monai_lipcar/index.html first.
"""


def refuse_other_dataset(out: Path) -> None:
    """Refuse a folder that is a dataset of somebody else.

    Raises:
        ConfigurationError: its description is not one of this package.
    """
    if not (out / _DESCRIPTION).exists():
        return
    made_by = read_json(out / _DESCRIPTION).get("GeneratedBy")
    names = [entry.get("Name") for entry in made_by if isinstance(entry, dict)] if isinstance(made_by, list) else []
    if _NAME not in names:
        raise ConfigurationError(
            f"{out} is a BIDS dataset that was not made by {_NAME}; choose another folder for the derivative"
        )


def describe_dataset(out: Path, dataset: Path) -> None:
    """Write ``dataset_description.json`` and ``README``, unless they are there already and say the same.

    The source is named by its DOI where it has one, and linked to by a relative path where that tells nothing of the
    machine (:func:`~monai_lipcar.data.output.path_from`); otherwise only its folder's name is told.

    Args:
        out: folder of the derivative.
        dataset: folder of the dataset that it is computed from.

    Raises:
        OSError: they cannot be written.
    """
    source = read_json(dataset / _DESCRIPTION)
    doi = source.get("DatasetDOI")
    doi = doi if isinstance(doi, str) and doi else None
    link = doi and (doi if ":" in doi else f"doi:{doi}")
    link = link or path_from(out, dataset) or f"urn:dataset:{dataset.resolve().name}"
    named = source.get("Name") if isinstance(source.get("Name"), str) else dataset.resolve().name
    content: dict[str, Any] = {
        "Name": f"Contrast agent reduction of {named}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": _NAME, "Version": __version__, "Description": f"Contrast agent reduction. {NOTICE}"}],
        "SourceDatasets": [{"URL": f"bids:{SOURCE}:", **({"DOI": doi} if doi else {})}],
        "DatasetLinks": {SOURCE: link},
        "ReferencesAndLinks": [_PAPER],
    }
    for file, text in ((out / _DESCRIPTION, json.dumps(content, indent=2) + "\n"), (out / "README", _README)):
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
