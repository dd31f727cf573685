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
"""Finished trainings are put into their bundles: weights, checksum and what the card says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.paper.settings import REPOSITORY
from benchmarks.paper.shipping import ship, training_section
from benchmarks.paper.training import Training
from monai_lipcar.errors import LipcarError
from monai_lipcar.networks import file_sha256

RECORD = {
    "skeleton": "kept",
    "l1_weight": 5.0,
    "learning_rate": 0.001,
    "batch_size": 16,
    "patch_size": [128, 128],
    "precision": "float32",
    "seed": 0,
    "epochs": 1,
    "iterations": 557,
    "dose_fraction": 0.2,
    "dose_fractions": [0.08, 0.349],
    "training": ["fixed-random-0001", "fixed-rat-0001", "fixed-rat-0002", "vary-random-0002"],
    "validation": {"val_psnr": 56.214, "val_ssim": 0.99812},
    "slices_per_second": 4.1,
}
CURVE = [{"epoch": 1, "loss": 0.01234}]


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    """The weights of a bundle as if they had just been trained."""
    folder = tmp_path / "training"
    folder.mkdir()
    shutil.copyfile(REPOSITORY / "bundles" / "ph2l" / "models" / "model.pt", folder / "model.pt")
    sha256 = file_sha256(folder / "model.pt")
    (folder / "training.json").write_text(json.dumps({**RECORD, "sha256": sha256}))
    (folder / "curve.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in CURVE))
    (folder / "datalist.json").write_text(json.dumps({"training": [], "validation": [{}, {}, {}]}))
    return Training("ph2l", "none", folder, ())


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    shutil.copytree(REPOSITORY / "bundles" / "ph2l", folder / "ph2l")
    (folder / "ph2l" / "models" / "model.pt").write_bytes(b"older")
    return folder


def test_weights_checksum_and_card_change_and_nothing_else(trained: Training, bundles: Path) -> None:
    card, metadata = bundles / "ph2l" / "docs" / "README.md", bundles / "ph2l" / "configs" / "metadata.json"
    before, described = card.read_text(), json.loads(metadata.read_text())
    ship([trained], bundles)
    sha256 = file_sha256(bundles / "ph2l" / "models" / "model.pt")
    assert sha256 == file_sha256(trained.folder / "model.pt")
    described.pop("dose_fraction", None)
    changed = {"weights_sha256": {"models/model.pt": sha256}, "dose_fractions": [0.08, 0.349]}
    assert json.loads(metadata.read_text()) == {**described, **changed}
    after = card.read_text()
    assert after.split("\n## Training\n")[0] == before.split("\n## Training\n")[0]
    assert after.split("\n## Performance\n")[1] == before.split("\n## Performance\n")[1]
    assert after.count(sha256) == 1
    assert "Validation is over whole slices of 3 studies" in after


def test_what_the_card_says_is_what_was_recorded() -> None:
    text = training_section("ph2l", {**RECORD, "sha256": "abc"}, CURVE, 13)
    assert "on the `kept` skeleton, SSIM + 5 L1, Adam 0.001" in text
    assert "float32, seed 0, **1 epoch (557 steps)**" in text
    assert "dose fractions 0.08 to 0.35, without noise and displacement" in text
    assert (
        ": 1 `random`, 2 `rat` of the scanner that the configuration names, 1 `random` of scanners, agents and" in text
    )
    assert "| 1 | 0.0123 |  |  |" in text
    assert "| final, batch normalization recalibrated |  | 56.21 | 0.9981 |" in text


def test_of_one_scanner_no_others_are_told() -> None:
    record = {**RECORD, "sha256": "abc", "training": ["fixed-rat-0001"], "dose_fractions": [0.2, 0.2]}
    text = training_section("h2l", record, CURVE, 13)
    assert "dose fraction 0.2," in text
    assert "scanners, agents" not in text


def test_an_unfinished_or_damaged_training_does_not_ship(trained: Training, bundles: Path) -> None:
    (trained.folder / "model.pt").write_bytes(b"damaged")
    with pytest.raises(LipcarError, match="is not what .* says; train again"):
        ship([trained], bundles)
    (trained.folder / "training.json").unlink()
    with pytest.raises(LipcarError, match="the training of ph2l is not finished"):
        ship([trained], bundles)
    assert (bundles / "ph2l" / "models" / "model.pt").read_bytes() == b"older"
