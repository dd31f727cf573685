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

import logging
from pathlib import Path

import pytest

from benchmarks.race.command import command_line


def test_defaults_are_the_benchmarks_own(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("race.command")
    parser = command_line("What it does.", logger, 24, ("ph2l_tv", "h2l_tv"), (0.0, 0.033))
    parser.add_argument("--validation-slices", type=int, default=4)
    assert vars(parser.parse_args(["--output", "runs/race"])) == {
        "output": Path("runs/race"),
        "slices": 24,
        "batch_size": 4,
        "bundles": ["ph2l_tv", "h2l_tv"],
        "levels": [0.0, 0.033],
        "validation_slices": 4,
    }
    assert parser.parse_args(["--output", "runs", "--levels", "0.1", "--bundles", "physics_tv"]).levels == [0.1]
    assert logger.isEnabledFor(logging.INFO)
    for wrong in ([], ["--output", "runs", "--bundles", "l2h"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
    assert "invalid choice: 'l2h'" in capsys.readouterr().err
