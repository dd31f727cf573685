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
"""Examinations whose run is killed at any moment: the same command continues, with the results of one that was not."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("highdicom")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks as on Linux")

QUICK = ["--bundle", "physics_tv", "--max-iterations", "3", "--device", "cpu", "--also", "residual"]
Phantom = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def examinations(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom, write_series: Callable[..., Any]) -> Path:
    """Two examinations of three slices, too few for motion to be looked for, which takes most of the time."""
    folder = tmp_path_factory.mktemp("examinations")
    for study in ("one", "two"):
        for number, name in enumerate(("pre", "low"), 1):
            values, affine = phantom[name]
            write_series(
                folder / study, values[:, :, :3], affine, f"T1 {name}", number, study=study, time=f"10{number}000"
            )
    return folder


def results(out: Path) -> dict[str, Any]:
    """What a run has written, without the times that it recorded, the pages that show them, and hidden files."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(out).parts):
            continue
        if path.suffix in (".html", ".png", ".csv"):
            found[name] = path.stat().st_size > 100
        elif path.name in ("result.json", "derived.json"):  # the latter has a checksum of the former
            content = json.loads(path.read_text()).items()
            found[name] = {key: value for key, value in content if key not in ("seconds", "made_of")}
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("moments", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(moments: int, run: Callable[..., Any], examinations: Path, tmp_path: Path) -> None:
    status, seconds, log = run("run", examinations, tmp_path / "whole", *QUICK)
    assert status == 0, log
    expected = results(tmp_path / "whole")
    assert sum(name.endswith(".dcm") for name in expected) == 12
    rng = random.Random(moments)
    killed = 0
    for number in range(moments):
        out = tmp_path / f"out{number}"
        status, _, _ = run("run", examinations, out, *QUICK, kill_after=rng.uniform(0.02, 0.98) * seconds)
        killed += status == -9
        for folder in out.glob("*/dicom"):  # series that are there are whole, before anything repairs them
            names = {str(path.relative_to(out)) for path in folder.rglob("*.dcm")}
            assert names == {name for name in expected if name.endswith(".dcm") and name.startswith(folder.parent.name)}
        status, _, log = run("run", examinations, out, *QUICK)
        assert status == 0, log
        assert results(out) == expected
        assert not [path for path in out.rglob(".partial-*") if path.is_dir()]
    assert killed  # not each: the first run of all takes longer
