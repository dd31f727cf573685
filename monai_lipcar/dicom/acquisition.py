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
"""The sequence of a series, from its header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.acquisition import Acquisition

from .header import number, words

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["sequence_of"]


def sequence_of(header: Dataset, known: Mapping[str, Any]) -> tuple[Acquisition | None, str]:
    """Read repetition time, echo time and flip angle, where the header tells the sequence without doubt.

    A spin echo is ScanningSequence SE alone; a spoiled gradient echo is GR alone with SP in SequenceVariant. What else
    there is (inversion recovery as of an MPRAGE, echo planar, gradient echoes that do not say that they are spoiled)
    has another signal equation, or may have.

    Args:
        header: of an image; see :func:`~monai_lipcar.dicom.header.frame_headers`.
        known: what headers do not tell: ``dose_fraction``, ``r1``, ``r2``.

    Returns:
        The acquisition, or None, and what was read or why nothing could be, in words.
    """
    sequence, variant = words(header, "ScanningSequence"), words(header, "SequenceVariant")
    repetition, echo, flip = (number(header, name) for name in ("RepetitionTime", "EchoTime", "FlipAngle"))
    said = f"ScanningSequence {', '.join(sequence) or 'empty'}, SequenceVariant {', '.join(variant) or 'empty'}"
    spoiled = sequence == ["GR"] and "SP" in variant
    if sequence != ["SE"] and not spoiled:
        return None, f"its signal equation is not known from {said}"
    if repetition is None or echo is None or (spoiled and flip is None):
        return None, f"the header lacks RepetitionTime, EchoTime or FlipAngle ({said})"
    values = {"repetition_time_ms": repetition, "echo_time_ms": echo, "flip_angle_deg": flip if spoiled else None}
    try:
        acquisition = Acquisition(**{**known, **values})
    except ConfigurationError as error:
        return None, f"the header is impossible: {error}"
    angle = f", flip angle {flip:g} degrees" if spoiled else ""
    return acquisition, f"{'spoiled gradient' if spoiled else 'spin'} echo, TR {repetition:g} ms, TE {echo:g} ms{angle}"
