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
"""Splits and chosen slices."""

from __future__ import annotations

from benchmarks.paper.cohort import split_cohort
from benchmarks.paper.reproduction import Reproduction
from benchmarks.paper.settings import Settings, full
from monai_lipcar.data import Study


def test_the_full_split_is_by_study_and_reproducible(settings: Settings) -> None:
    rats = full(settings.output).cohorts[0]
    studies = [Study(f"rat-{number:04d}", {}) for number in range(1, rats.studies + 1)]
    split = split_cohort(studies, rats, seed=1)
    assert split == split_cohort(studies[::-1], rats, seed=1)
    assert split != split_cohort(studies, rats, seed=2)
    ids = [study.study_id for section in split.sections().values() for study in section]
    assert len(ids) == len(set(ids)) == 61
    # 24 slices a rat: enough for the paper's counts even where some are unusable
    assert len(split.test) * 24 > 240
    assert (len(split.validation) + len(split.training)) * 24 > 840


def test_slices_are_a_nested_random_choice_of_usable_ones(reproduction: Reproduction) -> None:
    test = reproduction.slices["random"]["test"]
    assert len(test) == len(set(test.names)) == 2
    assert test.first(1).names == test.names[:1]
    assert 2 <= test.kept <= test.written == 6
    training = reproduction.slices["random"]["training"]
    assert not {name.split(":")[0] for name in test.names} & {name.split(":")[0] for name in training.names}


def test_a_slice_has_all_that_it_is_judged_by(reproduction: Reproduction) -> None:
    test = reproduction.slices["random"]["test"]
    (sample,) = test.load(test.names[:1], denoised=True)
    assert {"pre", "low", "high", "head", "lesion", "denoised"} <= set(sample)
    assert sample["low"].shape == sample["denoised"].shape == (1, 64, 64)
    assert set(sample["head"].unique().tolist()) <= {0.0, 1.0}
    assert 0 < (sample["low"] - sample["denoised"]).abs().mean() < 0.05
