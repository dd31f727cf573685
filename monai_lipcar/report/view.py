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
"""What is shown of a study: its inputs as the computation used them, its result, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.physics import linear_extrapolation

from .figure import Panel, best_slice

__all__ = ["StudyView", "view_study"]

_RESIDUAL_LIMIT = 4.0


@dataclass(frozen=True)
class StudyView:
    """The volumes of a finished study, on one grid and in scanner units.

    Args:
        rows: panels, in rows.
        images: ``pre``, ``low``, ``high`` where they are, and ``simulated``.
        lesion: mask, where one is given that marks something.
        index: the slice that shows most: that with the largest lesion, or else the one that enhances most.
        axis: slice axis.
        affine: of all volumes.
    """

    rows: list[list[Panel]]
    images: dict[str, np.ndarray]
    lesion: np.ndarray | None
    index: int
    axis: int
    affine: np.ndarray

    @property
    def slices(self) -> int:
        """Number of slices."""
        return int(self.images["simulated"].shape[self.axis])


def view_study(prepared: Mapping[str, Any], folder: Path, record: Mapping[str, Any]) -> StudyView:
    """Collect what is shown of a study.

    Args:
        prepared: its inputs, prepared as for the computation.
        folder: of its result.
        record: of its result.

    Returns:
        Volumes and panels.
    """
    load = LoadImage(image_only=True, ensure_channel_first=True)
    members: dict[str, MetaTensor] = {name: prepared[name] for name in ("pre", "low", "high") if name in prepared}
    scale = float(prepared["scale"])
    images = {name: np.asarray(volume)[0] * scale for name, volume in members.items()}
    forward = (folder / "low_sim.nii.gz").is_file()
    reference = members[("pre" if "pre" in members else "high") if forward else "low"]
    images["simulated"] = np.asarray(load(folder / ("low_sim.nii.gz" if forward else "high_sim.nii.gz")))[0]
    residual_file = folder / "residual.nii.gz"
    residual = np.asarray(load(residual_file))[0] if residual_file.is_file() else None
    affine = np.asarray(reference.affine)
    axis = slice_axis(affine, images["simulated"].shape)
    lesion = np.asarray(prepared["lesion"])[0] > 0.5 if "lesion" in prepared else None
    if lesion is not None and (lesion.shape != images["simulated"].shape or not lesion.any()):
        lesion = None
    rows = [_images(images, record, forward), _differences(images, residual, record, scale, forward)]
    index = _slice_to_show(images, lesion, axis, forward)
    return StudyView([row for row in rows if row], images, lesion, index, axis, affine)


def _images(images: Mapping[str, np.ndarray], record: Mapping[str, Any], forward: bool) -> list[Panel]:
    metrics = record.get("metrics") or {}

    def note(image: str) -> str:
        row = metrics.get(image, {})
        return f"SSIM {row['ssim_head']:.3f}, {row['psnr_head']:.1f} dB" if "ssim_head" in row else ""

    row = []
    pre, target = images.get("pre"), images.get("low" if forward else "high")
    if pre is not None:
        row.append(Panel("pre-dose", pre))
    if forward:
        row.append(Panel("high dose", images["high"], note=note("high")))
        row.append(Panel("simulated low dose", images["simulated"], note=note("simulated")))
    else:
        row.append(Panel("low dose (observed)", images["low"], note=note("low")))
        if pre is not None:
            fraction = float(record.get("configuration", {}).get("dose_fraction", 0.2))
            linear = _linear(pre, images["low"], fraction)
            row.append(Panel("linear extrapolation", linear, note=note("linear_extrapolation"), window=False))
        row.append(Panel("simulated high dose", images["simulated"], note=note("simulated")))
    if target is not None:
        row.append(Panel(f"acquired {'low' if forward else 'high'} dose", target))
    return row


def _differences(
    images: Mapping[str, np.ndarray],
    residual: np.ndarray | None,
    record: Mapping[str, Any],
    scale: float,
    forward: bool,
) -> list[Panel]:
    row = []
    simulated, pre, target = images["simulated"], images.get("pre"), images.get("low" if forward else "high")
    if pre is not None:
        row.append(Panel("simulated enhancement", simulated - pre, "difference", "enhancement"))
        if target is not None:
            row.append(Panel("acquired enhancement", target - pre, "difference", "enhancement"))
    if target is not None:
        row.append(Panel("error: simulated - acquired", simulated - target, "difference", "enhancement"))
    if residual is not None:
        sigma = record.get("sigma")
        if sigma:
            relative = residual / (sigma * scale)
            title = "residual over noise level"
            row.append(Panel(title, relative, "difference", "residual", limit=_RESIDUAL_LIMIT, unit="sigma"))
        else:
            row.append(Panel("residual: not explained", residual, "difference", "residual"))
    return row


def _slice_to_show(images: Mapping[str, np.ndarray], lesion: np.ndarray | None, axis: int, forward: bool) -> int:
    if lesion is not None:
        return int(np.argmax(lesion.sum(axis=tuple(other for other in range(3) if other != axis))))
    if "pre" not in images:
        return best_slice(images["simulated"], axis)
    full_dose = images.get("high" if forward else "low", images["simulated"])
    return best_slice(full_dose - images["pre"], axis)


def _linear(pre: np.ndarray, low: np.ndarray, fraction: float) -> np.ndarray:
    return linear_extrapolation(torch.from_numpy(pre), torch.from_numpy(low), fraction).numpy()
