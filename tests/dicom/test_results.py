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
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.data import Study
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.dicom.results import write_derived_series
from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.dicom.volume import read_volume
from monai_lipcar.errors import StudyError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

RECORD: dict[str, Any] = {
    "study_id": "s",
    "bundle": {"name": "physics_tv", "version": "0.1.0"},
    "configuration": {"dose_fraction": 0.2},
    "versions": {"monai_lipcar": "0.1.0", "monai": "1.6.1", "torch": "2.13.0"},
    "device": "cpu",
}


@pytest.fixture
def finished(tmp_path, array, oblique, write_series):
    """A finished result on the grid of a series called low: the output folder, the study, the series."""

    def make(name: str = "high_sim", residual: bool = True, **changes: Any):
        write_series(tmp_path / "in", array, oblique, "T1 low", 2, **changes)
        (series,) = scan_folder(tmp_path / "in")
        volume = read_volume(series, "s", "low")
        volumes = {name: volume, **({"residual": volume - 2000} if residual else {})}
        StudyOutput(tmp_path / "out", "s").write(volumes, RECORD)
        return tmp_path / "out", Study("s", {}), series

    return make


def test_whole_or_not_at_all(finished, monkeypatch) -> None:
    out, study, series = finished()
    save = pydicom.Dataset.save_as

    def fail(self, path, **options):
        if Path(path).name == "00003.dcm":
            raise OSError(28, "No space left on device")
        save(self, path, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(StudyError, match=r"cannot be written \(No space left on device\); free space"):
        write_derived_series(study, {"low": series}, out)
    assert sorted(path.name for path in (out / "s").iterdir()) == ["high_sim.nii.gz", "residual.nii.gz", "result.json"]
    monkeypatch.undo()
    assert write_derived_series(study, {"low": series}, out) == {"high_sim": out / "s" / "dicom" / "high_sim"}
    assert not (out / "s" / ".partial-dicom").exists()


def test_what_is_written_again(finished) -> None:
    out, study, series = finished()
    write_derived_series(study, {"low": series}, out)
    file = out / "s" / "dicom" / "high_sim" / "00001.dcm"
    first = file.stat().st_mtime_ns
    write_derived_series(study, {"low": series}, out)
    assert file.stat().st_mtime_ns == first
    file.unlink()
    write_derived_series(study, {"low": series}, out)
    assert file.stat().st_mtime_ns != first
    assert sorted(write_derived_series(study, {"low": series}, out, ("residual",))) == ["high_sim", "residual"]


def test_another_result_takes_the_series_of_the_older_one_away(finished) -> None:
    out, study, series = finished()
    write_derived_series(study, {"low": series}, out)
    volume = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.eye(4))
    StudyOutput(out, "s").write({"high_sim": volume}, RECORD)
    assert not (out / "s" / "dicom").exists()


def test_low_dose_that_was_simulated(finished) -> None:
    out, study, series = finished("low_sim", residual=False)
    with pytest.raises(StudyError, match="study s, low: it is not a DICOM series"):
        write_derived_series(study, {}, out)
    write_derived_series(study, {"high": series}, out, ("residual", "enhancement"))
    content = json.loads((out / "s" / "dicom" / "derived.json").read_text())
    assert list(content["series"]) == ["low_sim"]
    assert content["series"]["low_sim"]["description"] == "Simulated low dose, not for diagnosis: T1 low"


def test_no_result(tmp_path) -> None:
    with pytest.raises(StudyError, match="study s: no finished result in .*; run it first"):
        write_derived_series(Study("s", {}), {}, tmp_path)


def test_an_examination_that_is_not_mr(finished) -> None:
    out, study, series = finished(Modality="CT")
    with pytest.raises(StudyError, match="study s, low: derived series are MR images; the examination is CT"):
        write_derived_series(study, {"low": series}, out)


def test_values_of_the_source_that_are_not_as_they_should_be(finished, recwarn, caplog) -> None:
    name = "Doe^" + "Jane" * 20
    with pydicom.config.disable_value_validation():
        out, study, series = finished(PatientBirthDate="31.1.1960", PatientName=name, StudyTime="10:15")
        write_derived_series(study, {"low": series}, out)
        image = pydicom.dcmread(out / "s" / "dicom" / "high_sim" / "00001.dcm")
        assert (image.PatientBirthDate, image.StudyTime) == ("31.1.1960", "10:15")
        assert str(image.PatientName) == name
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "1960" not in said
    assert "Jane" not in said


def test_patients_written_in_other_letters(finished) -> None:
    out, study, series = finished(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg=山田")
    write_derived_series(study, {"low": series}, out)
    image = pydicom.dcmread(out / "s" / "dicom" / "high_sim" / "00001.dcm")
    assert str(image.PatientName) == "Müller^Jörg=山田"
