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
"""A cohort of two small studies that is reproduced in seconds, with the shipped weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))  # benchmarks is no installed package

from benchmarks.paper.reproduction import Reproduction, write_cohorts  # noqa: E402
from benchmarks.paper.settings import Cohort, Settings, quick  # noqa: E402


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cohort = Cohort(
        "random",
        2,
        test_studies=1,
        validation_studies=1,
        test_slices=2,
        training_slices=2,
        anatomy_options={"shape": (64, 64, 6)},
    )
    return replace(
        quick(tmp_path_factory.mktemp("paper")),
        cohorts=(cohort,),
        levels=(0.0, 0.033),
        sweep_slices=1,
        alpha_levels=(0.0, 0.033),
        alpha_factors=(1.0,),
        theory_side=32,
        theory_steps=3,
        theory_iterations=10,
        batch_size=1,
    )


@pytest.fixture(scope="session")
def reproduction(settings: Settings) -> Reproduction:
    return Reproduction(settings, write_cohorts(settings), "nlm")
