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
"""Pixels of a series: one volume with the affine of its slices, or a line that says why not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor

from monai_lipcar.data.headers import MAX_VOXELS, pixels_fault
from monai_lipcar.errors import StudyError

from .decoding import decode
from .header import frame_headers, need_dicom, number, words
from .identity import without_identity
from .series import Series

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Slice", "read_volume", "slices_of"]

_EVEN = 0.01
"""Largest relative difference of the distances between slices; highdicom's own."""
_ALIGNED = 1e-3
"""Largest difference of direction cosines between the slices of a volume, and from the slice normal."""
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Args:
        header: what it says of itself; see :func:`~monai_lipcar.dicom.header.frame_headers`.
        instance: SOPInstanceUID of the file.
        frame: number of the frame in a multi-frame file, from 1; None in a file of its own.
        place: along the slice normal, in mm.
    """

    header: Dataset
    instance: str
    frame: int | None
    place: float


def slices_of(series: Series, study: str, member: str) -> list[Slice]:
    """The slices of a series in the order of the third axis of :func:`read_volume`: along their normal.

    Args:
        series: the series; its files are read again, without their pixels.
        study: whose it is, for messages.
        member: what it is, for messages.

    Raises:
        StudyError: the slices do not make one volume: some are missing, several lie in one place, or they differ in
            size, spacing or orientation.
    """
    return _ordered(series, [_read(file, series, study, member, pixels=False) for file in series.files], study, member)


def read_volume(series: Series, study: str, member: str) -> MetaTensor:
    """Read a series as the volume (1, columns, rows, slices) in its own units, float32, with its affine in RAS mm.

    highdicom reads the pixels (through the decoders of pydicom), puts the slices in order of their positions and
    applies the rescale slope and intercept, slice by slice. Values of a real-world map are not used: the units of the
    result are those of the images.

    Args:
        series: the series.
        study: whose it is, for messages.
        member: what it is, for messages.

    Returns:
        The volume; its axes follow the columns' index, the rows' index and the slice normal, so they are right-handed
        in DICOM's coordinates.

    Raises:
        StudyError: see :func:`slices_of`; or the pixels cannot be read.
    """
    images = [_read(file, series, study, member, pixels=True) for file in series.files]
    slices = _ordered(series, images, study, member)
    if (voxels := len(slices) * int(slices[0].header.Rows) * int(slices[0].header.Columns)) > MAX_VOXELS:
        message = f"expected at most {MAX_VOXELS} voxels, found headers that promise {voxels} in {series}"
        raise _refusal(message, "export the series again", study, member)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values of the header
            for image, file in zip(images, series.files, strict=True):
                if slices[0].frame is None:
                    decode(image, file)
            volume = _assemble(images, slices)
    except Exception as error:
        raise _refusal(
            f"the pixels of {series} cannot be read ({_reason(error, series.header)})",
            "check the files, or export the series again uncompressed",
            study,
            member,
        ) from error
    array = torch.from_numpy(np.ascontiguousarray(volume.array, dtype=np.float32))[None]
    return MetaTensor(array, affine=torch.from_numpy(_RAS @ volume.affine))


def _assemble(images: list[Dataset], slices: list[Slice]) -> Any:
    import highdicom as hd

    options: dict[str, Any] = {
        "dtype": np.float32,
        "apply_real_world_transform": False,
        "rtol": _EVEN,
        "perpendicular_tol": _ALIGNED,
    }
    frame_of_reference = slices[0].header.get("FrameOfReferenceUID") or slices[0].header.SeriesInstanceUID
    for image in images:
        image.FrameOfReferenceUID = frame_of_reference
    if slices[0].frame is not None:
        volume = hd.Image.from_dataset(images[0], copy=False).get_volume(**options)
    else:
        if "SpacingBetweenSlices" not in images[0] and images[0].get("SliceThickness"):
            images[0].SpacingBetweenSlices = images[0].SliceThickness  # of a series of one slice
        volume = hd.get_volume_from_series(images, orientation_tol=_ALIGNED, **options)
    return volume.permute_spatial_axes((2, 1, 0)).ensure_handedness("RIGHT_HANDED", flip_axis=2)


def _read(file: Path, series: Series, study: str, member: str, pixels: bool) -> Dataset:
    import pydicom

    need_dicom()
    try:
        with pydicom.config.disable_value_validation():
            image = pydicom.dcmread(file, stop_before_pixels=not pixels)
    except Exception as error:
        raise _refusal(
            f"a file of {series} cannot be read ({_reason(error, series.header)})",
            "check that it is complete, or export the series again",
            study,
            member,
        ) from error
    if pixels and (fault := pixels_fault(image, file.stat().st_size)):
        raise _refusal(f"a file of {series} cannot be read: {fault}", None, study, member)
    return image


def _ordered(series: Series, images: list[Dataset], study: str, member: str) -> list[Slice]:
    if "PerFrameFunctionalGroupsSequence" in images[0]:
        if len(images) > 1:
            raise _refusal(
                f"expected one multi-frame file, got {len(images)} in {series}", "choose another series", study, member
            )
    elif any((number(image, "NumberOfFrames") or 1) > 1 for image in images):
        raise _refusal(
            f"{series} has several frames in a file without their positions",
            "export it as enhanced MR, or one file for each slice",
            study,
            member,
        )
    slices = []
    for image in images:
        frames = frame_headers(image)
        for index, header in enumerate(frames):
            place = _place(header, series, study, member)
            slices.append(Slice(header, str(image.SOPInstanceUID), index + 1 if len(frames) > 1 else None, place))
    _check_alike(slices, series, study, member)
    slices.sort(key=lambda one: one.place)
    _check_places(slices, series, study, member)
    return slices


def _place(header: Dataset, series: Series, study: str, member: str) -> float:
    try:
        position, orientation = header.ImagePositionPatient, header.ImageOrientationPatient
        values = np.asarray([*position, *orientation, *header.PixelSpacing], dtype=float)
        if values.shape != (11,) or not np.isfinite(values).all():
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise _refusal(
            f"an image of {series} does not say where it lies (position, orientation and pixel spacing are needed)",
            "choose a series of slices, no screenshot or projection",
            study,
            member,
        ) from None
    return float(np.cross(values[3:6], values[6:9]) @ values[:3])


def _check_alike(slices: list[Slice], series: Series, study: str, member: str) -> None:
    first = slices[0].header
    meaning = "".join(words(first, "PhotometricInterpretation"))
    if meaning != "MONOCHROME2":
        raise _refusal(
            f"expected gray values, larger ones brighter (MONOCHROME2), got {meaning or 'nothing'} in {series}",
            "choose the series as it was acquired",
            study,
            member,
        )
    for keyword, tolerance in (
        ("Rows", 0.0),
        ("Columns", 0.0),
        ("PixelSpacing", 1e-6),
        ("ImageOrientationPatient", _ALIGNED),
    ):
        expected = np.asarray(first.get(keyword), dtype=float)
        for one in slices:
            value = np.asarray(one.header.get(keyword), dtype=float)
            if value.shape != expected.shape or np.abs(value - expected).max() > tolerance:
                raise _refusal(
                    f"expected images that are alike, but {keyword} differs in {series}: "
                    f"{expected.tolist()} and {value.tolist()}",
                    "choose a series that is one volume, such as no localizer",
                    study,
                    member,
                )


def _check_places(slices: list[Slice], series: Series, study: str, member: str) -> None:
    """Positions of one volume: each once, evenly spaced, straight along the normal."""
    if len(slices) == 1:
        return
    positions = np.asarray([one.header.ImagePositionPatient for one in slices], dtype=float)
    gaps = np.diff([one.place for one in slices])
    step = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0.0
    together = int((gaps <= 1e-3 * step).sum())
    if together:
        told = [word for word in _TELLING if len({tuple(words(one.header, word)) for one in slices}) > 1]
        raise _refusal(
            f"expected one image in each place, but {together + 1} or more of the {len(slices)} images of {series} "
            f"lie in the same{f' (they differ in {told[0]})' if told else ''}",
            "choose a series that is one volume, or take the repeated images out",
            study,
            member,
        )
    if np.ptp(gaps) > _EVEN * gaps.mean():
        missing = int(np.rint(gaps / step - 1).sum())
        reason = f"{missing} missing" if missing > 0 else "they are not evenly spaced"
        raise _refusal(
            f"the slices of {series} are {gaps.min():.4g} to {gaps.max():.4g} mm apart: {reason}",
            "export the whole series again",
            study,
            member,
        )
    span = positions[-1] - positions[0]
    if abs(np.linalg.norm(span) / (slices[-1].place - slices[0].place) - 1) > _ALIGNED:
        raise _refusal(
            f"the slices of {series} are shifted against each other (a tilted gantry?)",
            "resample them onto a straight grid",
            study,
            member,
        )


_TELLING = ("TemporalPositionIdentifier", "EchoTime", "InversionTime", "DiffusionBValue", "ImageType", "TriggerTime")
"""What several volumes in one series differ in."""


def _refusal(message: str, advice: str | None, study: str, member: str) -> StudyError:
    return StudyError(message, study=study, member=member, advice=advice)


def _reason(error: Exception, header: Dataset) -> str:
    lines = without_identity(str(error), header).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__
