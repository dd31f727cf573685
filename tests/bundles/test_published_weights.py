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
"""The shipped weights give the published numbers: one test study, written anew from its seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from monai_lipcar.bundle import run_bundle
from monai_lipcar.data import find_studies
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.data.phantom import write_cohort

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))  # benchmarks is no installed package

from benchmarks.approaches import cut  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results" / "approaches.json"
STUDY, SEED = "rat-0001", 2024


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_cohort(folder / "cohort", "rat", 1, seed=SEED, progress=False)
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert STUDY in measured["studies"]
    cut(find_studies(folder / "cohort"), folder / "cut", measured["slices_per_study"])
    return folder / "cut"


@pytest.mark.parametrize("bundle", ["ph2l", "pl2h", "ph2l_gentv", "physics_tv"])
def test_the_published_numbers_of_a_study(bundle: str, dataset: Path, tmp_path: Path) -> None:
    published = json.loads(RESULTS.read_text(encoding="utf-8"))["each"][STUDY][bundle]
    options = {"registration_policy": "none", "match_intensity": False}
    assert run_bundle(bundle, dataset, tmp_path, "evaluate.json", **options) == 0
    record = StudyOutput(tmp_path, STUDY).read()
    assert record is not None
    row = record["metrics"]["simulated"]
    assert row["psnr_head"] == pytest.approx(published["psnr_head"], abs=0.05)
    assert row["ssim_head"] == pytest.approx(published["ssim_head"], abs=0.001)
