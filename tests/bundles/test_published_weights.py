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
"""The shipped weights give the published numbers: a test study of each anatomy, written anew from its seed."""

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
STUDIES, SEED = ("rat-0001", "mni152-0004"), 2024


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for anatomy, count in (("rat", 1), ("mni152", 4)):
        write_cohort(folder / "cohort", anatomy, count, seed=SEED, progress=False)
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert {*STUDIES} <= {*measured["studies"]}
    studies = [study for study in find_studies(folder / "cohort") if study.study_id in STUDIES]
    cut(studies, folder / "cut", measured["slices_per_study"])
    return folder / "cut"


@pytest.mark.parametrize("bundle", ["ph2l", "pl2h", "ph2l_gentv", "physics_tv"])
def test_the_published_numbers_of_two_studies(bundle: str, dataset: Path, tmp_path: Path) -> None:
    published = json.loads(RESULTS.read_text(encoding="utf-8"))["each"]
    options = {"registration_policy": "none", "match_intensity": False}
    assert run_bundle(bundle, dataset, tmp_path, "evaluate.json", **options) == 0
    for study in STUDIES:
        record = StudyOutput(tmp_path, study).read()
        assert record is not None
        row, expected = record["metrics"]["simulated"], published[study][bundle]
        assert row["psnr_head"] == pytest.approx(expected["psnr_head"], abs=0.05), study
        assert row["ssim_head"] == pytest.approx(expected["ssim_head"], abs=0.001), study
