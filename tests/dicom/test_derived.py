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

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.dicom.derived import Source, write_derived
from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.dicom.volume import read_volume, slices_of
from monai_lipcar.errors import StudyError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

RECORD = {
    "study_id": "s",
    "bundle": {"name": "physics_tv", "version": "0.1.0"},
    "configuration": {"dose_fraction": 0.2, "alpha": 0.001},
    "versions": {"monai_lipcar": "0.1.0", "monai": "1.6.1", "torch": "2.13.0"},
    "device": "cpu",
    "alpha": 0.001,
    "solver": {"name": "proximal", "memory": 4},
    "operator_weights_sha256": None,
}


def source_in(folder: Path) -> tuple[Source, MetaTensor]:
    """The one series of a folder, and its volume."""
    (series,) = scan_folder(folder)
    return Source(series, slices_of(series, "s", "low")), read_volume(series, "s", "low")


def written(folder: Path, source: Source, volume: MetaTensor, kind: str = "high_sim", **record: Any) -> list[Any]:
    """The images of a derived series."""
    write_derived(kind, volume, folder, {"low": source}, "low", {**RECORD, **record})
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


@pytest.mark.parametrize("grid", ["oblique", "sagittal"])
@pytest.mark.parametrize("backwards", [False, True])
def test_geometry_is_the_sources_to_the_last_digit(grid, backwards, request, tmp_path, array, write_series) -> None:
    write_series(tmp_path / "in", array, request.getfixturevalue(grid), backwards=backwards)
    source, volume = source_in(tmp_path / "in")
    images = written(tmp_path / "out", source, volume)
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    by_number = {image.InstanceNumber: image for image in map(pydicom.dcmread, source.series.files)}
    for image in images:
        acquired = by_number[image.InstanceNumber]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            assert image[keyword].value == acquired[keyword].value
        np.testing.assert_array_equal(image.pixel_array, acquired.pixel_array)
    again = source_in(tmp_path / "out")[1]
    np.testing.assert_array_equal(again.numpy(), volume.numpy())
    np.testing.assert_array_equal(again.affine.numpy(), volume.affine.numpy())


def test_tags(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique, "T1 low", 5, agent="Gadobutrol", InstitutionName="somewhere")
    source, volume = source_in(tmp_path / "in")
    image = written(tmp_path / "out", source, volume, operator_weights_sha256="f" * 64)[2]
    acquired = source.slices[2].header
    assert image.SOPClassUID == pydicom.uid.MRImageStorage
    assert image.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
    assert image.SyntheticData == "YES"
    assert image.BurnedInAnnotation == "NO"
    assert image.LossyImageCompression == "00"
    assert image.SeriesDescription == "Simulated high dose, not for diagnosis: T1 low"
    assert image.SeriesNumber == 591
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ContrastBolusAgent"):
        assert image[keyword].value == acquired[keyword].value
    assert image.SeriesInstanceUID != acquired.SeriesInstanceUID
    assert image.SOPInstanceUID != acquired.SOPInstanceUID
    (reference,) = image.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == acquired.SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    scanner, program = image.ContributingEquipmentSequence
    assert scanner.ManufacturerModelName == "Phantom 3T"
    assert (program.PurposeOfReferenceCodeSequence[0].CodeValue, program.Manufacturer) == ("109102", "monai_lipcar")
    assert image.Manufacturer == "monai_lipcar"
    for text in ("physics_tv 0.1.0", "dose fraction 0.2", "alpha 0.001", "solver proximal", "f" * 64, "not for diag"):
        assert text in image.DerivationDescription
    assert "not for diagnosis" in image.ImageComments
    assert "InstitutionName" not in image  # nothing is copied that is not listed
    assert "RescaleSlope" not in image


def test_lossy_once_is_lossy_for_ever(tmp_path, array, oblique, write_series) -> None:
    changes = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8"}
    write_series(tmp_path / "in", array, oblique, **changes)
    image = written(tmp_path / "out", *source_in(tmp_path / "in"))[0]
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 8)


def test_long_descriptions_and_none(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique, "T1 " + "x" * 60)
    image = written(tmp_path / "out", *source_in(tmp_path / "in"))[0]
    assert len(image.SeriesDescription) == 64
    write_series(tmp_path / "none", array, oblique, "")
    image = written(tmp_path / "out2", *source_in(tmp_path / "none"), kind="residual")[0]
    assert image.SeriesDescription == "Residual of simulation, not for diagnosis"


def test_the_manifest_does_not_name_the_patient(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique, "T1 of Doe")
    source, volume = source_in(tmp_path / "in")
    told = write_derived("high_sim", volume, tmp_path / "out", {"low": source}, "low", RECORD)
    assert told["description"] == "Simulated high dose, not for diagnosis: T1 of ***"
    assert told["images"] == 5


def test_values_below_zero(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique)
    source, volume = source_in(tmp_path / "in")
    images = written(tmp_path / "out", source, volume - 2000.25, kind="residual")
    assert {image.PixelRepresentation for image in images} == {1}
    again = source_in(tmp_path / "out")[1]
    np.testing.assert_array_equal(again.numpy(), np.rint(volume.numpy() - 2000.25))
    assert images[0].WindowCenter == 0


def test_steps_are_the_sources(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique, slopes=[1.2e-4, 1e-4, 2e-4, 1.5e-4, 3e-4])
    source, volume = source_in(tmp_path / "in")
    image = written(tmp_path / "out", source, 2 * volume)[0]
    assert image.RescaleSlope == pytest.approx(1e-4)
    again = source_in(tmp_path / "out")[1]
    np.testing.assert_allclose(again.numpy(), 2 * volume.numpy(), atol=0.51e-4)


def test_values_beyond_16_bits(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique)
    source, volume = source_in(tmp_path / "in")
    image = written(tmp_path / "out", source, 50 * volume)[0]
    step = float(image.RescaleSlope)
    assert step == pytest.approx(50 * float(volume.max()) / 65535, rel=1e-4)
    np.testing.assert_allclose(source_in(tmp_path / "out")[1].numpy(), 50 * volume.numpy(), atol=0.51 * step)


def test_uids_follow_from_sources_and_configuration(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique)
    source, volume = source_in(tmp_path / "in")

    def uid(name: str, kind: str = "high_sim", **record: Any) -> str:
        return str(written(tmp_path / name, source, volume, kind, **record)[0].SeriesInstanceUID)

    first = uid("a")
    assert uid("b", seconds=12.0) == first
    others = {
        uid("c", "residual"),
        uid("d", configuration={**RECORD["configuration"], "alpha": 0.002}),
        uid("e", bundle={"name": "ph2l_tv", "version": "0.1.0"}),
        uid("f", versions={**RECORD["versions"], "monai_lipcar": "0.2.0"}),
        uid("g", device="cuda:0"),
    }
    assert len({first, *others}) == 6
    files = [sorted((tmp_path / name).iterdir()) for name in ("a", "b")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_another_grid_is_refused(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique)
    source, volume = source_in(tmp_path / "in")
    moved = MetaTensor(volume.as_tensor(), affine=volume.affine + torch.tensor([0, 0, 0, 0.1]))
    with pytest.raises(StudyError, match=r"study s: expected high_sim on the grid of series 1 .* mm away"):
        written(tmp_path / "out", source, moved)
    with pytest.raises(StudyError, match="expected high_sim on the grid"):
        written(tmp_path / "out", source, volume[:, :, :, :4])


def test_a_full_disk(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path / "in", array, oblique)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StudyError, match=r"study s: the derived series cannot be written \(File exists\)"):
        written(tmp_path / "out", *source_in(tmp_path / "in"))
