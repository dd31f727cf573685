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
"""Low doses for examinations that have none: a dataset of pre and high becomes one of pre, low and high."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from tqdm import tqdm

from monai_lipcar.data import explain_failure, find_studies
from monai_lipcar.data.output import refuse_input_folders, write_volume
from monai_lipcar.errors import StudyError
from monai_lipcar.transforms import CheckRegistrationd, MatchIntensityd, SimulateLowDosed

__all__ = ["simulate_low_doses"]


def simulate_low_doses(
    dataset_dir: str | Path,
    out_dir: str | Path,
    dose_fraction: float = 0.2,
    noise_level: float = 0.01,
    seed: int = 0,
    registration_policy: str = "register",
    field_mm: float | None = 20.0,
) -> tuple[list[str], list[StudyError]]:
    """Write a dataset with a simulated low dose, ``pre`` registered and matched in intensity to ``high``.

    Studies that are there already are kept.

    Args:
        dataset_dir: dataset folder with ``pre`` and ``high``.
        out_dir: dataset folder to write, another one than ``dataset_dir``.
        dose_fraction: low dose over full dose.
        noise_level: see :class:`~monai_lipcar.transforms.SimulateLowDosed`.
        seed: of the noise.
        registration_policy: what to do about pairs that do not lie on each other, see
            :class:`~monai_lipcar.transforms.CheckRegistrationd`.
        field_mm: smoothness of the gain field between the two acquisitions (two coils, two sessions), see
            :class:`~monai_lipcar.transforms.MatchIntensityd`; None matches one gain.

    Returns:
        Ids of the studies that are in ``out_dir`` now, and the errors of the others.

    Raises:
        ConfigurationError: ``out_dir`` is the dataset itself or lies in it, or cannot be written to.
    """
    out = Path(out_dir)
    members = ("pre", "high")
    studies = find_studies(dataset_dir, members)
    refuse_input_folders(out, studies, dataset_dir)
    transform = Compose(
        [
            LoadImaged(keys=members, image_only=True, ensure_channel_first=True),
            CheckRegistrationd(keys=members, reference_key="high", policy=registration_policy),
            MatchIntensityd(keys="pre", reference_key="high", field_mm=field_mm),
            SimulateLowDosed(dose_fraction=dose_fraction, noise_level=noise_level, seed=seed),
        ]
    )
    done, failures = [], []
    for study in tqdm(studies, desc="simulating", unit="study"):
        try:
            if not (out / study.study_id).is_dir():
                study.check(members)
                data = transform(study.to_dict())
                volumes = {name: data[name] for name in ("pre", "low", "high")}
                _write(out / study.study_id, volumes, study.members.get("lesion"))
            done.append(study.study_id)
        except Exception as error:
            failures.append(explain_failure(study, error))
    return done, failures


def _write(folder: Path, volumes: dict[str, MetaTensor], lesion: Path | None) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, volume in volumes.items():
            write_volume(volume, partial / f"{name}.nii.gz")
        if lesion is not None:
            (shutil.copytree if lesion.is_dir() else shutil.copy)(lesion, partial / lesion.name)
        os.replace(partial, folder)
    except OSError as error:
        raise StudyError(
            f"the study cannot be written to {folder} ({error.strerror or error})",
            study=folder.name,
            advice="free space or choose another folder, then run again: finished studies are kept",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
