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
"""File formats of a member, and the faults in them that MONAI's readers pass over."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from monai.utils import optional_import

from monai_lipcar.data.headers import MAX_VOXELS, header_fault, kind_fault, pixels_fault

__all__ = ["SUFFIXES", "find_fault"]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""File formats of a member; a folder is a DICOM series."""
NRRD_SPACES = {"", "left-posterior-superior", "right-anterior-superior", "RAS"}
"""What ``monai.data.NrrdReader`` reads rightly; it takes the coordinates of any other space for RAS."""


def find_fault(path: Path) -> str | None:
    """Look for what a reader would wait for, believe or pass over, with a wrong volume or a wrong affine as the result.

    - What is no file or folder, and headers that promise what their file does not hold, or what no volume can be:
      :func:`~monai_lipcar.data.headers.header_fault`.
    - A folder with several DICOM series: ``ITKReader`` reads the first of them, ``PydicomReader`` mixes them.
    - A DICOM series with missing or repeated slices: both read it as if the slices were evenly spaced.
    - Without itk, MONAI turns to ``PydicomReader``, which gives an identity affine when a position has more digits
      than DICOM's 16 characters allow, and cannot read MHA.
    - NRRD in a space other than LPS and RAS, or with LPS abbreviated: ``NrrdReader`` mirrors it.

    DICOM is looked into only when pydicom is installed.

    Args:
        path: a volume that exists.

    Returns:
        What is wrong and what to do, or None.
    """
    is_file_name = path.name.endswith(SUFFIXES)
    if (is_file_name or not path.is_dir()) and (fault := kind_fault(path)):
        return fault
    if (path.is_dir() or path.suffix == ".mha") and find_spec("itk") is None:
        return "DICOM and MHA are read with the package itk; install it (pip install itk)"
    if path.is_dir():
        return _series_fault(path)
    if is_file_name and (fault := header_fault(path)):
        return fault
    if path.suffix == ".nrrd":
        space = _nrrd_space(path)
        if space not in NRRD_SPACES:
            return f'its space is {space!r}; write it in the space "left-posterior-superior"'
    return None


def _nrrd_space(path: Path) -> str:
    with path.open("rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if not line.strip():
                break  # the header ends at an empty line
            if name.strip().lower() == b"space":
                return value.strip().decode("latin-1")
    return ""


def _series_fault(folder: Path) -> str | None:
    entries = sorted(folder.iterdir())
    for entry in entries:
        # ITK opens all that is there, and would wait for a pipe
        if entry.exists() and not entry.is_dir() and (fault := kind_fault(entry)):
            return f"{entry.name}: {fault}"
    files = [file for file in entries if file.is_file() and not file.name.startswith(".")]
    if not files:
        return "the folder holds no DICOM files; export the series again"
    pydicom, has_pydicom = optional_import("pydicom")
    if not has_pydicom:
        return None
    series: dict[str, str] = {}
    places: list[float] = []
    pixels = 0
    tags = ["SeriesInstanceUID", "SeriesDescription", "ImagePositionPatient", "ImageOrientationPatient"]
    tags += ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
        except (OSError, pydicom.errors.InvalidDicomError):
            continue  # notes and checksums; a damaged slice is the reader's to report
        if "Rows" in header and (fault := pixels_fault(header, file.stat().st_size)):
            return f"{file.name}: {fault}"
        pixels += int(header.get("Rows") or 0) * int(header.get("Columns") or 0)
        if "SeriesInstanceUID" in header:
            series.setdefault(str(header.SeriesInstanceUID), str(header.get("SeriesDescription", "no description")))
        if "ImagePositionPatient" in header and "ImageOrientationPatient" in header:
            orientation = np.asarray(header.ImageOrientationPatient, dtype=float)
            normal = np.cross(orientation[:3], orientation[3:])
            places.append(float(normal @ np.asarray(header.ImagePositionPatient, dtype=float)))
    if not series:
        return "the folder holds no DICOM files; export the series again"
    if len(series) > 1:
        return f"the folder holds {len(series)} DICOM series ({', '.join(series.values())}); keep one of them in it"
    if pixels > MAX_VOXELS:
        return f"expected at most {MAX_VOXELS} voxels, found headers that promise {pixels}; export the series again"
    gaps = np.diff(sorted(places))
    if len(gaps) and np.ptp(gaps) > 0.1 * np.median(gaps):
        return (
            f"the DICOM slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart; "
            "add the missing slices, or take the repeated ones out"
        )
    return None
