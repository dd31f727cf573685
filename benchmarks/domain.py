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
"""What studies of the kind that the operators are trained on are like, and what becomes of studies that are not.

    python -m benchmarks.domain --output runs/domain

measures the features of ``monai_lipcar.transforms.CheckDomaind`` on simulated studies of ``COHORTS``, whose seeds are
neither trained on nor tested on, prepared as the bundles prepare them; writes the ranges, a quarter wider than what was
found, into the metadata of every bundle (``"domain"``), and both into ``benchmarks/results/domain.json``.

    python -m benchmarks.domain --output runs/domain --cases EXAMINATIONS --t2w VOLUME

runs studies that should be refused, and as many that should not, through a bundle with these ranges (see
``benchmarks.domain_cases``); EXAMINATIONS is what ``benchmarks/real_examinations.py`` takes, VOLUME a T2-weighted head.
What has been computed is not computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

import monai_lipcar
from benchmarks.domain_cases import CASES_SEED, describe, run_cases
from monai_lipcar.bundle import bundle_root, reported
from monai_lipcar.data import find_studies
from monai_lipcar.data.atomic import write_json
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.engines import prepare_study
from monai_lipcar.transforms.domain_features import FEATURES

logger = logging.getLogger("domain")

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "domain.json"
BRAINS = {"brain_extracted_fraction": 0.35}
COHORTS: dict[str, tuple[str, int, float, dict[str, Any]]] = {
    "rat, noise 0.005": ("rat", 7101, 0.005, {}),
    "rat, noise 0.02": ("rat", 7102, 0.02, {}),
    "rat, noise 0.066": ("rat", 7103, 0.066, {}),
    "mni152, noise 0.005": ("mni152", 7104, 0.005, BRAINS),
    "mni152, noise 0.02": ("mni152", 7105, 0.02, BRAINS),
    "mni152, noise 0.066": ("mni152", 7106, 0.066, BRAINS),
    "random, noise 0.005": ("random", 7107, 0.005, {}),
    "random, noise 0.02": ("random", 7108, 0.02, {}),
    "random, noise 0.066": ("random", 7109, 0.066, {}),
}
"""Anatomy, seed, noise and options of the studies that the ranges are measured on; scanners and doses are drawn."""
FAMILIES = {
    "low": ("physics_tv", ("l2h", "pl2h", "h2l_tv", "ph2l_tv", "ph2l_gentv", "physics_tv")),
    "high": ("ph2l", ("h2l", "ph2l")),
}
"""By the member at the larger dose that the bundles start from: whose preparation is measured, and who gets it."""
WIDER = 1.25
LEAST_HIGHEST = 0.01
"""No upper end is below this: the depth of values below zero is 0 in all simulated studies, not in resampled ones."""


def measure(output: Path, studies: int, workers: int) -> dict[str, dict[str, dict[str, float]]]:
    """Features of all studies, by family and by study; kept in ``output``."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for family, (bundle, _) in FAMILIES.items():
        file = output / f"features-{family}.json"
        rows: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        config = ConfigParser.load_config_file(f"{bundle_root(bundle)}/configs/inference.json")
        with reported():
            # what registration leaves of motion is not the question here: nothing moves
            parser = ConfigParser({**config, "domain_ranges": {}, "registration_policy": "none"})
            preprocessing = parser.get_parsed_content("preprocessing")
        for name, (anatomy, seed, noise, options) in COHORTS.items():
            folder = output / "cohorts" / str(seed)
            write_cohort(
                folder,
                anatomy,
                studies,
                seed=seed,
                anatomy_options=options,
                acquisition={"noise_level": noise, "motion_voxels": 0.0, "rotation_deg": 0.0},
                vary_scanner=True,
                workers=workers,
            )
            for study in tqdm(find_studies(folder)[:studies], desc=f"{family}: {name}", unit="study"):
                label = f"{name}: {study.study_id}"
                if label not in rows:
                    prepared = prepare_study(study, preprocessing, ("pre", family))
                    rows[label] = prepared["domain"]["measures"]
                    write_json(file, rows, indent=1)
        found[family] = rows
    return found


def ranges(rows: dict[str, dict[str, float]]) -> dict[str, list[float | None]]:
    """Lowest and highest value of each feature, a quarter further, where that side is judged.

    Example:
        >>> ranges({"a": {"noise": 0.02, "head_mm": 100.0}, "b": {"noise": 0.1, "head_mm": 200.0}})
        {'head_mm': [80.0, 250.0], 'noise': [None, 0.125]}
    """
    result: dict[str, list[float | None]] = {}
    for name, feature in FEATURES.items():
        values = [row[name] for row in rows.values() if name in row]
        if not values:
            continue
        low, high = min(values) / WIDER, max(max(values) * WIDER, LEAST_HIGHEST)
        result[name] = [
            None if feature.too_low is None else float(f"{low:.3g}"),
            None if feature.too_high is None else float(f"{high:.3g}"),
        ]
    return result


def put_into_bundles(found: dict[str, dict[str, list[float | None]]]) -> None:
    """Write the ranges of each family into the metadata of its bundles, before ``"intended_use"``."""
    for family, (_, bundles) in FAMILIES.items():
        for bundle in bundles:
            file = REPOSITORY / "bundles" / bundle / "configs" / "metadata.json"
            metadata = json.loads(file.read_text(encoding="utf-8"))
            metadata.pop("domain", None)
            content: dict[str, Any] = {}
            for key, value in metadata.items():
                if key == "intended_use":
                    content["domain"] = found[family]
                content[key] = value
            write_json(file, content, indent=4)


def main() -> None:
    """Measure the ranges, or run the cases."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="cohorts, cases and what was found of each")
    parser.add_argument("--studies", type=int, default=3, help="of each cohort that the ranges are measured on")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--cases", type=Path, help="real examinations; runs the cases instead of measuring the ranges")
    parser.add_argument("--t2w", type=Path, help="a T2-weighted head")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    arguments.output.mkdir(parents=True, exist_ok=True)
    content = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
    content["versions"] = {
        "monai_lipcar": monai_lipcar.__version__,
        "monai": monai.__version__,
        "torch": torch.__version__,
    }
    if arguments.cases is None:
        features = measure(arguments.output, arguments.studies, arguments.workers)
        found = {family: ranges(rows) for family, rows in features.items()}
        put_into_bundles(found)
        content["studies_per_cohort"] = arguments.studies
        content["seeds"] = {name: seed for name, (_, seed, _, _) in COHORTS.items()}
        content |= {"ranges": found, "features": features}
        logger.info("%s", json.dumps(found, indent=1))
    else:
        content["cases_seed"] = CASES_SEED
        for rows in run_cases(arguments.cases, arguments.t2w, arguments.output):
            # what a run that is stopped has found stays
            content["cases"] = rows
            write_json(arguments.results, content, indent=1)
        logger.info("%s", describe(content["cases"]))
    write_json(arguments.results, content, indent=1)


if __name__ == "__main__":
    main()
