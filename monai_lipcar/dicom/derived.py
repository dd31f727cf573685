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
"""A computed volume as a DICOM series of the examination that it was computed from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.data import MetaTensor

from monai_lipcar import __version__
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.errors import StudyError

from .header import number, words
from .identity import without_identity
from .series import Series
from .tags import copy_source
from .uids import derived_uid
from .volume import Slice

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["KINDS", "Source", "write_derived"]

KINDS = {
    "high_sim": "Simulated high dose",
    "low_sim": "Simulated low dose",
    "residual": "Residual of simulation",
    "enhancement": "Simulated enhancement",
}
"""The volumes that become series, and how their descriptions begin."""
_NUMBERS = {kind: number for number, kind in enumerate(KINDS, 1)}
_NOTICE = "not for diagnosis"
_SIGNED = {"residual", "enhancement"}


@dataclass(frozen=True)
class Source:
    """A series that a result was computed from.

    Args:
        series: the series.
        slices: its slices, along the normal.
    """

    series: Series
    slices: Sequence[Slice]


def write_derived(
    kind: str,
    volume: MetaTensor,
    folder: Path,
    sources: Mapping[str, Source],
    reference: str,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a volume as classic MR images, one for each slice of the series on whose grid it is.

    Patient, study, place and acquisition are those of the reference's images, slice by slice; the values are the
    volume's, rounded to the reference's own steps: to whole numbers, or to multiples of its rescale slope. All UIDs
    follow from the sources, the bundle, its configuration and the versions: the same run gives the same files, bit for
    bit.

    Args:
        kind: ``"high_sim"``, ``"low_sim"``, ``"residual"`` or ``"enhancement"``.
        volume: (1, columns, rows, slices), with its affine.
        folder: to write to; made when missing.
        sources: the series by member.
        reference: the member on whose grid the volume is.
        record: content of the ``result.json``.

    Returns:
        ``series_uid``, ``description``, ``images``, ``rescale_slope``.

    Raises:
        StudyError: the volume is not on the reference's grid, or the files cannot be written.
    """
    study = str(record["study_id"])
    source = sources[reference]
    array = np.asarray(volume.detach().cpu())[0]
    _check_grid(volume, source, study, kind)
    identity = _identity(record, sources, kind)
    series_uid = derived_uid("series", identity)
    numbers = [number(one.header, "InstanceNumber") if one.frame is None else one.frame for one in source.slices]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = [*range(1, len(numbers) + 1)]
    slope = _slope(array, source.slices)
    stored = np.rint(array.astype(np.float64) / slope)
    common = _common(kind, source.series, series_uid, record, sources)
    common.update(_window(array, kind))
    if slope != 1.0:
        common.RescaleIntercept, common.RescaleSlope, common.RescaleType = "0", _decimal(slope), "US"
    dtype = "<i2" if stored.min() < 0 else "<u2"
    with explain_write_failure("the derived series cannot be written", study):
        folder.mkdir(parents=True, exist_ok=True)
        for index, one in enumerate(source.slices):
            image = copy_source(one.header, one.frame is not None)
            image.update(common)
            image.SOPInstanceUID = derived_uid("image", series_uid, one.instance, str(one.frame))
            image.InstanceNumber = int(numbers[index] or 0)
            image.SourceImageSequence = [_reference_to(other, index) for other in sources.values()]
            _set_pixels(image, stored[:, :, index].T.astype(dtype))
            _save(image, folder / f"{image.InstanceNumber:05d}.dcm")
    return {
        "series_uid": series_uid,
        "description": without_identity(str(common.SeriesDescription), source.series.header),
        "images": len(source.slices),
        "rescale_slope": slope,
    }


def _check_grid(volume: MetaTensor, source: Source, study: str, kind: str) -> None:
    first = source.slices[0].header
    shape = (int(first.Columns), int(first.Rows), len(source.slices))
    positions = np.asarray([one.header.ImagePositionPatient for one in source.slices], dtype=float)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(volume.affine, dtype=float)
    steps = np.arange(len(positions))
    found = (affine[:3, 2:3] * steps).T + affine[:3, 3]
    tolerance = 0.01 * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    if tuple(volume.shape[1:]) != shape or np.abs(found - positions).max() > tolerance:
        raise StudyError(
            f"expected {kind} on the grid of {source.series}, {shape}, got {tuple(volume.shape[1:])}, "
            f"{np.abs(found[: len(positions)] - positions).max():.3g} mm away",
            study=study,
            advice="run it again from the DICOM folder",
        )


def _identity(record: Mapping[str, Any], sources: Mapping[str, Source], kind: str) -> str:
    content = {
        "kind": kind,
        "sources": {name: [[one.instance, one.frame] for one in source.slices] for name, source in sources.items()},
        **{key: record[key] for key in ("bundle", "configuration", "versions")},
        "device": str(record["device"]).partition(":")[0],  # another kind of processor rounds otherwise
    }
    return json.dumps(content, sort_keys=True)


