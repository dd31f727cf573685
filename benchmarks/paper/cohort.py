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
"""The simulated cohorts on disk, and their split by study."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_lipcar.data import Study, find_studies, write_datalist
from monai_lipcar.data.phantom import write_cohort

from .settings import Cohort, Settings

__all__ = ["Split", "split_cohort", "write"]


@dataclass(frozen=True)
class Split:
    """Studies of one cohort: no study is in two sections.

    Args:
        test: the paper's numbers are from these.
        validation: alpha is chosen on these.
        training: the operators are trained on these, where they are trained here.
    """

    test: list[Study]
    validation: list[Study]
    training: list[Study]

    def sections(self) -> dict[str, list[Study]]:
        """Name of a section to its studies."""
        return {"test": self.test, "validation": self.validation, "training": self.training}


def split_cohort(studies: list[Study], cohort: Cohort, seed: int) -> Split:
    """Split by study: a seeded permutation of the ids, the first for testing, the next for validation.

    Example:
        >>> cohort = Cohort("rat", 5, test_studies=2, validation_studies=1, test_slices=8)
        >>> split = split_cohort([Study(f"rat-{n}", {}) for n in range(5)], cohort, seed=0)
        >>> [len(section) for section in split.sections().values()]
        [2, 1, 2]
    """
    ordered = sorted(studies, key=lambda study: study.study_id)
    shuffled = [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]
    first = cohort.test_studies
    second = first + cohort.validation_studies
    return Split(shuffled[:first], shuffled[first:second], shuffled[second:])


def write(cohort: Cohort, settings: Settings) -> Split:
    """Write what is missing of a cohort, and its datalist; returns its split."""
    folder = settings.output / "cohorts" / cohort.anatomy
    options: dict[str, Any] = {"anatomy_options": cohort.anatomy_options} if cohort.anatomy_options else {}
    workers = min(2, os.cpu_count() or 1)
    write_cohort(folder, cohort.anatomy, cohort.studies, seed=settings.seed, workers=workers, **options)
    studies = [study for study in find_studies(folder, ("pre", "low", "high")) if _number(study) <= cohort.studies]
    split = split_cohort(studies, cohort, settings.seed)
    write_datalist(datalist_of(cohort, settings), split.sections())
    return split


def datalist_of(cohort: Cohort, settings: Settings) -> Path:
    """The cohort's split as a MONAI datalist."""
    return settings.output / "cohorts" / f"{cohort.anatomy}.json"


def _number(study: Study) -> int:
    return int(study.study_id.rpartition("-")[2])
