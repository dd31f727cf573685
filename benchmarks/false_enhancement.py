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
"""How often an approach shows enhancement where there is none: simulated studies without lesions.

    python -m benchmarks.false_enhancement --output runs/false_enhancement

Writes ``benchmarks/results/false_enhancement.json``: of every approach and anatomy, the share of studies with a false
component of 3 mm or more, the largest diameter and the number per cm³ (``monai_lipcar.metrics.false_enhancement``). The
cohorts are ones that nothing is trained or tuned on; of each study, the slices around the most enhancing one, where
vessels are.
Every approach runs as a bundle, as its user runs it; what is finished is not computed again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

import monai_lipcar
from benchmarks.approaches import REPOSITORY, cut
from benchmarks.bundles import ADAPTIVE, folder_of, name_and_options
from monai_lipcar.bundle import checksum, find_weights, run_bundle
from monai_lipcar.bundle_folder import bundle_root
from monai_lipcar.data import find_studies
from monai_lipcar.data.atomic import write_json
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.data.phantom import write_cohort

BUNDLES = ("l2h", "pl2h", "physics_tv", "h2l_tv", "ph2l_tv", "ph2l_gentv", ADAPTIVE)
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")
SHOWN = ("false_enhancement_3mm", "false_enhancement_mm", "false_enhancement_per_cm3")
SEED = 2410
"""Of the cohort: none that anything is trained on, or that alpha is chosen on."""

logger = logging.getLogger("false_enhancement")


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rats", type=int, default=20)
    parser.add_argument("--heads", type=int, default=80, help="human; none of 74 is needed to say fewer than 4 %%")
    parser.add_argument("--slices", type=int, default=6, help="of each study")
    parser.add_argument("--bundles", nargs="+", choices=BUNDLES, default=list(BUNDLES))
    results = REPOSITORY / "benchmarks" / "results" / "false_enhancement.json"
    parser.add_argument("--results", type=Path, default=results)
    arguments = parser.parse_args()

    cohort, dataset = arguments.output / "cohort", arguments.output / "dataset"
    studies = {"rat": arguments.rats, "mni152": arguments.heads}
    for anatomy, count in studies.items():
        write_cohort(cohort, anatomy, count, seed=SEED, tumor_free_fraction=1.0)
    cut(find_studies(cohort, ("pre", "low", "high")), dataset, arguments.slices)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for bundle in arguments.bundles:
        place = arguments.output / folder_of(bundle)
        name, options = name_and_options(bundle)
        # registered and matched as whole volumes, by `cut`
        if run_bundle(
            name, dataset, place, "evaluate.json", registration_policy="none", match_intensity=False, **options
        ):
            raise SystemExit(f"{bundle}: some studies failed, see above")
        for study in find_studies(dataset):
            record: dict[str, Any] = StudyOutput(place, study.study_id).read() or {}
            for image, metrics in record["metrics"].items():
                row = bundle if image == "simulated" else image
                rows.setdefault(row, {})[study.study_id] = {key: metrics[key] for key in SHOWN if key in metrics}
    content = {
        "studies": studies,
        "slices_per_study": arguments.slices,
        "seed": SEED,
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "weights": {name: checksum(find_weights(bundle_root(name), name)) for name in OPERATORS},
        "mean": means(rows, studies),
        "each": {name: found for name, found in rows.items() if any(found.values())},
    }
    write_json(arguments.results, content, indent=1)
    for anatomy, shown in content["mean"].items():
        for name, row in shown.items():
            logger.info("%s, %s: %s", anatomy, name, row)


def means(
    rows: Mapping[str, Mapping[str, dict[str, float]]], anatomies: Iterable[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Anatomy and approach to the means over the studies; a rat's brain is no larger than a lesion of a human one.

    Args:
        rows: approach and study to metrics; approaches without any are left out.
        anatomies: what the ids of the studies begin with.
    """
    return {
        anatomy: {
            name: mean([row for study, row in studies.items() if study.startswith(anatomy)])
            for name, studies in rows.items()
            if any(studies.values())
        }
        for anatomy in anatomies
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each metric; of the diameters the largest."""
    result = {key: sum(row[key] for row in rows) / len(rows) for key in SHOWN}
    return {key: round(value, 4) for key, value in {**result, SHOWN[1]: max(row[SHOWN[1]] for row in rows)}.items()}


if __name__ == "__main__":
    main()
