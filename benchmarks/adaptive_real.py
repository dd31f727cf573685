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
"""The adaptive prior and the four approaches that it chooses between on real examinations, by noise level.

    python -m benchmarks.adaptive_real EXAMINATIONS --output runs/adaptive_real

EXAMINATIONS as for ``benchmarks/real_examinations.py``: pairs of pre and full dose. The low dose is made of them by the
first of the ``SIMULATIONS``, which nothing was trained on, and Gaussian noise is added to it. Of each examination the
two slices with most signal among those around its ``center`` (or around most enhancement) are judged. As in the second
part of ``benchmarks/adaptive.py``, the four have the alpha that is best for them on its small heads, the adaptive prior
nothing but the noise that it estimates; no number was chosen on real examinations. Writes
``benchmarks/results/adaptive_real.json`` and ``docs/images/adaptive_real.png``. What has been computed is kept in the
output folder.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.data import find_studies
from monai_lipcar.simulate import SIMULATIONS

from .adaptive import FOUR, draw, five
from .adaptive_heads import Comparison, Row, Study
from .alpha_auto import REPOSITORY, table
from .alpha_heads import Parts
from .examinations import read_examinations
from .real_examinations import CHOOSING, DONE_ON_WHOLE_VOLUMES, prepare

DOSE_FRACTION = 0.2
NOISE_LEVEL = 0.01
"""Of the low dose before any is added, relative to the brightest tissue."""
UNDER = ("noise 0.0", "noise 0.022", "noise 0.044", "noise 0.066")
SLICES = 4
"""Around the center, that the noise is estimated from."""

logger = logging.getLogger("adaptive_real")


class RealComparison(Comparison):
    """What is measured on the studies of a dataset folder.

    Args:
        output: where values are kept.
        dataset: studies with pre, low and high.
        made: what they were made with.
    """

    def __init__(self, output: Path, dataset: Path, made: Mapping[str, Any]) -> None:
        options = {**SIMULATIONS[CHOOSING].options(DOSE_FRACTION), **DONE_ON_WHOLE_VOLUMES}
        super().__init__(output, 0, {}, options)
        self.dataset = dataset
        self.parts = Parts(output / "adaptive_real.json", {**self.parts.key, "options": options, "made": dict(made)})

    @cached_property
    def studies(self) -> dict[str, Study]:
        """Study to its volumes."""
        found = find_studies(self.dataset, ("pre", "low", "high"))
        return {study.study_id: self.learned.prepared(study) for study in found}


def shortfall(rows: Mapping[str, Row]) -> float:
    """By how much SSIM over the head the adaptive prior falls short of the best of the four."""
    return round(max(rows[name]["ssim_head"] for name in FOUR) - rows["adaptive"]["ssim_head"], 4)


def measure(source: Path, output: Path, calibrated: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What was measured after every examination: its slices, and condition to metrics of each approach."""
    dataset = output / "dataset"
    examinations = read_examinations(source)
    made = {
        one.study_id: prepare(one, {(CHOOSING, DOSE_FRACTION): dataset}, SLICES, NOISE_LEVEL)
        for one in tqdm(examinations, desc="examinations")
    }
    comparison = RealComparison(output, dataset, made)
    if comparison.weights != {name: calibrated["adaptive_prior"][name] for name in comparison.weights}:
        raise SystemExit("the adaptive prior was calibrated with other weights; run benchmarks.adaptive first")
    content: dict[str, Any] = {
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "weights": comparison.weights,
        "simulation": CHOOSING,
        "dose_fraction": DOSE_FRACTION,
        "noise_level": NOISE_LEVEL,
        "examinations": {},
    }
    for one in examinations:
        conditions: dict[str, dict[str, Any]] = {}
        for condition in tqdm(UNDER, desc=one.name):
            rows = five(comparison, one.study_id, condition, calibrated)
            conditions[condition] = {**rows, "shortfall": shortfall(rows)}
        chosen = comparison.studies[one.study_id]["chosen"].tolist()
        slices = [made[one.study_id]["first_slice"] + index for index in chosen]
        content["examinations"][one.name] = {"slices": slices, "conditions": conditions}
        yield content


def main(command_line: Sequence[str] | None = None) -> None:
    """Run it."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examinations", type=Path, help="dataset folder or JSON file")
    parser.add_argument("--output", type=Path, required=True)
    folder = REPOSITORY / "benchmarks" / "results"
    parser.add_argument("--calibrated", type=Path, default=folder / "adaptive.json", help="of benchmarks.adaptive")
    parser.add_argument("--results", type=Path, default=folder / "adaptive_real.json")
    parser.add_argument("--image", type=Path, default=REPOSITORY / "docs" / "images" / "adaptive_real.png")
    arguments = parser.parse_args(command_line)

    calibrated = json.loads(arguments.calibrated.read_text(encoding="utf-8"))
    content: dict[str, Any] = {}
    for content in measure(arguments.examinations, arguments.output, calibrated):
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        draw({name: entry["conditions"] for name, entry in content["examinations"].items()}, arguments.image)
    shown = {
        f"{name}, {condition}": {one: rows[one]["ssim_head"] for one in (*FOUR, "adaptive")}
        for name, entry in content["examinations"].items()
        for condition, rows in entry["conditions"].items()
    }
    logger.info("\n%s", table(shown))


if __name__ == "__main__":
    main()
