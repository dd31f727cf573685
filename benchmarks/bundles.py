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
"""Bundles as the tables name them: with options as the command line has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import read_json
from monai_lipcar.data.output import RESULT_FILE

__all__ = ["ADAPTIVE", "folder_of", "name_and_options", "solver_of"]

ADAPTIVE = "ph2l_gentv --prior adaptive"


def name_and_options(bundle: str) -> tuple[str, dict[str, str]]:
    """Name of the bundle, and what it is run with.

    Example:
        >>> name_and_options("ph2l_gentv --prior adaptive")
        ('ph2l_gentv', {'prior': 'adaptive'})
    """
    name, *options = bundle.split()
    pairs = zip(options[::2], options[1::2], strict=True)
    return name, {option.removeprefix("--").replace("-", "_"): value for option, value in pairs}


def folder_of(bundle: str) -> str:
    """Name of the folder of its results.

    Example:
        >>> folder_of("ph2l_gentv"), folder_of("ph2l_gentv --prior adaptive")
        ('ph2l_gentv', 'ph2l_gentv-prior-adaptive')
    """
    return re.sub(r"\W+", "-", bundle)


def solver_of(results: Path) -> dict[str, Any] | None:
    """The solver that made a bundle's results, with its settings; None for a bundle without an inverse problem.

    Raises:
        ValueError: the folder has no results, or results of several solvers.
    """
    solvers = [read_json(file).get("solver") for file in sorted(results.glob(f"*/{RESULT_FILE}"))]
    if not solvers or any(solver != solvers[0] for solver in solvers):
        raise ValueError(f"{results}: expected results of one solver, got {solvers}")
    return solvers[0]
