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
"""The volumes of a finished result that go into other formats: the image, its residual, its enhancement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_lipcar.bundle import prepare_again
from monai_lipcar.data import Study

__all__ = ["EXTRA_VOLUMES", "result_volumes"]

logger = logging.getLogger(__name__)

EXTRA_VOLUMES = ("residual", "enhancement")
"""Volumes that are written on demand."""


def result_volumes(
    study: Study, record: Mapping[str, Any], folder: Path, also: Sequence[str] = ()
) -> dict[str, MetaTensor]:
    """Load the volumes of a finished result.

    Args:
        study: the inputs.
        record: content of its ``result.json``.
        folder: of the result.
        also: ``"residual"``, what the result does not explain, and ``"enhancement"``, the simulated high dose minus the
            pre-dose image as it was registered and matched for the computation. What the result does not have is left
            out, with a warning.

    Returns:
        ``"high_sim"``, or ``"low_sim"`` of a forward operator, and the others by their names: (1, X, Y, Z).

    Raises:
        StudyError: the inputs cannot be prepared any more.
    """
    load = LoadImage(image_only=True, ensure_channel_first=True)
    forward = (folder / "low_sim.nii.gz").is_file()
    name = "low_sim" if forward else "high_sim"
    volumes: dict[str, MetaTensor] = {name: load(folder / f"{name}.nii.gz")}
    if "residual" in also:
        if (folder / "residual.nii.gz").is_file():
            volumes["residual"] = load(folder / "residual.nii.gz")
        else:
            logger.warning("study %s: there is no residual; the bundle solves no inverse problem", study.study_id)
    if "enhancement" in also:
        prepared = {} if forward else prepare_again(study, record)
        if "pre" in prepared:
            pre = torch.as_tensor(np.asarray(prepared["pre"])) * float(prepared["scale"])
            simulated = volumes["high_sim"]
            volumes["enhancement"] = MetaTensor(simulated.as_tensor() - pre, affine=simulated.affine)
        else:
            logger.warning("study %s: there is no enhancement without high dose and pre-dose image", study.study_id)
    return volumes
