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
"""The paper's configuration, ``paper_train.json`` on top of ``train.json``: parsed, and trained with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import SSIMLoss
from monai.networks.nets import VNet
from torch import nn

from monai_lipcar.networks import DoseOperator, SSIML1Loss

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")


def files(operator: str) -> list[str]:
    return [str(BUNDLES / operator / "configs" / name) for name in ("train.json", "paper_train.json")]


def parsed(operator: str, dataset: Path, folder: Path, **options: object) -> ConfigParser:
    given = {"dataset_dir": str(dataset), "output_dir": str(folder), "registration_policy": "none", **options}
    config = {**ConfigParser.load_config_files(files(operator)), **given}
    return ConfigParser({**config, "device": "$torch.device('cpu')"})


def names(parser: ConfigParser, entry: str) -> list[str]:
    return [type(step).__name__ for step in parser.get_parsed_content(entry).transforms]


@pytest.mark.parametrize("operator", OPERATORS)
def test_network_loss_and_schedule_are_the_papers(operator: str, dataset: Path, tmp_path: Path) -> None:
    parser = parsed(operator, dataset, tmp_path)
    network = parser.get_parsed_content("network")
    assert isinstance(network, DoseOperator)
    assert network.skeleton == "none"
    dropout = [module.p for module in network.modules() if isinstance(module, nn.Dropout2d)]
    own = [module.p for module in VNet(spatial_dims=2).modules() if isinstance(module, nn.Dropout3d)]
    assert dropout == own == [0.5] * len(own)
    assert own
    loss = parser.get_parsed_content("loss")
    assert isinstance(loss, SSIML1Loss)
    images = torch.rand(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(loss(*images)) == pytest.approx(float(SSIMLoss(spatial_dims=2)(*images)))
    optimizer, scheduler = (parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    assert isinstance(optimizer, torch.optim.Adam)
    for _ in range(100):
        assert optimizer.param_groups[0]["lr"] == 1e-4
        optimizer.step()
        scheduler.step()
    assert parser.get_parsed_content("train#trainer").state.max_epochs == 80


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_is_done_to_the_data(operator: str, dataset: Path, tmp_path: Path) -> None:
    parser = parsed(operator, dataset, tmp_path)
    plain = ConfigParser({**ConfigParser.load_config_file(files(operator)[0]), "dataset_dir": str(dataset)})
    assert any(name.startswith("Rand") for name in names(plain, "train#preprocessing"))
    assert not any(name.startswith("Rand") for name in names(parser, "train#preprocessing"))
    assert "MatchIntensityd" in names(plain, "volume_preprocessing")
    assert names(parser, "volume_preprocessing") == ["LoadImaged", "ScaleIntensityByReferenced"]
    training = parser.get_parsed_content("train#dataset")
    raw = parser.get_parsed_content("train#dataset")[0]
    assert raw["label"].shape == (1, 256, 256)
    training.set_epoch(7)
    again = training[0]
    assert torch.equal(raw["image"], again["image"])
    assert torch.equal(raw["label"], again["label"])
    # whole: as the slice is stored, with nothing but empty space around it
    training.transform = None
    stored = training[0]
    target = stored["low" if operator.endswith("h2l") else "high"]
    margins = [(256 - side) // 2 for side in target.shape[1:]]
    inside = raw["label"][:, margins[0] : margins[0] + target.shape[1], margins[1] : margins[1] + target.shape[2]]
    assert torch.equal(inside.as_subclass(torch.Tensor), target)
    assert float(raw["label"].sum()) == pytest.approx(float(target.sum()), rel=1e-5)
    (final,) = (step for step in parser["train#handlers"] if step["_target_"].endswith("FinalWeights"))
    assert final["recalibration_batches"] == 0


@pytest.mark.parametrize("operator", ["h2l", "ph2l"])
def test_the_low_dose_is_denoised_only_if_asked(operator: str, dataset: Path, tmp_path: Path) -> None:
    parser = parsed(operator, dataset, tmp_path, denoise="nlm")
    (step,) = (
        step
        for step in parser.get_parsed_content("volume_preprocessing").transforms
        if type(step).__name__ == "DenoiseSlicesd"
    )
    assert step.keys == ("low",)


def test_trained_with(dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files("ph2l"))]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(tmp_path / "out"), "--registration_policy", "none"]
    command += ["--patch_size", "[32,32]", "--batch_size", "4", "--epochs", "2"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["recipe"], record["skeleton"], record["iterations"]) == ("paper", "none", 2)
    assert (record["l1_weight"], record["learning_rate"], record["input_noise"]) == (0.0, 1e-4, 0.0)
    # a recalibration would have started anew, with the one batch of an epoch
    state = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {2}
