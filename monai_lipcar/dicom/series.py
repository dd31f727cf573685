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
"""DICOM series: what a folder holds, whatever its files are called."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from monai_lipcar.errors import ConfigurationError

from .header import frame_headers, need_dicom, number, one_line, words
from .identity import without_identity

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Series", "scan_folder"]

logger = logging.getLogger(__name__)

_DAMAGED = "damaged DICOM images"


@dataclass(frozen=True)
class Series:
    """The images of one series.

    Args:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        files: one for each instance, by name; copies of an instance are left out.
        instances: SOPInstanceUID of each file.
        header: of the first image, unfolded by :func:`~monai_lipcar.dicom.header.frame_headers`.
        frames: number of images, which is that of the files unless they are multi-frame.
        acquired: date and time when the acquisition began as sortable text; empty where no header says.
        damaged: number of images in the folders of its files that could not be read: they may be slices of it.
    """

    uid: str
    study_uid: str
    files: tuple[Path, ...]
    instances: tuple[str, ...]
    header: Dataset
    frames: int
    acquired: str = ""
    damaged: int = 0

    @property
    def name(self) -> str:
        """Number and description, as messages begin to name the series."""
        number = words(self.header, "SeriesNumber")
        return f'series {number[0] + " " if number else ""}"{self.description}"'

    @property
    def description(self) -> str:
        """SeriesDescription or ProtocolName, without the patient's name and number."""
        text = " ".join(words(self.header, "SeriesDescription") or words(self.header, "ProtocolName"))
        return without_identity(text, self.header) or "no description"

    def __str__(self) -> str:
        """How messages name the series."""
        moment = re.match(r"\d{8}(\d\d)(\d\d)(\d\d)", self.acquired)
        time = f", {':'.join(moment.groups())}" if moment else ""
        images = f"{self.frames} image{'' if self.frames == 1 else 's'}"
        return f"{self.name} ({images}{time}, UID {one_line(self.uid)})"


def scan_folder(folder: str | Path) -> list[Series]:
    """Find the image series in a folder and the folders below it.

    Files are told by their content, not by their names. Those that are not DICOM, DICOM objects without images, and
    damaged images are passed over; a line in the log says how many. Symbolic links to folders are not followed.

    Args:
        folder: where to look.

    Returns:
        The series, in the order of their numbers.

    Raises:
        ConfigurationError: the folder cannot be read, or the packages for DICOM are not installed.
    """
    need_dicom()
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigurationError(f"{root} is not a folder; expected a folder of DICOM files or a dataset folder")
    found: dict[str, dict[str, tuple[Path, str, int]]] = {}
    first: dict[str, Dataset] = {}
    ignored: dict[str, int] = {}
    damaged: dict[Path, int] = {}
    copies = 0
    for file in tqdm(sorted(_files(root)), desc="reading headers", unit="file", leave=False, disable=None):
        header = _read_header(file)
        if isinstance(header, str):
            ignored[header] = ignored.get(header, 0) + 1
            if header == _DAMAGED:
                damaged[file.parent] = damaged.get(file.parent, 0) + 1
            continue
        uid, instance = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        first.setdefault(uid, header)
        copies += instance in found.setdefault(uid, {})
        found[uid].setdefault(instance, (file, _acquired(header), int(number(header, "NumberOfFrames") or 1)))
    for reason, count in sorted(ignored.items()):
        level = logging.WARNING if reason == _DAMAGED else logging.INFO
        logger.log(level, "%d file%s ignored: %s", count, "" if count == 1 else "s", reason)
    if copies:
        logger.info("%d file%s ignored: further copies of an image", copies, "" if copies == 1 else "s")
    series = [_series(first[uid], instances, damaged) for uid, instances in found.items()]
    return sorted(series, key=lambda one: (one.study_uid, int(number(one.header, "SeriesNumber") or 0), one.uid))


def _files(root: Path) -> Iterable[Path]:
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield Path(place) / name


def _read_header(file: Path) -> Dataset | str:
    """The header of an image, or why the file is none."""
    import pydicom

    try:
        if not file.is_file():
            return "not regular files"
        # no warnings about values: they quote them, and a value may be a patient's name
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            kind = pydicom.uid.UID(str(header.get("SOPClassUID", ""))).name
            return _DAMAGED if kind.endswith("Image Storage") else "DICOM objects without an image"
        missing = [name for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID") if not header.get(name)]
        return f"DICOM images without {missing[0]}" if missing else frame_headers(header)[0]
    except pydicom.errors.InvalidDicomError:
        return "not DICOM"
    except Exception:
        # a damaged header can fail anywhere in the parser; which file it was is not said, names may tell patients
        return _DAMAGED


def _acquired(header: Dataset) -> str:
    if moment := words(header, "AcquisitionDateTime"):
        return moment[0]
    times = [time for kind in ("Acquisition", "Series", "Content") for time in words(header, f"{kind}Time")[:1]]
    dates = [date for kind in ("Acquisition", "Series", "Study") for date in words(header, f"{kind}Date")[:1]]
    return dates[0] + times[0] if dates and times else ""


def _series(header: Dataset, instances: dict[str, tuple[Path, str, int]], damaged: dict[Path, int]) -> Series:
    files, times, frames = zip(*instances.values(), strict=True)
    return Series(
        str(header.SeriesInstanceUID),
        str(header.StudyInstanceUID),
        files,
        tuple(instances),
        header,
        sum(frames),
        min((time for time in times if time), default=""),
        sum(damaged.get(folder, 0) for folder in {file.parent for file in files}),
    )
