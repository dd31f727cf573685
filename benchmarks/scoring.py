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
"""Images that no bundle makes, scored as the bundles score theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import Compose, LoadImaged

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.metrics import study_metrics
from monai_lipcar.transforms import ScaleIntensityByReferenced, head_mask

__all__ = ["load_scaled", "score"]

MEMBERS = ("pre", "low", "high")


def load_scaled(study: Path) -> dict[str, Any]:
    """Pre, low, high and where there is one lesion, channel-first on the study's [0, 1] scale, and that ``scale``."""
    members = [name for name in (*MEMBERS, "lesion") if (study / f"{name}.nii.gz").is_file()]
    load = Compose(
        [
            LoadImaged(keys=members, image_only=True, ensure_channel_first=True),
            ScaleIntensityByReferenced(keys=MEMBERS, reference_keys=("pre", "low")),
        ]
    )
    data: dict[str, Any] = load({name: str(study / f"{name}.nii.gz") for name in members})
    return data


def score(images: Mapping[str, torch.Tensor], data: Mapping[str, Any], target: str = "high") -> dict[str, Any]:
    """Metrics of images (1, X, Y, Z) by their names.

    Args:
        images: on the scale of the study.
        data: of :func:`load_scaled`.
        target: ``"high"``, or ``"low"`` for a forward operator.
    """
    affine = data[target].affine
    axis = slice_axis(affine, data[target].shape[1:])

    def slices_first(volume: torch.Tensor) -> torch.Tensor:
        return volume.as_subclass(torch.Tensor)[0].movedim(axis, 0).float().cpu()

    steps = [float(step) for step in affine_to_spacing(affine)]
    spacing = [steps[axis], *(step for other, step in enumerate(steps) if other != axis)]
    forward = target == "low"
    reference = slices_first(data["pre" if forward else "low"]).numpy()
    table = study_metrics(
        {name: slices_first(image) for name, image in images.items()},
        slices_first(data[target]),
        torch.from_numpy(np.ascontiguousarray(head_mask(reference, axis=0))),
        pre=None if forward else slices_first(data["pre"]),
        lesion=slices_first(data["lesion"]) > 0.5 if "lesion" in data else None,
        spacing=spacing,
        target_name=target,
    )
    return {name: {key: value for key, value in row.items() if np.isfinite(value)} for name, row in table.items()}
