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

from monai_lipcar.data.sequence import sequence_told
from monai_lipcar.physics.acquisition import Acquisition

from .header import number, words

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["sequence_of"]


def sequence_of(header: Dataset, known: Mapping[str, Any]) -> tuple[Acquisition | None, str]:
    """Read repetition time, echo time and flip angle, where the header tells the sequence without doubt.

    Args:
        header: of an image; see :func:`~monai_lipcar.dicom.header.frame_headers`.
        known: what headers do not tell: ``dose_fraction``, ``r1``, ``r2``.

    Returns:
        See :func:`~monai_lipcar.data.sequence.sequence_told`.
    """
    repetition, echo, flip = (number(header, name) for name in ("RepetitionTime", "EchoTime", "FlipAngle"))
    return sequence_told(
        words(header, "ScanningSequence"), words(header, "SequenceVariant"), repetition, echo, flip, known
    )
