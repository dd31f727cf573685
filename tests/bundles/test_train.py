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
"""Training through ``python -m monai.bundle run``: killed and resumed, its test split evaluated, and two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from monai_lipcar.engines import latest_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "--patch_size",
    "[32,32]",
    "--validation_size",
    "[32,32]",
    "--batch_size",
    "4",
    "--registration_policy",
    "none",
)
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_training_killed_and_resumed(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    folder = tmp_path / "training"
    arguments = ("--dataset_dir", str(dataset), "--output_dir", str(folder), *SMALL, "--epochs", "12")
    config = REPOSITORY / "bundles" / "l2h" / "configs" / "train.json"
    with open(tmp_path / "log.txt", "w") as log:
        killed = subprocess.Popen(
            [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + 300
        while latest_checkpoint(folder) is None:
            assert killed.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.kill()
        killed.wait()
    assert not (folder / "model.pt").exists()

    refused = run_bundle("l2h", "train.json", *arguments, "--learning_rate", "0.01", "--epochs", "13", check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        f"error: {folder} holds a training with other settings: epochs is 12 there, 13 here (their number is fixed: "
        "the learning rate falls over all of them); learning_rate is 0.001 there, 0.01 here. Give the settings"
    )
    refused = run_bundle("l2h", "train.json", *arguments, "--resume", "false", check=False)
    assert refused.returncode == 1
    assert "holds the checkpoints of another training; choose another --output_dir" in refused.stderr

    resumed = run_bundle("l2h", "train.json", *arguments)
    assert "checkpoint_epoch=" in resumed.stdout + resumed.stderr
    record = json.loads((folder / "training.json").read_text())
    assert (record["epochs"], record["batch_size"], record["operator"]) == (12, 4, "l2h")
    assert record["validation"]["val_psnr"] > 10
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in curve] == list(range(1, 13))
    assert all(entry["val_psnr"] > 0 for entry in curve)


def test_the_test_split_can_be_evaluated(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    folder = tmp_path / "training"
    run_bundle("l2h", "train.json", "--dataset_dir", str(dataset), "--output_dir", str(folder), *SMALL, "--epochs", "1")
    split = {
        section: [entry["study_id"] for entry in entries]
        for section, entries in json.loads((folder / "datalist.json").read_text()).items()
    }
    assert sorted(split) == ["test", "training", "validation"]
    assert (len(split["training"]), len(split["test"])) == (1, 1)
    assert split["training"] == json.loads((folder / "training.json").read_text())["training"]
    run_bundle(
        "l2h",
        "evaluate.json",
        *("--datalist_file", str(folder / "datalist.json"), "--checkpoint", str(folder / "model.pt")),
        *("--output_dir", str(tmp_path / "results"), "--registration_policy", "none", "--device", "cpu"),
    )
    assert json.loads((tmp_path / "results" / "metrics.json").read_text())["studies"] == 1
    assert [path.parent.name for path in (tmp_path / "results").glob("*/result.json")] == split["test"]


def test_two_processes(dataset: Path, tmp_path: Path) -> None:
    configs = [
        str(REPOSITORY / "bundles" / "l2h" / "configs" / name) for name in ("train.json", "multi_gpu_train.json")
    ]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "monai.bundle", "run", "--config_file", str(configs)]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(tmp_path / "out"), *SMALL, "--epochs", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "out" / "model.pt").is_file()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["iterations"], record["processes"]) == (2, 2)
    curve = [json.loads(line) for line in (tmp_path / "out" / "curve.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in curve] == [1, 2]
    assert all(entry["val_psnr"] > 0 for entry in curve)
