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
"""What the command lines of the benchmarks on the slices of the race have in common."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from monai_lipcar.log import quiet_readers

from .problems import BUNDLES

__all__ = ["command_line"]


def command_line(
    description: str | None, logger: logging.Logger, slices: int, bundles: Sequence[str], levels: Sequence[float]
) -> argparse.ArgumentParser:
    """Options of a benchmark, which may add its own; from now on its logger reports to the terminal.

    Args:
        description: what ``--help`` says first.
        logger: the benchmark's.
        slices, bundles, levels: defaults.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    quiet_readers()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the cohorts and of what is finished")
    parser.add_argument("--slices", type=int, default=slices)
    parser.add_argument("--batch-size", type=int, default=4, help="slices that are solved together")
    parser.add_argument("--bundles", nargs="+", choices=list(BUNDLES), default=list(bundles))
    parser.add_argument("--levels", nargs="+", type=float, default=list(levels), help="noise that is added")
    return parser
