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
"""Lossless JPEG, the most common compression in archives, which pydicom itself does not decode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["decode"]


def decode(image: Dataset, file: Path) -> None:
    """Replace the pixels of a single-frame image by uncompressed ones, where pydicom has no decoder for them.

    pydicom's plugins for lossless JPEG are pylibjpeg-libjpeg, whose license is the GPL, and python-gdcm, a second copy
    of what is in ITK already; where one is installed, pydicom uses it. Otherwise ITK reads these images. It applies the
    rescale slope and intercept, which is undone here, as they may differ from slice to slice.

    Args:
        image: the data set as pydicom read it, changed in place.
        file: where it was read from.
    """
    import itk
    from pydicom.pixels import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = image.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or get_decoder(syntax).is_available:
        return
    values = np.asarray(itk.array_from_image(itk.imread(str(file)))).reshape(image.Rows, image.Columns)
    slope, intercept = float(image.get("RescaleSlope") or 1), float(image.get("RescaleIntercept") or 0)
    kind = f"<{'i' if image.PixelRepresentation else 'u'}{image.BitsAllocated // 8}"
    image.PixelData = np.rint((values - intercept) / slope).astype(kind).tobytes()
    image["PixelData"].is_undefined_length = False
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
