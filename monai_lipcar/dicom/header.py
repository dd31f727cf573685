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
"""One header for a slice, whether it is a file of its own or a frame of a multi-frame file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from monai_lipcar.errors import ConfigurationError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["frame_headers", "need_dicom", "number", "one_line", "value_of", "words"]

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_NESTED = ("ReferencedImageSequence", "DerivationImageSequence", "ReferencedRawDataSequence")
"""Functional groups that refer to other objects: nothing of theirs describes the frame itself."""


def need_dicom(packages: Sequence[str] = ("pydicom", "highdicom", "yaml")) -> None:
    """Check that the packages for DICOM are installed.

    Args:
        packages: those that are needed.

    Raises:
        ConfigurationError: one is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"DICOM folders are read with {', '.join(missing)}, which is not installed; pip install monai_lipcar[dicom]"
        )


def frame_headers(header: Dataset) -> list[Dataset]:
    """What a file says of each of its slices, in the words of single-frame images.

    A multi-frame file says what all frames share, and what each has of its own, in functional groups. They are
    unfolded, and what the enhanced MR object calls otherwise is given the classic name as well: ``EchoTime``,
    ``ScanningSequence``, ``SequenceVariant``.

    Args:
        header: a file's data set; its pixels are not needed.

    Returns:
        A data set for each frame, in the file's order; ``[header]`` for a single-frame file.
    """
    if "PerFrameFunctionalGroupsSequence" not in header:
        return [header]
    from pydicom import Dataset

    common = Dataset()
    for element in header:
        if element.keyword not in (*_GROUPS, "PixelData", "DimensionIndexSequence", "DimensionOrganizationSequence"):
            common.add(element)
    shared = header.get("SharedFunctionalGroupsSequence")
    if shared:
        _unfold(shared[0], common)
    frames = []
    for groups in header.PerFrameFunctionalGroupsSequence:
        frame = Dataset()
        frame.update(common)
        _unfold(groups, frame)
        _name_classically(frame)
        frames.append(frame)
    return frames


def _unfold(groups: Dataset, into: Dataset) -> None:
    for group in groups:
        if group.VR == "SQ" and group.keyword not in _NESTED and len(group.value) == 1:
            for element in group.value[0]:
                into.add(element)


def _name_classically(frame: Dataset) -> None:
    if "EchoTime" not in frame and "EffectiveEchoTime" in frame:
        frame.EchoTime = frame.EffectiveEchoTime
    if "ScanningSequence" not in frame and "EchoPulseSequence" in frame:
        echo = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(str(frame.EchoPulseSequence), ["RM"])
        inversion = ["IR"] if frame.get("InversionRecovery") == "YES" else []
        planar = ["EP"] if frame.get("EchoPlanarPulseSequence") == "YES" else []
        frame.ScanningSequence = [*echo, *inversion, *planar]
    if "SequenceVariant" not in frame and "ScanningSequence" in frame:
        variant = ["SK"] if frame.get("SegmentedKSpaceTraversal") not in (None, "SINGLE") else []
        variant += ["SS"] if frame.get("SteadyStatePulseSequence") not in (None, "NONE") else []
        variant += ["SP"] if frame.get("Spoiling") not in (None, "NONE") else []
        frame.SequenceVariant = variant or "NONE"


def value_of(header: Dataset, keyword: str) -> Any:
    """An attribute's value, or None where there is none or it cannot be understood.

    pydicom reads values when they are asked for, and warns of wrong ones by quoting them; a value may be a name.

    Args:
        header: the header.
        keyword: of the attribute.
    """
    from pydicom.config import disable_value_validation

    try:
        with disable_value_validation():
            return header.get(keyword)
    except Exception:
        return None


def number(header: Dataset, keyword: str) -> float | None:
    """A positive number of a header, or None where it does not say one.

    Args:
        header: the header.
        keyword: of the attribute.
    """
    try:
        value = float(value_of(header, keyword))
    except (TypeError, ValueError):
        return None
    return value if 0 < value < float("inf") else None


def one_line(text: str) -> str:
    """Text of a header for messages: without line breaks and other control characters, which damage can make of it.

    Example:
        >>> one_line("1.2.826\\n0.1")
        '1.2.826 0.1'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def words(header: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as text, each on one line; empty where there is none.

    Args:
        header: the header.
        keyword: of the attribute.
    """
    value = value_of(header, keyword)
    if value is None or value == "":
        return []
    several = isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue"
    return [one_line(str(one)) for one in (value if several else [value])]
