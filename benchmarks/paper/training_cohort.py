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
"""What the shipped operators are trained on: simulated heads, most of random anatomy, on one scanner and on many."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_lipcar.data import Study, find_studies, write_datalist
from monai_lipcar.data.phantom import write_cohort

__all__ = ["PARTS", "Part", "write"]

ACQUISITIONS: dict[str, dict[str, float | bool]] = {
    # what noise and motion do is the inversion's business: an operator that has seen them in its inputs but not in its
    # target learns to take the anatomy from the full dose, which is what is sought
    "forward": {"noise_level": 0.0, "motion_voxels": 0.0, "rotation_deg": 0.0, "gain": 0.0},
    # about what registration and matching leave, and noise on the pre-dose image
    "end_to_end": {"motion_voxels": 0.06, "rotation_deg": 0.02, "gain": 0.004},
}
"""Imperfections of the studies that the two kinds of operators are trained on; the rest is the phantom's."""
TARGETS = {"expected_low": True, "still_high": True}
"""Low doses without noise, and full doses that did not move: see ``docs/phantom.md``."""
BRAINS = {"brain_extracted_fraction": 0.35}


@dataclass(frozen=True)
class Part:
    """Studies of one anatomy.

    Args:
        section: of the datalist.
        folder: dataset folder; its name begins the ids of the studies.
        anatomy: of the phantom.
        studies: how many.
        seed: of the cohort; none is that of a cohort that is tested on.
        vary_scanner: every study has a sequence, an agent and a dose of its own.
        anatomy_options: of the generator.
    """

    section: str
    folder: str
    anatomy: str
    studies: int
    seed: int
    vary_scanner: bool
    anatomy_options: dict[str, Any]


PARTS = (
    Part("training", "fixed", "random", 72, 2025, False, {}),
    Part("training", "fixed", "rat", 24, 2025, False, {}),
    Part("training", "fixed", "mni152", 28, 2025, False, BRAINS),
    Part("training", "vary", "random", 200, 2026, True, {}),
    Part("training", "vary", "mni152", 28, 2026, True, BRAINS),
    Part("training", "vary", "rat", 20, 2026, True, {}),
    Part("validation", "valvary", "random", 6, 77, True, {}),
    Part("validation", "valvary", "mni152", 4, 77, True, BRAINS),
    Part("validation", "valvary", "rat", 3, 77, True, {}),
)


def write(folder: Path, kind: str, share: float = 1.0) -> Path:
    """Write what is missing of the studies below a folder, and their datalist.

    Validation studies of forward operators are as those for training, so that the error is the operator's own. Those of
    end-to-end operators have the noise of an acquisition in all images.

    Args:
        folder: of the cohort.
        kind: of operator, ``"forward"`` or ``"end_to_end"``.
        share: of the training studies of each part that is written, at least one; the first of them.

    Returns:
        The datalist.
    """
    acquisition = {**ACQUISITIONS[kind], **TARGETS}
    validation = acquisition if kind == "forward" else ACQUISITIONS[kind]
    sections: dict[str, list[Study]] = {"training": [], "validation": []}
    for name in dict.fromkeys(part.folder for part in PARTS):
        parts = [part for part in PARTS if part.folder == name]
        for part in parts:
            write_cohort(
                folder / name,
                part.anatomy,
                part.studies if part.section == "validation" else max(1, round(share * part.studies)),
                seed=part.seed,
                anatomy_options=part.anatomy_options,
                acquisition=acquisition if part.section == "training" else validation,
                vary_scanner=part.vary_scanner,
                workers=min(2, os.cpu_count() or 1),
            )
        studies = find_studies(folder / name, ("pre", "low", "high"))
        sections[parts[0].section] += [replace(study, study_id=f"{name}-{study.study_id}") for study in studies]
    datalist = folder / "datalist.json"
    write_datalist(datalist, sections)
    return datalist
