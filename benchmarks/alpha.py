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
"""The default alpha of each inverse problem: the best of a grid on validation studies.

    python -m benchmarks.alpha DATASET --datalist-file DATALIST --output runs/alpha --slices 2

Every alpha runs as a bundle, on the validation section of the datalist, cut to the slices with most enhancement. The
best has the highest PSNR over the head, which counts noise, smoothing and lost enhancement alike. Writes
``benchmarks/results/alpha.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import monai_lipcar
from benchmarks.approaches import OPERATORS, REPOSITORY, cut
from benchmarks.bundles import solver_of
from monai_lipcar.bundle import checksum, run_bundle, select_studies

BUNDLES = ("physics_tv", "h2l_tv", "ph2l_tv", "ph2l_gentv")
ALPHAS = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
SHOWN = ("psnr_head", "ssim_head", "psnr_enhancing", "enhancement_recovery")


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger = logging.getLogger("alpha")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--datalist-file", type=Path)
    parser.add_argument("--section", default="validation")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=2, help="slices of each study")
    parser.add_argument("--bundles", nargs="+", choices=BUNDLES, default=list(BUNDLES))
    parser.add_argument("--alphas", nargs="+", type=float, default=list(ALPHAS))
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "alpha.json")
    arguments = parser.parse_args()

    studies = select_studies(arguments.dataset, arguments.datalist_file, arguments.section, ("pre", "low", "high"))
    dataset = arguments.output / "dataset"
    cut(studies, dataset, arguments.slices)
    content: dict[str, Any] = {
        "studies": [study.study_id for study in studies],
        "slices_per_study": arguments.slices,
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "weights": {name: checksum(REPOSITORY / "bundles" / name / "models" / "model.pt") for name in OPERATORS},
        "bundles": {},
    }
    jobs = [(bundle, alpha) for bundle in arguments.bundles for alpha in arguments.alphas]
    for bundle, alpha in tqdm(jobs, desc="alphas"):
        place = arguments.output / f"{bundle}-{alpha:g}"
        # registered and matched as whole volumes, by `cut`
        done = {"registration_policy": "none", "match_intensity": False}
        if run_bundle(bundle, dataset, place, "evaluate.json", alpha=alpha, **done):
            raise SystemExit(f"{bundle}, alpha {alpha:g}: some studies failed, see above")
        mean = json.loads((place / "metrics.json").read_text(encoding="utf-8"))["mean"]["simulated"]
        row = {name: round(mean[name], 4) for name in SHOWN if name in mean}
        entry = content["bundles"].setdefault(bundle, {"solver": solver_of(place), "alphas": {}})
        entry["alphas"][f"{alpha:g}"] = row
        entry["best"] = float(max(entry["alphas"], key=lambda key: entry["alphas"][key]["psnr_head"]))
        logger.info("%s, alpha %g: %s", bundle, alpha, row)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
