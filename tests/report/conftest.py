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
"""A finished result, to report on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.data import Study
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.handlers import input_hashes
from monai_lipcar.transforms import MatchIntensityd, ScaleIntensityByReference

AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])
Finish = Callable[..., Study]


def volumes() -> dict[str, np.ndarray]:
    """A head whose block of 6x6 pixels enhances from 60 over 80 to 160."""
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5, np.arange(4), indexing="ij")
    pre = 60.0 * (x**2 + y**2 < 16**2) + rng.uniform(0, 1, x.shape)
    high = pre.copy()
    high[10:16, 20:26, 2] += 100.0
    return {"pre": pre, "low": pre + 0.2 * (high - pre), "high": high}


@pytest.fixture
def finish(tmp_path: Path) -> Finish:
    """Write a study and the finished result of a bundle in ``out``."""

    def write(
        study_id: str = "sub-01",
        members: tuple[str, ...] = ("pre", "low", "high"),
        output_name: str = "high_sim",
        residual: bool = True,
        **changes: Any,
    ) -> Study:
        folder = tmp_path / "data" / study_id
        folder.mkdir(parents=True)
        content = volumes()
        for name in members:
            nib.save(nib.Nifti1Image(content[name].astype(np.float32), AFFINE), folder / f"{name}.nii.gz")
        inputs = Study(study_id, {name: folder / f"{name}.nii.gz" for name in members})
        forward = output_name == "low_sim"
        reference, *others = ("pre", "low") if forward else ("low", "pre")
        matched = {name: torch.from_numpy(content[name])[None] for name in members}
        for name in set(others) & set(members):
            matched[name] = MatchIntensityd(name, reference)(matched)[name]
        references = [matched[name] for name in ("pre", "low") if name in matched]
        simulated = content["high" if output_name == "high_sim" else "low"] + 5.0
        results = {output_name: simulated} | ({"residual": simulated - simulated + 0.5} if residual else {})
        record: dict[str, Any] = {
            "schema_version": "1.4",
            "notice": "simulated image, for research use only, not for diagnosis",
            "study_id": study_id,
            "bundle": {
                "name": "ph2l" if forward else "physics_tv" if "pre" in members else "h2l_tv",
                "version": "0.9",
            },
            "versions": {"monai_lipcar": "0.1.0"},
            "device": "cpu",
            # a disk looks the same however it is rotated: nothing to check the registration by
            "configuration": {"dose_fraction": 0.2, "alpha": 0.002, "registration_policy": "none"},
            "inputs": {
                name: {**entry, "path": f"../data/{study_id}/{name}.nii.gz"}
                for name, entry in input_hashes(inputs).items()
            },
            "scale": ScaleIntensityByReference().scale_of(references),
            "sigma": 0.00712,
            "registration": {
                "reference": "low",
                "tolerance_mm": 0.75,
                "tolerance_deg": 0.5,
                "shift_mm": {"pre": 0.123},
                "rotation_deg": {"pre": 0.456},
                "registered": {"pre": True},
                "registered_mm": {"pre": 2.3},
                "registered_deg": {"pre": 1.0},
                "refined": {"pre": True},
                "left_mm": {"pre": 0.04},
                "similarity": {"pre": [0.91, None, 0.99, 0.95]},
            },
            "history": {"iterations": [0, 1, 2], "objective": [[3.0, 2.0, 1.0], [2.0, 1.0], [1.0], [4.0, 3.0, 2.9]]},
            "verdict": {
                "level": "explained",
                "reasons": ["as it should be"],
                "measures": {"residual_head": 0.9, "residual_window": 1.2},
                "places": [],
                "slices": {"residual_head": [0.9] * 4, "residual_window": [1.2] * 4},
            },
            "warnings": [],
            "seconds": 12.345,
            **changes,
        }
        tensors = {name: MetaTensor(torch.from_numpy(value)[None], affine=AFFINE) for name, value in results.items()}
        StudyOutput(tmp_path / "out", study_id).write(tensors, record)
        return inputs

    return write
