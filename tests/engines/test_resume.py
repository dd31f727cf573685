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
"""What a training continues from, and what it refuses to continue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_lipcar.engines import latest_checkpoint, resume_from
from monai_lipcar.errors import ConfigurationError

SETTINGS: dict[str, Any] = {
    "operator": "ph2l",
    "dataset": "/data/cohort",
    "training": [f"sub-{number:02d}" for number in range(10)],
    "epochs": 80,
    "batch_size": 16,
    "patch_size": (128, 128),
    "amp": True,
    "nested_options": {},
}


def _interrupted(folder: Path) -> str:
    """A training that has reached its first checkpoint."""
    assert resume_from(folder, True, SETTINGS) is None
    torch.save({}, folder / "checkpoint_epoch=1.pt")
    return str(folder / "checkpoint_epoch=1.pt")


def test_latest_checkpoint_counts_epochs_as_numbers(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None
    for name in ("checkpoint_epoch=2.pt", "checkpoint_epoch=10.pt", "checkpoint_epoch=9.pt", "model.pt"):
        torch.save({}, tmp_path / name)
    (tmp_path / "checkpoint_epoch=11.pt.tmp").touch()
    (tmp_path / "checkpoint_epoch=best.pt").touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint_epoch=10.pt")


def test_a_checkpoint_cut_short_is_left_out(tmp_path: Path) -> None:
    for epoch in (1, 2):
        torch.save({"weight": torch.zeros(100)}, tmp_path / f"checkpoint_epoch={epoch}.pt")
    whole = (tmp_path / "checkpoint_epoch=2.pt").read_bytes()
    (tmp_path / "checkpoint_epoch=2.pt").write_bytes(whole[: len(whole) // 2])
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint_epoch=1.pt")


def test_the_same_settings_continue(tmp_path: Path) -> None:
    checkpoint = _interrupted(tmp_path / "new" / "folder")
    assert json.loads((tmp_path / "new" / "folder" / "configuration.json").read_text())["batch_size"] == 16
    assert resume_from(tmp_path / "new" / "folder", True, dict(SETTINGS)) == checkpoint


def test_settings_of_a_training_without_checkpoint_are_replaced(tmp_path: Path) -> None:
    resume_from(tmp_path, True, SETTINGS)
    assert resume_from(tmp_path, True, {**SETTINGS, "batch_size": 8}) is None
    assert json.loads((tmp_path / "configuration.json").read_text())["batch_size"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 8},
            "with other settings: batch_size is 16 there, 8 here. Give the settings it was started with",
        ),
        ({"operator": "h2l", "amp": False}, "operator is 'ph2l' there, 'h2l' here; amp is True there, False here"),
        ({"patch_size": [64, 64]}, r"patch_size is \[128, 128\] there, \[64, 64\] here"),
        (
            {"epochs": 100},
            "epochs is 80 there, 100 here .their number is fixed: the learning rate falls over all of them",
        ),
        (
            {"training": ["sub-00", "sub-x"]},
            "training has 10 entries there, 2 here .sub-x new, sub-01, sub-02, sub-03 gone",
        ),
        ({"nested_options": {"train::prob": 1}}, "nested_options is {} there, {'train::prob': 1} here"),
        ({"later_setting": 3}, "later_setting is None there, 3 here"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    _interrupted(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        resume_from(tmp_path, True, {**SETTINGS, **change})
    # and what is there stays
    assert resume_from(tmp_path, True, SETTINGS) is not None


def test_checkpoints_of_an_earlier_version(tmp_path: Path) -> None:
    checkpoint = _interrupted(tmp_path)
    (tmp_path / "configuration.json").unlink()
    with pytest.raises(
        ConfigurationError, match=f"holds checkpoints but no configuration.json.*--checkpoint '{checkpoint}'"
    ):
        resume_from(tmp_path, True, SETTINGS)
    (tmp_path / "configuration.json").write_text("{")
    with pytest.raises(ConfigurationError, match="configuration.json cannot be read .Expecting"):
        resume_from(tmp_path, True, SETTINGS)


def test_a_new_training_is_not_mixed_with_another(tmp_path: Path) -> None:
    assert resume_from(tmp_path, False, SETTINGS) is None
    torch.save({}, tmp_path / "checkpoint_epoch=1.pt")
    with pytest.raises(ConfigurationError, match="holds the checkpoints of another training; choose another"):
        resume_from(tmp_path, False, SETTINGS)


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigurationError, match="output_dir: .* cannot be written to .Not a directory.; choose another"
    ):
        resume_from(tmp_path / "file" / "out", True, SETTINGS)
