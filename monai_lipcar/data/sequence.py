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
"""The sequence of an examination, from what a header or a sidecar says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.acquisition import Acquisition

__all__ = ["sequence_told"]


def sequence_told(
    sequence: Sequence[str],
    variant: Sequence[str],
    repetition_time_ms: float | None,
    echo_time_ms: float | None,
    flip_angle_deg: float | None,
    known: Mapping[str, Any],
    place: str = "header",
) -> tuple[Acquisition | None, str]:
    """The acquisition, where the sequence is told without doubt.

    A spin echo is ScanningSequence SE alone; a spoiled gradient echo is GR alone with SP in SequenceVariant. What else
    there is (inversion recovery as of an MPRAGE, echo planar, gradient echoes that do not say that they are spoiled)
    has another signal equation, or may have.

    Args:
        sequence: ScanningSequence, in DICOM's words.
        variant: SequenceVariant.
        repetition_time_ms, echo_time_ms, flip_angle_deg: as they are told, or None.
        known: what is told nowhere: ``dose_fraction``, ``r1``, ``r2``.
        place: what told it, for the words.

    Returns:
        The acquisition, or None, and what was told or why nothing can be made of it, in words.

    Example:
        >>> sequence_told(["SE"], [], 360.0, 5.51, 90.0, {"dose_fraction": 0.2})[1]
        'spin echo, TR 360 ms, TE 5.51 ms'
    """
    said = f"ScanningSequence {', '.join(sequence) or 'empty'}, SequenceVariant {', '.join(variant) or 'empty'}"
    spoiled = [*sequence] == ["GR"] and "SP" in variant
    if [*sequence] != ["SE"] and not spoiled:
        return None, f"its signal equation is not known from {said}"
    if repetition_time_ms is None or echo_time_ms is None or (spoiled and flip_angle_deg is None):
        return None, f"the {place} lacks RepetitionTime, EchoTime or FlipAngle ({said})"
    values = {
        "repetition_time_ms": repetition_time_ms,
        "echo_time_ms": echo_time_ms,
        "flip_angle_deg": flip_angle_deg if spoiled else None,
    }
    try:
        acquisition = Acquisition(**{**known, **values})
    except ConfigurationError as error:
        return None, f"the {place} is impossible: {error}"
    angle = f", flip angle {flip_angle_deg:g} degrees" if spoiled else ""
    name = "spoiled gradient" if spoiled else "spin"
    return acquisition, f"{name} echo, TR {repetition_time_ms:g} ms, TE {echo_time_ms:g} ms{angle}"