def _slope(array: np.ndarray, slices: Sequence[Slice]) -> float:
    """The step that values are rounded to: the finest of the source's, or what 16 bits can hold."""
    finest = min(number(one.header, "RescaleSlope") or 1.0 for one in slices)
    low, high = float(array.min()), float(array.max())
    largest = max(abs(low), high) / 32767 if low < 0 else high / 65535
    return float(_decimal(max(finest, largest * (1 + 1e-6)) if largest > finest else finest))


def _decimal(value: float) -> str:
    """A number as text of at most 16 characters, as DICOM wants it."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(value))


def _common(
    kind: str, source: Series, series_uid: str, record: Mapping[str, Any], sources: Mapping[str, Source]
) -> Dataset:
    """What all images of the derived series have in common."""
    from pydicom import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import MRImageStorage

    common = Dataset()
    common.SOPClassUID, common.SeriesInstanceUID, common.Modality = MRImageStorage, series_uid, "MR"
    common.SeriesNumber = int(number(source.header, "SeriesNumber") or 0) % 1_000_000 * 100 + 90 + _NUMBERS[kind]
    named = " ".join(words(source.header, "SeriesDescription") or words(source.header, "ProtocolName"))
    common.SeriesDescription = f"{KINDS[kind]}, {_NOTICE}: {named}"[:64].strip(": ")
    common.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    common.DerivationDescription = _derivation(kind, record, sources)
    if kind == "enhancement":
        common.DerivationCodeSequence = [_code(codes.DCM.PixelByPixelSubtraction)]
    common.Manufacturer, common.ManufacturerModelName = "monai_lipcar", "monai_lipcar"
    common.SoftwareVersions = _software(record)
    common.ContributingEquipmentSequence = _equipment(source.header, record)
    common.SyntheticData, common.BurnedInAnnotation = "YES", "NO"
    common.ImageComments = "Simulated image, for research use only, not for diagnosis."
    return common


def _derivation(kind: str, record: Mapping[str, Any], sources: Mapping[str, Source]) -> str:
    what = {
        "residual": "what the simulated high dose does not explain of the acquired low dose",
        "enhancement": "simulated high dose minus the pre-dose image",
    }.get(kind, f"{KINDS[kind].lower()} of contrast agent")
    bundle, configuration = record["bundle"], record["configuration"]
    solver = record.get("solver") or configuration.get("solver")
    known = {
        "dose fraction": configuration.get("dose_fraction"),
        "alpha": record.get("alpha") or configuration.get("alpha"),
        "solver": solver.get("name") if isinstance(solver, Mapping) else solver,
    }
    settings = [f"{name} {value}" for name, value in known.items() if value is not None]
    weights = record.get("operator_weights_sha256")
    text = (
        f"Contrast agent reduction: {what}, computed from {', '.join(sources)} by bundle {bundle['name']} "
        f"{bundle.get('version') or ''} ({', '.join(settings)}), "
        f"{f'operator weights SHA-256 {weights}' if weights else 'no trained weights'}, monai_lipcar {__version__}. "
        "Simulated, for research use only, not for diagnosis."
    )
    return text[:1024]


def _software(record: Mapping[str, Any]) -> list[str]:
    return [f"monai_lipcar {record['versions']['monai_lipcar']}", f"torch {record['versions']['torch']}"]


def _code(code: Any) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _equipment(header: Dataset, record: Mapping[str, Any]) -> list[Dataset]:
    """The scanner, whatever had a part in the source, and this program."""
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [_code(codes.DCM.AcquisitionEquipment)]
    scanner.Manufacturer = str(header.get("Manufacturer") or "unknown")
    for keyword in ("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        if header.get(keyword):
            scanner.add(header[keyword])
    program = Dataset()
    program.PurposeOfReferenceCodeSequence = [_code(codes.DCM.ProcessingEquipment)]
    program.Manufacturer, program.ManufacturerModelName = "monai_lipcar", "monai_lipcar"
    program.SoftwareVersions = _software(record)
    program.ContributionDescription = (
        f"bundle {record['bundle']['name']} {record['bundle'].get('version') or ''}".strip()
    )
    return [scanner, *header.get("ContributingEquipmentSequence", []), program]


def _window(array: np.ndarray, kind: str) -> Dataset:
    """A window from nothing to the brightest tissue; symmetric for what may be negative."""
    from pydicom import Dataset

    bright = float(np.percentile(np.abs(array), 99.8)) or 1.0
    center, width = (0.0, 2 * bright) if kind in _SIGNED else (bright / 2, bright)
    window = Dataset()
    window.WindowCenter, window.WindowWidth = _decimal(center), _decimal(width)
    return window


def _reference_to(source: Source, index: int) -> Dataset:
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    one = source.slices[min(index, len(source.slices) - 1)]
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.header.SOPClassUID, one.instance
    if one.frame is not None:
        item.ReferencedFrameNumber = one.frame
    item.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _set_pixels(image: Dataset, values: np.ndarray) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = values.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(values.dtype.kind == "i")
    image.add_new("PixelData", "OW", np.ascontiguousarray(values).tobytes())


def _save(image: Dataset, path: Path) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)
