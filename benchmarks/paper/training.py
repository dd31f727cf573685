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
"""The trainings of the operators, as a list of commands: the bundles' own ``train.json`` with overrides.

Those that are to be as the paper's have the bundles' ``paper_train.json`` on top.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from monai_lipcar.errors import LipcarError

from . import training_cohort
from .cohort import datalist_of
from .settings import OPERATORS, REPOSITORY, Settings

__all__ = ["EPOCHS", "Training", "folder_of", "train", "trainings"]

logger = logging.getLogger(__name__)

EPOCHS = {"ph2l": 1, "pl2h": 2, "h2l": 3, "l2h": 3}
"""Of the operators that the training stage makes."""
KINDS = {"ph2l": "forward", "h2l": "forward", "pl2h": "end_to_end", "l2h": "end_to_end"}
OVERRIDES: dict[str, dict[str, str]] = {
    # targets that lie still and have one gain: there is nothing to check or to match
    "train": {"registration_policy": "none", "match_intensity": "false", "seed": "0"},
    "paper": {"registration_policy": "drop", "seed": "0"},
}


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
    """All of them.

    With ``weights="train"`` those of the shipped operators, on the training cohort. With ``"paper"`` the paper's: its
    whole configuration, on the 47 rats that are not tested on, on the low dose as it is and after the denoiser.
    """
    if settings.weights != "paper":
        return [
            _training(settings, operator, "none", _cohort(settings, KINDS[operator]) / "datalist.json", epochs)
            for operator, epochs in EPOCHS.items()
        ]
    datalist = datalist_of(settings.cohorts[0], settings)
    return [
        _training(settings, operator, denoise, datalist) for denoise in ("none", denoiser) for operator in OPERATORS
    ]


def folder_of(settings: Settings, operator: str, denoise: str) -> Path:
    """Where a training writes."""
    return settings.output / f"training-{settings.weights}" / f"{operator}-{denoise}"


def _cohort(settings: Settings, kind: str) -> Path:
    """Where the training studies of a kind of operator are."""
    return settings.output / "cohorts" / f"training-{kind}"


def _training(settings: Settings, operator: str, denoise: str, datalist: Path, epochs: int | None = None) -> Training:
    folder = folder_of(settings, operator, denoise)
    names = ("train.json", "paper_train.json") if settings.weights == "paper" else ("train.json",)
    files = [str(REPOSITORY / "bundles" / operator / "configs" / name) for name in names]
    options = {
        "dataset_dir": datalist.parent,
        "datalist_file": datalist,
        "output_dir": folder,
        "cache_dir": folder.parent / f"cache-{denoise}",
        "denoise": denoise,
        "val_interval": "@epochs",
        **({} if epochs is None else {"epochs": epochs}),
        **OVERRIDES[settings.weights],
    }
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return Training(operator, denoise, folder, tuple(command))


def train(settings: Settings, denoiser: str) -> None:
    """Run the trainings that are not finished; one that was interrupted goes on with its last epoch.

    Raises:
        LipcarError: one of them fails.
    """
    if settings.weights == "train":
        for kind in dict.fromkeys(KINDS.values()):
            training_cohort.write(_cohort(settings, kind), kind)
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
