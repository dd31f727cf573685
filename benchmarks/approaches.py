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
"""All approaches on the same test studies: the numbers of the model cards and of ``docs/results.md``.

    python -m benchmarks.approaches DATASET --datalist-file DATALIST --output runs/approaches --slices 4

Writes ``benchmarks/results/approaches.json`` and prints the tables. Every approach runs as a bundle, exactly as its
user runs it. To keep the published solver's hours away, each study is cut to the slices with most enhancement, found
on what a low-dose examination has (low and pre) and, where there is a lesion, in the lesion.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.transforms import Compose, LoadImage

import monai_lipcar
from benchmarks.bundles import solver_of
from benchmarks.scoring import load_scaled, score
from monai_lipcar.bundle import checksum, run_bundle, select_studies
from monai_lipcar.data import Study, slice_axis
from monai_lipcar.data.geometry import take_slices
from monai_lipcar.data.output import StudyOutput, write_volume
from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.report import METRIC_NAMES, best_slice
from monai_lipcar.transforms import CheckRegistrationd, MatchIntensityd

BUNDLES = ("l2h", "pl2h", "physics_tv", "h2l_tv", "ph2l_tv", "ph2l_gentv", "h2l", "ph2l")
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")
IN_SHORT = ("ssim_head", "psnr_head")
"""Metrics that are kept for each study."""
REPOSITORY = Path(__file__).resolve().parent.parent


def cut(studies: list[Study], folder: Path, slices: int) -> None:
    """Write the studies with only their most enhancing slices, registered and matched on the whole volumes.

    In studies with lesions, the slices that show most of those.
    """
    members = ("pre", "low", "high")
    load = LoadImage(image_only=True, ensure_channel_first=True)
    prepare = Compose(
        [
            CheckRegistrationd(keys=members, reference_key="low", policy="drop"),
            MatchIntensityd(keys=("pre", "high"), reference_key="low"),
        ]
    )
    for study in studies:
        place = folder / study.study_id
        if place.is_dir():
            continue
        loaded = {name: load(path) for name, path in study.members.items()}
        volumes = {name: volume for name, volume in prepare(loaded).items() if name in loaded}
        axis = slice_axis(volumes["low"].affine, volumes["low"].shape[1:])
        lesion = volumes["lesion"].as_tensor()[0].numpy() > 0 if "lesion" in volumes else None
        center = best_slice((volumes["low"] - volumes["pre"]).as_tensor()[0].numpy(), axis, lesion)
        place.mkdir(parents=True)
        for name, volume in volumes.items():
            write_volume(take_slices(volume, center, slices, axis), place / f"{name}.nii.gz")


def signal_equation(dataset: Path, study_ids: Sequence[str]) -> list[dict[str, float]]:
    """Metrics of what the skeleton of ``ph2l`` makes of every study without training, with the bundles' defaults."""
    operator, rows = SignalEquationOperator(), []
    for study_id in study_ids:
        data = load_scaled(dataset / study_id)
        pair = torch.stack([data[name].as_subclass(torch.Tensor)[0].float() for name in ("pre", "high")])[None]
        rows.append(score({"simulated": operator(pair)[0]}, data, target="low")["simulated"])
    return rows


def table(means: dict[str, dict[str, float]], deviations: dict[str, dict[str, float]]) -> str:
    """Markdown table of means and standard deviations, an approach a row."""
    names = [name for name in METRIC_NAMES if any(name in row for row in means.values())]
    lines = ["| | " + " | ".join(METRIC_NAMES[name] for name in names) + " |", "| --- |" + " ---: |" * len(names)]
    for approach, row in means.items():
        cells = []
        for name in names:
            digits = 2 if "psnr" in name else 3
            value = f"{row[name]:.{digits}f} ± {deviations[approach][name]:.{digits}f}" if name in row else ""
            cells.append(value)
        lines.append(f"| {approach} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--datalist-file", type=Path)
    parser.add_argument("--section", default="test")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=4, help="slices of each study")
    parser.add_argument("--bundles", nargs="+", choices=BUNDLES, default=list(BUNDLES))
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "approaches.json")
    arguments = parser.parse_args()

    required = ("pre", "low", "high")
    studies = select_studies(arguments.dataset, arguments.datalist_file, arguments.section, required)
    dataset = arguments.output / "dataset"
    cut(studies, dataset, arguments.slices)
    means: dict[str, dict[str, dict[str, float]]] = {"to full dose": {}, "to low dose": {}}
    deviations: dict[str, dict[str, dict[str, float]]] = {"to full dose": {}, "to low dose": {}}
    seconds = {}
    each: dict[str, dict[str, dict[str, float]]] = {study.study_id: {} for study in studies}
    for bundle in arguments.bundles:
        started = time.perf_counter()
        # registered and matched as whole volumes: a few slices would not tell
        done = {"registration_policy": "none", "match_intensity": False}
        status = run_bundle(bundle, dataset, arguments.output / bundle, "evaluate.json", **done)
        seconds[bundle] = round(time.perf_counter() - started, 1)
        if status:
            logging.warning("%s: some studies failed", bundle)
        summary = json.loads((arguments.output / bundle / "metrics.json").read_text(encoding="utf-8"))
        for study_id, rows in each.items():
            record = StudyOutput(arguments.output / bundle, study_id).read()
            if record is not None:
                rows[bundle] = {name: round(record["metrics"]["simulated"][name], 4) for name in IN_SHORT}
        direction = "to low dose" if bundle in ("h2l", "ph2l") else "to full dose"
        for image in summary["mean"]:
            name = bundle if image == "simulated" else image
            means[direction][name] = summary["mean"][image]
            deviations[direction][name] = summary["std"][image]
    if means["to low dose"]:
        rows_of_all = signal_equation(dataset, list(each))
        for name in dict.fromkeys(key for row in rows_of_all for key in row):
            values = [row[name] for row in rows_of_all if name in row]
            means["to low dose"].setdefault("signal_equation", {})[name] = statistics.fmean(values)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            deviations["to low dose"].setdefault("signal_equation", {})[name] = spread
        for part in (means, deviations):  # what is compared with, first
            part["to low dose"] = dict(sorted(part["to low dose"].items(), key=lambda row: row[0] in BUNDLES))
    weights = {name: checksum(REPOSITORY / "bundles" / name / "models" / "model.pt") for name in OPERATORS}
    content = {
        "studies": [study.study_id for study in studies],
        "slices_per_study": arguments.slices,
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "weights": weights,
        "solvers": {name: solver_of(arguments.output / name) for name in arguments.bundles},
        "seconds": seconds,
        "mean": means,
        "std": deviations,
        "each": each,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for direction, rows in means.items():
        logging.info("\n%s\n\n%s", direction, table(rows, deviations[direction]))


if __name__ == "__main__":
    main()
