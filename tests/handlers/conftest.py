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
"""A cohort of two studies with a head, an enhancing lesion and a scale of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import LoadImaged

from monai_lipcar.data import Study
from monai_lipcar.engines import StudyDataset, StudyEvaluator, collate_study
from monai_lipcar.handlers import ResultWriter
from monai_lipcar.inferers import LIPInferer, OperatorInferer
from monai_lipcar.physics import LinearDoseOperator
from monai_lipcar.problem import AdamSolver

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])
AFFINE[:3, 3] = (-8.0, -8.0, 20.0)

WriteStudy = Callable[..., Study]


@pytest.fixture
def write_study(tmp_path: Path) -> WriteStudy:
    """Write a study whose intensities go up to 140; its low dose is a fifth of the enhancement, with a little noise."""

    def write(study_id: str, members: tuple[str, ...] = ("pre", "low", "high"), broken: str | None = None) -> Study:
        rng = np.random.default_rng(sum(study_id.encode()))
        folder = tmp_path / "data" / study_id
        folder.mkdir(parents=True)
        x, y, _ = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5, np.arange(3), indexing="ij")
        head, lesion = x**2 + y**2 < 13**2, (x - 3) ** 2 + y**2 < 5**2
        pre = 60.0 * head
        high = pre + 80.0 * lesion
        low = np.abs(pre + 0.2 * (high - pre) + rng.normal(0, 1.0, pre.shape))
        if broken is not None:
            {"pre": pre, "low": low, "high": high}[broken][4, 5, 1] = np.nan
        volumes = {"pre": pre, "low": low, "high": high}
        paths = {}
        for name in members:
            paths[name] = folder / f"{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(volumes[name].astype(np.float32), AFFINE), paths[name])
        return Study(study_id, paths)

    return write


SCALE = 200.0
CONFIGURATION = {"alpha": 1e-4, "solver": "paper", "guess": "pre"}


def _run(
    studies: Sequence[Study],
    output_dir: Path,
    configuration: dict[str, Any] | None = None,
    forward: bool = False,
    solver: Any = None,
    inverse: dict[str, Any] | None = None,
    **options: Any,
) -> ResultWriter:
    """What the configs do, up to ``finish``."""
    channels = ["pre", "high"] if forward else ["pre", "low"]
    members = ["pre", "low", "high", "lesion"]
    load = LoadImaged(members, image_only=True, ensure_channel_first=True, allow_missing_keys=True)

    def prepare(data: dict[str, Any]) -> dict[str, Any]:
        data = dict(load(data))
        for name in {"pre", "low", "high"} & data.keys():
            data[name] = data[name] / SCALE
        data["image"] = torch.cat([data[name] for name in channels])
        return {
            **data,
            "scale": SCALE,
            "sigma": 1.0 / SCALE,
            "registration": {"shift_mm": np.float32(0.5)},
            "warnings": ["one slice is dark"],
        }

    def back_to_units(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "pred": data["pred"] * SCALE}

    name = "low_sim" if forward else "high_sim"
    settings = {"bundle": "physics_tv", "output_name": name, "configuration": configuration or CONFIGURATION, **options}
    writer = ResultWriter(output_dir, **settings)  # type: ignore[arg-type]
    inverse = {"alpha": 1e-4, "guess": "pre", "solver": solver or AdamSolver(20), "progress": False, **(inverse or {})}
    StudyEvaluator(
        device="cpu",
        val_data_loader=DataLoader(
            StudyDataset(writer.pending(studies), prepare, required=channels),  # type: ignore[arg-type]
            batch_size=1,
            collate_fn=collate_study,
        ),
        network=LinearDoseOperator(0.2),
        inferer=OperatorInferer() if forward else LIPInferer(**inverse),
        postprocessing=back_to_units,
        val_handlers=[writer],
    ).run()
    return writer


def _load_record(output_dir: Path, study_id: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    text = (output_dir / study_id / "result.json").read_text()
    record: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return record


@pytest.fixture
def run() -> Callable[..., ResultWriter]:
    """Evaluate studies as the configs do."""
    return _run


@pytest.fixture
def load_record() -> Callable[[Path, str], dict[str, Any]]:
    """Read a result.json, which has to be strict JSON."""
    return _load_record
