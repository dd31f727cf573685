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
"""All that decides what a reproduction computes: cohorts, noise levels, subsets, seeds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["OPERATORS", "REPOSITORY", "RESULTS", "Cohort", "Settings", "full", "quick"]

OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RESULTS = "paper.json"
"""In the folder of the results."""


@dataclass(frozen=True)
class Cohort:
    """One simulated cohort.

    Args:
        anatomy: ``"rat"`` or ``"mni152"``.
        studies: how many studies are written.
        test_studies: how many of them are for testing.
        validation_studies: how many are for choosing alpha (and stop no training).
        test_slices: how many slices of the test studies count.
        training_slices: how many slices of the other studies count as the training set; 0 for a test-only cohort.
        anatomy_options: of the generator.
    """

    anatomy: str
    studies: int
    test_studies: int
    validation_studies: int
    test_slices: int
    training_slices: int = 0
    anatomy_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """One reproduction.

    Args:
        output: folder of everything intermediate: cohorts, slices, rows, trainings.
        results: folder of ``paper.json`` and ``paper.csv``.
        page: the page that shows them.
        images: folder of the figures.
        cohorts: the simulated cohorts.
        seed: of the cohorts, the splits, the choice of slices and the noise. None of the trainings of the shipped
            weights used it.
        levels: noise levels of the sweep (Figure 7).
        main_levels: noise levels at which the whole test set is computed (Table 3, Figure 8).
        operator_level: noise on the operators' inputs (Table 2, Figure 3).
        sweep_slices: slices of each cohort in the sweep, a seeded choice among the test slices.
        alpha_levels: noise levels that alpha is chosen at; it is interpolated between them.
        alpha_slices: validation slices of each cohort that alpha is chosen on.
        alpha_factors: what alpha is chosen from: these times the schedule's value.
        theory_side: side of the square that the numerical theory looks at, in pixels.
        theory_steps: perturbations of each experiment of the theory.
        theory_iterations: cap on the solver's iterations there.
        batch_size: slices that are solved together.
        weights: ``"shipped"`` (the bundles' own), ``"train"`` (the same, made by the training stage) or ``"paper"``
            (trained as the paper did, on its cohort).
        device: torch device.
        test_set_precision: ``"float32"``, or ``"bfloat16"``: the operators of the inverse problems compute in it on the
            whole test set. Sweep and choice of alpha are in float32 either way.
        go_on: take the published rows that were computed from the same data, weights and settings as they are; those of
            the solver before it kept the curvature count.
        published: folder of these rows; by default ``results``.
    """

    output: Path
    results: Path
    page: Path
    images: Path
    cohorts: tuple[Cohort, ...]
    seed: int = 2407
    levels: tuple[float, ...] = tuple(float(level) for level in np.round(np.linspace(0.0, 0.066, 7), 3))
    main_levels: tuple[float, ...] = (0.0, 0.033)
    operator_level: float = 0.1
    sweep_slices: int = 12
    alpha_levels: tuple[float, ...] = (0.0, 0.033, 0.066)
    alpha_slices: int = 4
    alpha_factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    theory_side: int = 96
    theory_steps: int = 8
    theory_iterations: int = 300
    batch_size: int = 4
    weights: str = "shipped"
    device: str = "cpu"
    test_set_precision: str = "float32"
    go_on: bool = False
    published: Path | None = None

    def beside(self) -> Settings:
        """The same, with results, page and figures in the output folder: what is published stays."""
        output = self.output
        results, page, images = output / "results", output / "paper.md", output / "images"
        return replace(self, results=results, page=page, images=images, published=self.results)


def full(output: Path, weights: str = "shipped", device: str = "cpu") -> Settings:
    """The paper's counts: 61 rats, 840 training and 240 test slices, and as many test slices of human heads."""
    return Settings(
        output=output,
        results=REPOSITORY / "benchmarks" / "results",
        page=REPOSITORY / "docs" / "paper.md",
        images=REPOSITORY / "docs" / "images" / "paper",
        cohorts=(
            # test rats in proportion to the slices: 61 * 240 / 1080
            Cohort("rat", 61, test_studies=14, validation_studies=5, test_slices=240, training_slices=840),
            Cohort("mni152", 16, test_studies=14, validation_studies=2, test_slices=240),
        ),
        weights=weights,
        device=device,
    )


def quick(output: Path, weights: str = "shipped", device: str = "cpu") -> Settings:
    """Every stage on hardly any data: to see that all of it runs, not what it finds."""
    small = {"shape": (96, 112, 12), "spacing": (2.0, 2.0, 10.0)}
    return Settings(
        output=output,
        results=output / "results",
        page=output / "paper.md",
        images=output / "images",
        cohorts=(
            Cohort("rat", 2, test_studies=1, validation_studies=1, test_slices=4, training_slices=4),
            Cohort("mni152", 2, test_studies=1, validation_studies=1, test_slices=4, anatomy_options=small),
        ),
        levels=(0.0, 0.033, 0.066),
        sweep_slices=4,
        alpha_slices=1,
        alpha_factors=(1.0, 4.0),
        theory_side=64,
        theory_steps=4,
        theory_iterations=60,
        weights=weights,
        device=device,
    )
