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
"""The trainings of the four operators, as a list of commands: the bundles' own ``train.json`` with overrides."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from monai_lipcar.errors import LipcarError

from .approaches import OPERATORS
from .cohort import datalist_of
from .settings import REPOSITORY, Settings

__all__ = ["EPOCHS", "Training", "train", "trainings"]

logger = logging.getLogger(__name__)

EPOCHS = {"l2h": 80, "pl2h": 80, "h2l": 80, "ph2l": 80}
OVERRIDES: dict[str, str] = {"registration_policy": "drop", "seed": "0"}


@dataclass(frozen=True)
class Training:
    """One training.

    Args:
        operator: bundle.
        denoise: what is done to the low dose: ``"none"`` or a method.
        folder: where ``model.pt`` and ``training.json`` go.
        command: what is run.
    """

    operator: str
    denoise: str
    folder: Path
    command: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether its weights are there."""
        return (self.folder / "training.json").is_file()


def trainings(settings: Settings, denoiser: str) -> list[Training]:
    """All of them: four operators, on the low dose as it is and after the denoiser."""
    cohort = settings.cohorts[0]
    result = []
    for denoise in ("none", denoiser):
        for operator in OPERATORS:
            folder = settings.output / "training" / f"{operator}-{denoise}"
            config = REPOSITORY / "bundles" / operator / "configs" / "train.json"
            options = {
                "dataset_dir": settings.output / "cohorts" / cohort.anatomy,
                "datalist_file": datalist_of(cohort, settings),
                "output_dir": folder,
                "cache_dir": settings.output / "training" / f"cache-{denoise}",
                "denoise": denoise,
                "epochs": EPOCHS[operator],
                **OVERRIDES,
            }
            command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
            for name, value in options.items():
                command += [f"--{name}", str(value)]
            result.append(Training(operator, denoise, folder, tuple(command)))
    return result


def train(settings: Settings, denoiser: str) -> None:
    """Run the trainings that are not finished; one that was interrupted goes on with its last epoch.

    Raises:
        LipcarError: one of them fails.
    """
    for training in tqdm(trainings(settings, denoiser), desc="trainings"):
        if training.finished:
            continue
        training.folder.mkdir(parents=True, exist_ok=True)
        log = training.folder / "log.txt"
        environment = {**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
        with open(log, "a", encoding="utf-8") as file:
            status = subprocess.run(training.command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
        if status:
            raise LipcarError(f"the training of {training.operator} ({training.denoise}) failed, see {log}")
        logger.info("trained %s (low dose: %s): %s", training.operator, training.denoise, training.folder / "model.pt")
