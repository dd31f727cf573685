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
from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from monai_lipcar import __version__
from monai_lipcar.bids.description import describe_dataset, refuse_other_dataset
from monai_lipcar.errors import ConfigurationError


def described(out: Path, dataset: Path, **source: str) -> dict[str, object]:
    """What the derivative of a dataset says of itself."""
    dataset.mkdir(parents=True, exist_ok=True)
    if source:
        (dataset / "dataset_description.json").write_text(json.dumps(source))
    describe_dataset(out, dataset)
    content = json.loads((out / "dataset_description.json").read_text())
    assert isinstance(content, dict)
    return content


def test_what_it_says(tmp_path) -> None:
    content = described(tmp_path / "out", tmp_path / "ds", Name="Trial 7")
    assert content["Name"] == "Contrast agent reduction of Trial 7"
    assert content["DatasetType"] == "derivative"
    (made_by,) = content["GeneratedBy"]
    assert (made_by["Name"], made_by["Version"]) == ("monai_lipcar", __version__)
    assert "not for diagnosis" in made_by["Description"]
    assert content["DatasetLinks"] == {"source": "../ds"}
    assert content["SourceDatasets"] == [{"URL": "bids:source:"}]
    readme = (tmp_path / "out" / "README").read_text()
    assert "for research use only, not for diagnosis" in readme


@pytest.mark.parametrize("doi", ["doi:10.18112/openneuro.ds000001.v1.0.0", "10.18112/openneuro.ds000001.v1.0.0"])
def test_a_published_source_is_named_by_its_doi(tmp_path, doi) -> None:
    content = described(tmp_path / "out", tmp_path / "ds", Name="Trial 7", DatasetDOI=doi)
    assert content["DatasetLinks"] == {"source": "doi:10.18112/openneuro.ds000001.v1.0.0"}
    assert content["SourceDatasets"] == [{"URL": "bids:source:", "DOI": doi}]


def test_a_source_elsewhere_is_named_without_its_place(tmp_path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as elsewhere:  # nothing but the root is in common
        content = described(tmp_path / "out", Path(elsewhere) / "ds")
    assert content["DatasetLinks"] == {"source": "urn:dataset:ds"}
    assert content["Name"] == "Contrast agent reduction of ds"


def test_what_is_there_already_stays(tmp_path) -> None:
    described(tmp_path / "out", tmp_path / "ds")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    described(tmp_path / "out", tmp_path / "ds")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    described(tmp_path / "out", tmp_path / "ds", Name="Another name")
    assert "Another name" in (tmp_path / "out" / "dataset_description.json").read_text()


@pytest.mark.parametrize("content", ["{}", '{"GeneratedBy": [{"Name": "fMRIPrep"}]}', '{"GeneratedBy": 3}', "damaged"])
def test_a_dataset_of_somebody_else(tmp_path, content) -> None:
    refuse_other_dataset(tmp_path)
    (tmp_path / "dataset_description.json").write_text(content)
    with pytest.raises(ConfigurationError, match="is a BIDS dataset that was not made by monai_lipcar"):
        refuse_other_dataset(tmp_path)


def test_its_own_dataset(tmp_path) -> None:
    described(tmp_path / "out", tmp_path / "ds")
    refuse_other_dataset(tmp_path / "out")
