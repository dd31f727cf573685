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
"""For the examples beside it: a slice of the sample study, prepared as the bundles do it, and a way to show slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import Compose, Lambdad

from monai_lipcar.data import find_studies, sample_dataset_dir
from monai_lipcar.metrics import psnr, ssim
from monai_lipcar.transforms import (
    CheckRegistrationd,
    LoadMembersd,
    MatchIntensityd,
    ScaleIntensityByReferenced,
    head_mask,
)

DOSE_FRACTION = 0.2
"""Of the sample study."""


@dataclass(frozen=True)
class Slice:
    """A slice on the [0, 1] scale; every tensor is (1, 1, H, W)."""

    pre: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    head: torch.Tensor
    lesion: torch.Tensor

    def score(self, image: torch.Tensor) -> str:
        """SSIM and PSNR in the head against the acquired full dose, for a title."""
        parts = image[0], self.high[0], self.head[0]
        return f"SSIM {ssim(*parts):.3f}, {psnr(*parts):.1f} dB"


@cache
def sample_volumes() -> dict[str, Any]:
    """Five slices of the sample study: registered, matched in intensity, on one scale. Computed once."""
    keys = ["pre", "low", "high"]
    prepare = Compose(
        [
            LoadMembersd([*keys, "lesion"]),
            Lambdad([*keys, "lesion"], lambda volume: volume[..., 1:6]),
            CheckRegistrationd(keys, reference_key="low"),
            MatchIntensityd(["pre", "high"], reference_key="low"),
            ScaleIntensityByReferenced(keys),
        ]
    )
    (study,) = find_studies(sample_dataset_dir())
    volumes: dict[str, Any] = prepare(study.to_dict())
    return volumes


def sample_slice(index: int = 2) -> Slice:
    """One of the five slices, cut to the head."""
    volumes = sample_volumes()
    head = torch.from_numpy(head_mask(volumes["low"].numpy()[0]))[..., index]
    rows, columns = (slice(max(int(where.min()) - 4, 0), int(where.max()) + 5) for where in head.nonzero(as_tuple=True))
    members = ("pre", "low", "high", "lesion")
    pre, low, high, lesion = (volumes[key].as_tensor()[None, :, rows, columns, index] for key in members)
    return Slice(pre, low, high, head[None, None, rows, columns], lesion > 0)


@dataclass(frozen=True)
class Difference:
    """An image to show in colors, from ``-limit`` (blue) to ``limit`` (red)."""

    image: torch.Tensor
    limit: float = 0.1


def show(rows: Sequence[Mapping[str, torch.Tensor | Difference]], top: float | None = None) -> Figure:
    """Draw slices (1, 1, H, W): one mapping from title to image a row, images in one gray window from 0 to ``top``."""
    if top is None:
        images = [image for row in rows for image in row.values() if isinstance(image, torch.Tensor)]
        top = max(float(image.quantile(0.998)) for image in images)
    columns = max(len(row) for row in rows)
    height, width = next(image for image in rows[0].values() if isinstance(image, torch.Tensor)).shape[-2:]
    # shown turned by 90 degrees
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(2.4 * columns, (2.4 * width / height + 0.6) * len(rows)), squeeze=False
    )
    for line, row in zip(axes, rows, strict=True):
        for place in line:
            place.axis("off")
        for place, (title, shown) in zip(line, row.items(), strict=False):
            look: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": top}
            if isinstance(shown, Difference):
                look, shown = {"cmap": "RdBu_r", "vmin": -shown.limit, "vmax": shown.limit}, shown.image
            place.imshow(np.rot90(shown[0, 0].numpy()), interpolation="nearest", **look)
            place.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure
