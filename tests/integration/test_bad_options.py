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
"""Options and weights that cannot be used: refused in one line before anything is computed or written.

Most of it in this process, as any program may run a bundle; that the command prints such an error as one line is tested
with one of each kind.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_lipcar.errors import ConfigurationError, WeightsError
from monai_lipcar.networks import DoseOperator, save_weights

Run = Callable[..., subprocess.CompletedProcess[str]]
Failure = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def options(dataset: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options of a run that must not begin."""
    out = tmp_path / "out"
    yield {"dataset_dir": str(dataset), "output_dir": str(out)}
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": "minus"}, "alpha: expected a number that is not negative or 'auto', got 'minus'"),
        ({"alpha": -1}, "alpha: expected a number that is not negative or 'auto', got -1"),
        ({"alpha": "auot"}, "alpha: expected a number that is not negative or 'auto', got 'auot'"),
        ({"solver": "nonsense"}, "solver: expected 'proximal' or 'paper', got 'nonsense'"),
        ({"max_iterations": 0}, "max_iterations: expected a whole number of at least 1, got 0"),
        ({"dose_fraction": 2}, r"dose_fraction: expected low dose over high dose, in \(0, 1\], got 2"),
        ({"slice_batch_size": 0}, "slice_batch_size: expected a whole number of at least 1, got 0"),
        ({"overwrite": "ture"}, "overwrite: expected true or false, got 'ture'"),
        ({"registration_policy": "none of them"}, "policy must be one of raise, drop, register, got 'none of them'"),
        ({"out_of_domain": "raise"}, "policy must be one of flag, refuse, ignore, got 'raise'"),
        ({"domain_ranges": {"height": [1, 2]}}, "the feature 'height' is not known; there are head_mm, "),
        ({"denoise": "nonsense"}, "unknown denoising method 'nonsense': expected one of "),
        ({"device": "nonsense"}, "device: 'nonsense' cannot be used .*; choose cpu"),
        ({"inferer#alpa": 1.0}, "LIPInferer.*unexpected keyword argument 'alpa'"),
    ],
)
def test_mistyped_value(given: dict[str, Any], message: str, options: dict[str, Any], run_here: Callable) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run_here("physics_tv", **options, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset_dri": "data"}, "unknown option --dataset_dri; did you mean --dataset_dir?"),
        ({"configuration#alhpa": 1}, "unknown option --configuration#alhpa; did you mean --configuration#alpha?"),
        (
            {"configuration::solvr": "paper"},
            "unknown option --configuration::solvr; did you mean --configuration::solver?",
        ),
        ({"qqqqqqqq": 1}, "unknown option --qqqqqqqq; there are --bundle_root, --device, "),
    ],
)
def test_mistyped_option(given: dict[str, Any], message: str, options: dict[str, Any], run_here: Callable) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        run_here("physics_tv", **options, **given)


def test_mistyped_option_of_the_command(dataset: Path, tmp_path: Path, run_bundle: Run, failure: Failure) -> None:
    process = run_bundle("physics_tv", "--dataset_dri", str(dataset), "--output_dir", str(tmp_path / "out"))
    assert failure(process) == "unknown option --dataset_dri; did you mean --dataset_dir?"
    assert not (tmp_path / "out").exists()


def weights(path: Path, skeleton: Any, channels: int, operator: str | None = None) -> Path:
    torch.manual_seed(0)
    save_weights(DoseOperator(in_channels=channels, skeleton=skeleton), path, operator)
    return path


@pytest.mark.parametrize(
    ("bundle", "skeleton", "channels", "operator", "message"),
    [
        ("pl2h", "identity", 1, None, "belongs to another operator"),
        ("h2l", "identity", 1, "l2h", "belongs to another operator: expected weights of h2l, got those of l2h; pass"),
        ("ph2l_tv", "extrapolation", 2, "pl2h", "expected weights of ph2l, got those of pl2h"),
        ("ph2l_tv", "none", 2, None, "was trained on the skeleton 'none', but the network is set to"),
    ],
)
def test_weights_of_another_operator(
    bundle: str,
    skeleton: str,
    channels: int,
    operator: str | None,
    message: str,
    options: dict[str, Any],
    tmp_path: Path,
    run_here: Callable,
) -> None:
    path = weights(tmp_path / "given.pt", skeleton, channels, operator)
    with pytest.raises(WeightsError, match=f"weights file {path} .*{message}"):
        run_here(bundle, **options, checkpoint=str(path))


@pytest.mark.parametrize(
    ("bundle", "trained"),
    [
        *((name, "fraction 0.2") for name in ("h2l_tv", "h2l", "l2h")),
        *((name, "fractions 0.08.* to 0.4.*") for name in ("pl2h", "ph2l_gentv")),
    ],
)
def test_weights_of_another_dose_fraction(
    bundle: str, trained: str, options: dict[str, Any], run_here: Callable
) -> None:
    message = f"trained for the dose {trained}, but the network is set to 0.05; use weights trained for it, or set dose"
    with pytest.raises(WeightsError, match=message):
        run_here(bundle, **options, dose_fraction=0.05)


def test_guess_of_another_operator(options: dict[str, Any], tmp_path: Path, run_here: Callable) -> None:
    path = weights(tmp_path / "given.pt", "physics", 2, "ph2l")
    with pytest.raises(WeightsError, match="expected weights of pl2h, got those of ph2l"):
        run_here("ph2l_gentv", **options, guess_checkpoint=str(path))


@pytest.mark.parametrize("damage", ["cut", "changed", "noise", "gone"])
def test_damaged_weights(damage: str, options: dict[str, Any], tmp_path: Path, run_here: Callable) -> None:
    path = weights(tmp_path / "given.pt", "physics", 2)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
        path.write_bytes(content)
    elif damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    else:
        path.unlink()
    expected = f"no weights file at {path}; train the operator first or pass --checkpoint FILE"
    if damage != "gone":
        expected = (
            rf"weights file {path} cannot be read as a state dict \(.*\): it is damaged, .*; restore it from where"
        )
    with pytest.raises(WeightsError, match=expected):
        run_here("ph2l_tv", **options, checkpoint=str(path))


def test_damaged_weights_of_the_command(dataset: Path, tmp_path: Path, run_bundle: Run, failure: Failure) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    out = tmp_path / "out"
    arguments = ("--dataset_dir", str(dataset), "--output_dir", str(out), "--checkpoint", str(path))
    message = failure(run_bundle("ph2l_tv", *arguments))
    assert message.startswith(f"weights file {path} cannot be read as a state dict (")
    assert not list(out.rglob("*"))
