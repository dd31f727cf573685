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
"""Names of bundles with options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bundles import ADAPTIVE, folder_of, name_and_options, solver_of


def test_options_are_those_of_the_command_line() -> None:
    assert name_and_options("physics_tv") == ("physics_tv", {})
    assert name_and_options(ADAPTIVE) == ("ph2l_gentv", {"prior": "adaptive"})
    assert name_and_options("h2l_tv --alpha auto --max-iterations 5") == (
        "h2l_tv",
        {"alpha": "auto", "max_iterations": "5"},
    )
    with pytest.raises(ValueError, match="shorter than"):
        name_and_options("h2l_tv --alpha")


def test_folders_differ_and_are_plain() -> None:
    names = ["physics_tv", "physics_tv --alpha auto", ADAPTIVE]
    folders = [folder_of(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder.replace("-", "_").isidentifier() for folder in folders)


def test_results_of_one_solver(tmp_path: Path) -> None:
    def write(study: str, solver: dict[str, Any] | None) -> None:
        (tmp_path / study).mkdir(exist_ok=True)
        (tmp_path / study / "result.json").write_text(json.dumps({"solver": solver}), encoding="utf-8")

    with pytest.raises(ValueError, match="expected results of one solver, got \\[\\]"):
        solver_of(tmp_path)
    write("a", None)
    assert solver_of(tmp_path) is None
    proximal = {"name": "proximal", "memory": 4}
    write("b", proximal)
    with pytest.raises(ValueError, match="got .*None, .*proximal"):
        solver_of(tmp_path)
    write("a", proximal)
    assert solver_of(tmp_path) == proximal
