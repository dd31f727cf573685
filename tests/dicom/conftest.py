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
"""DICOM as hospitals export it: several series in one folder, under names that say nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.utils import optional_import
from scipy.spatial.transform import Rotation

from monai_lipcar.data.phantom import write_cohort

pydicom, _ = optional_import("pydicom")  # the tests themselves are skipped without it

WriteSeries = Callable[..., list[Path]]

PATIENT = {"PatientName": "Doe^Jane", "PatientID": "HOSP-4711", "PatientBirthDate": "19600131", "PatientSex": "F"}
UIDS = "1.2.826.0.1.3680043.8.498."


def _uid(*parts: object) -> str:
    return str(pydicom.uid.generate_uid(UIDS, entropy_srcs=[*map(str, parts)]))


def _study(name: str) -> dict[str, Any]:
    return {
        **PATIENT,
        "StudyInstanceUID": _uid("study", name),
        "FrameOfReferenceUID": _uid("frame", name),
        "StudyID": "1",
        "StudyDate": "20260105",
        "StudyTime": "101500",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "Manufacturer": "Phantom Works",
        "ManufacturerModelName": "Phantom 3T",
        "SoftwareVersions": "1",
        "Modality": "MR",
        "Laterality": "",
        "PatientPosition": "HFS",
    }


def _classic(spin_echo: bool) -> dict[str, Any]:
    sequence = {"ScanningSequence": "SE", "SequenceVariant": "NONE", "FlipAngle": "90"}
    spoiled = {"ScanningSequence": "GR", "SequenceVariant": "SP", "FlipAngle": "15"}
    return {
        **(sequence if spin_echo else spoiled),
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "ScanOptions": "",
        "MRAcquisitionType": "2D" if spin_echo else "3D",
        "RepetitionTime": "360" if spin_echo else "8",
        "EchoTime": "5.51" if spin_echo else "3",
        "EchoTrainLength": "1",
        "MagneticFieldStrength": "3",
    }


def _pixels(image: Any, values: np.ndarray) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = values.shape[-2:]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1 if values.dtype == np.int16 else 0
    image.PixelData = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()


def _file(sop_class: str, instance: str) -> Any:
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = sop_class
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = instance
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return image


def _geometry(affine: np.ndarray) -> tuple[list[list[float]], list[float], list[float], float]:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    orientation = [float(f"{value:.10g}") for value in direction[:, :2].T.ravel()]
    return lps.tolist(), orientation, [float(spacing[1]), float(spacing[0])], float(spacing[2])


def _ds(value: float) -> str:
    return str(pydicom.valuerep.format_number_as_ds(float(value)))


def _write_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    description: str = "T1w",
    number: int = 1,
    study: str = "phantom",
    time: str = "101500",
    agent: str | None = None,
    spin_echo: bool = True,
    backwards: bool = False,
    transfer_syntax: str | None = None,
    slopes: list[float] | None = None,
    drop: tuple[int, ...] = (),
    seed: int = 0,
    **changes: Any,
) -> list[Path]:
    """One classic MR image per index of the last axis of ``array`` (columns, rows, slices); names are scrambled.

    Values are written as they are stored; with ``slopes`` one RescaleSlope per slice goes with them. ``changes`` are
    attributes of every image; None takes one away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps, orientation, spacing, step = _geometry(affine)
    depth = array.shape[2]
    names = random.Random(f"{seed}{description}{number}").sample(range(10**8), depth)
    written = []
    for index in range(depth):
        if index in drop:
            continue
        image = _file(pydicom.uid.MRImageStorage, _uid("image", study, number, index, seed))
        for keyword, value in {**_study(study), **_classic(spin_echo)}.items():
            setattr(image, keyword, value)
        image.SeriesInstanceUID = _uid("series", study, number, seed)
        image.SeriesDescription, image.SeriesNumber = description, number
        image.AcquisitionDate, image.AcquisitionTime = "20260105", time
        image.SeriesDate, image.SeriesTime = "20260105", time
        image.InstanceNumber = depth - index if backwards else index + 1
        image.ImagePositionPatient = [_ds(value) for value in (np.asarray(lps) @ [0, 0, index, 1])[:3]]
        image.ImageOrientationPatient = [_ds(value) for value in orientation]
        image.PixelSpacing = [_ds(value) for value in spacing]
        image.SliceThickness, image.SpacingBetweenSlices = _ds(step), _ds(step)
        if agent is not None:
            image.ContrastBolusAgent = agent
            image.ContrastBolusRoute = "IV"
        if slopes is not None:
            image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", _ds(slopes[index]), "US"
        _pixels(image, array[:, :, index].T)
        for keyword, value in changes.items():
            if value is not None:
                setattr(image, keyword, value)
            elif keyword in image:
                delattr(image, keyword)
        if transfer_syntax is not None:
            image.compress(transfer_syntax, generate_instance_uid=False)
        path = folder / f"{names[index]:08d}"  # no ending either
        image.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def _item(**attributes: Any) -> Any:
    item = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _write_enhanced(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    description: str = "T1w",
    number: int = 1,
    study: str = "phantom",
    time: str = "101500",
    agent: str | None = None,
    order: list[int] | None = None,
    slope: float = 1.0,
    **changes: Any,
) -> list[Path]:
    """The same as one enhanced MR file; ``order`` is that of the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    lps, orientation, spacing, step = _geometry(affine)
    image = _file(pydicom.uid.EnhancedMRImageStorage, _uid("enhanced", study, number))
    for keyword, value in _study(study).items():
        setattr(image, keyword, value)
    image.SeriesInstanceUID = _uid("series", study, number, "enhanced")
    image.SeriesDescription, image.SeriesNumber, image.InstanceNumber = description, number, 1
    image.AcquisitionDateTime, image.ContentDate, image.ContentTime = f"20260105{time}", "20260105", time
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    image.EchoPulseSequence, image.SteadyStatePulseSequence = "GRADIENT", "NONE"
    image.EchoPlanarPulseSequence, image.MRAcquisitionType = "NO", "3D"
    image.MagneticFieldStrength = 3.0
    if agent is not None:
        item = _item(ContrastBolusAgentNumber=1)
        item.ContrastBolusAgent = agent
        image.ContrastBolusAgentSequence = [item]
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=[_ds(value) for value in orientation])],
        PixelMeasuresSequence=[
            _item(
                PixelSpacing=[_ds(value) for value in spacing], SliceThickness=_ds(step), SpacingBetweenSlices=_ds(step)
            )
        ],
        MRTimingAndRelatedParametersSequence=[
            _item(RepetitionTime="8", FlipAngle="15", EchoTrainLength="1", RFEchoTrainLength=1)
        ],
        MREchoSequence=[_item(EffectiveEchoTime=3.0)],
        MRModifierSequence=[_item(InversionRecovery="NO", Spoiling="RF")],
        PixelValueTransformationSequence=[_item(RescaleIntercept="0", RescaleSlope=_ds(slope), RescaleType="US")],
    )
    image.SharedFunctionalGroupsSequence = [shared]
    frames, planes = [], []
    for index in order or range(array.shape[2]):
        position = [_ds(value) for value in (np.asarray(lps) @ [0, 0, index, 1])[:3]]
        content = _item(FrameAcquisitionNumber=1, StackID="1", InStackPositionNumber=index + 1)
        content.DimensionIndexValues = [1, index + 1]
        frames.append(
            _item(FrameContentSequence=[content], PlanePositionSequence=[_item(ImagePositionPatient=position)])
        )
        planes.append(array[:, :, index].T)
    image.PerFrameFunctionalGroupsSequence = frames
    organization = _uid("dimensions", study, number)
    image.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    image.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pydicom.datadict.tag_for_keyword(keyword),
            FunctionalGroupPointer=pydicom.datadict.tag_for_keyword("FrameContentSequence"),
        )
        for keyword in ("StackID", "InStackPositionNumber")
    ]
    image.NumberOfFrames = len(frames)
    _pixels(image, np.stack(planes))
    for keyword, value in changes.items():
        if value is not None:
            setattr(image, keyword, value)
        elif keyword in image:
            delattr(image, keyword)
    path = folder / "IM000001"
    image.save_as(path, enforce_file_format=True)
    return [path]


@pytest.fixture(scope="session")
def write_series() -> WriteSeries:
    """Write a classic MR series; see :func:`_write_series`."""
    return _write_series


@pytest.fixture(scope="session")
def write_enhanced() -> WriteSeries:
    """Write an enhanced MR series; see :func:`_write_enhanced`."""
    return _write_enhanced


@pytest.fixture(scope="session")
def array() -> np.ndarray:
    """Stored values of a small volume (columns, rows, slices)."""
    return np.random.default_rng(3).integers(0, 4000, (7, 6, 5)).astype(np.uint16)


def _affine(*degrees: float, spacing: tuple[float, float, float] = (0.5, 0.75, 3.0)) -> np.ndarray:
    affine = np.eye(4)
    axes = np.diag([-1.0, -1.0, 1.0])  # columns to the left, rows to the back, slices to the head: RAS of axial slices
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ axes @ np.diag(spacing)
    affine[:3, 3] = (40.0, 55.5, -12.25)
    return affine


@pytest.fixture(scope="session")
def oblique() -> np.ndarray:
    """RAS affine of an oblique grid."""
    return _affine(10, -5, 20)


@pytest.fixture(scope="session")
def sagittal() -> np.ndarray:
    """RAS affine of a sagittal grid: columns to the back, rows to the feet, slices to the left or right."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.0, 0.0, -3.0], [-0.5, 0.0, 0.0], [0.0, -0.75, 0.0]])
    affine[:3, 3] = (30.0, 80.0, 90.0)
    return affine


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A small study of the phantom: stored values (columns, rows, slices) and affine of pre, low and high."""
    folder = tmp_path_factory.mktemp("phantom")
    options = {"shape": (64, 64, 4)}
    (study,) = write_cohort(
        folder, "random", 1, seed=5, tumor_free_fraction=0.0, anatomy_options=options, progress=False
    )
    volumes = {}
    for name in ("pre", "low", "high"):
        image = nib.load(study / f"{name}.nii.gz")
        values = np.asarray(image.dataobj)
        grid = image.affine.copy()
        for axis in (0, 1):  # to the left and to the back, as scanners store it
            if grid[axis, axis] > 0:
                values = np.flip(values, axis)
                grid[:3, 3] += grid[:3, axis] * (values.shape[axis] - 1)
                grid[:3, axis] *= -1
        scale = 3000.0 / float(np.asarray(nib.load(study / "low.nii.gz").dataobj).max())
        volumes[name] = (np.rint(values * scale).clip(0, 65535).astype(np.uint16), grid)
    return volumes


@pytest.fixture(scope="session")
def write_examination(phantom: dict[str, tuple[np.ndarray, np.ndarray]]) -> Callable[..., Path]:
    """Write the phantom's pre, low and high as three series of one examination, all files in one folder."""

    def write(folder: Path, study: str = "phantom", members: tuple[str, ...] = ("pre", "low"), **changes: Any) -> Path:
        series = {
            "pre": ("T1 SE pre", 3, "101500", None),
            "low": ("T1 SE low dose", 5, "102000", "Gadobutrol"),
            "high": ("T1 SE full dose", 7, "103000", "Gadobutrol"),
        }
        for name in members:
            description, number, time, agent = series[name]
            values, affine = phantom[name]
            _write_series(folder, values, affine, description, number, study=study, time=time, agent=agent, **changes)
        return folder

    return write
