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
"""Which configuration of the operators to recommend: short trainings that differ in one choice each.

    python benchmarks/operator_configuration.py DATASET --datalist-file DATALIST --output runs/configuration --epochs 2

Every variant is ``train.json`` with overrides, the same data, seed, number of steps and validation studies. It is
judged on the validation studies by PSNR and SSIM over whole slices, by PSNR in enhancing tissue, and by the share of
the target's enhancement that its output has there (1 is right): whole-slice numbers hide what an inversion multiplies
by one over the dose fraction. Writes ``benchmarks/results/operator_configuration.json``; a variant that has finished
is not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.metrics import enhancement_recovery, enhancing_tissue, psnr
from monai_lipcar.networks import load_weights

REPOSITORY = Path(__file__).resolve().parent.parent
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ph2l": {
        "paper: no skeleton, SSIM loss": {"skeleton": "none", "l1_weight": 0.0},
        "no skeleton, SSIM + L1": {"skeleton": "none"},
        "physics skeleton, SSIM loss": {"l1_weight": 0.0},
        "physics skeleton, SSIM + L1 (recommended)": {},
    },
    "pl2h": {
        "paper: no skeleton, SSIM loss": {"skeleton": "none", "l1_weight": 0.0},
        "no skeleton, SSIM + L1": {"skeleton": "none"},
        "extrapolation skeleton, SSIM + L1 (recommended)": {},
    },
}


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--datalist-file", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--operators", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--registration-policy", default="drop")
    results = REPOSITORY / "benchmarks" / "results" / "operator_configuration.json"
    parser.add_argument("--results", type=Path, default=results)
    arguments = parser.parse_args()

    content: dict[str, Any] = {
        "epochs": arguments.epochs,
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "operators": {},
    }
    jobs = [(operator, *variant) for operator in arguments.operators for variant in VARIANTS[operator].items()]
    for number, (operator, variant, overrides) in enumerate(tqdm(jobs, desc="variants")):
        folder = arguments.output / f"{operator}-{number}"
        options = training_options(overrides, folder, arguments)
        if not (folder / "training.json").is_file():
            train(operator, options, folder)
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        row = {**record["validation"], **judge(operator, options, folder), "iterations": record["iterations"]}
        row = {name: round(value, 4) for name, value in row.items()}
        content["operators"].setdefault(operator, {})[variant] = row
        logging.info("%s, %s: %s", operator, variant, row)
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def training_options(overrides: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Overrides of ``train.json``; the preprocessed slices are shared by all variants."""
    options = {
        "dataset_dir": str(arguments.dataset.resolve()),
        "output_dir": str(folder.resolve()),
        "cache_dir": str((arguments.output / "cache").resolve()),
        "epochs": arguments.epochs,
        "val_interval": arguments.epochs,
        "registration_policy": arguments.registration_policy,
        **overrides,
    }
    if arguments.datalist_file:
        options["datalist_file"] = str(arguments.datalist_file.resolve())
    return options


def train(operator: str, options: dict[str, Any], folder: Path) -> None:
    """Run the operator's ``train.json`` with overrides."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    command.append(str(REPOSITORY / "bundles" / operator / "configs" / "train.json"))
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)


def judge(operator: str, options: dict[str, Any], folder: Path) -> dict[str, float]:
    """PSNR and share of the target's enhancement, in the enhancing tissue of all validation slices."""
    parser = ConfigParser()
    parser.read_config(str(REPOSITORY / "bundles" / operator / "configs" / "train.json"))
    parser.update(options)
    parser["bundle_root"] = str(REPOSITORY / "bundles" / operator)
    network = load_weights(parser.get_parsed_content("network_def"), folder / "model.pt").eval()
    # the members by name: a network without the pre-dose image has no pre in its samples
    crop = {**parser["validate#preprocessing#transforms"][0], "keys": ["pre", "low", "high"]}
    parser["validate#preprocessing#transforms"] = [crop]
    parser["validate#dataset#keys"] = crop["keys"]
    members: dict[str, list[torch.Tensor]] = {"pre": [], "low": [], "high": [], "output": []}
    inputs = {"ph2l": ("pre", "high"), "pl2h": ("pre", "low"), "h2l": ("high",), "l2h": ("low",)}[operator]
    for sample in parser.get_parsed_content("validate#dataset"):
        with torch.inference_mode():
            output = network(torch.cat([sample[name] for name in inputs])[None].float())[0]
        for name, image in (*sample.items(), ("output", output)):
            if name in members:
                members[name].append(image.as_subclass(torch.Tensor)[0])
    pre, low, high, result = (torch.stack(members[name]) for name in ("pre", "low", "high", "output"))
    enhancing = enhancing_tissue(pre, high)
    target = low if operator.endswith("h2l") else high
    return {
        "psnr_enhancing": psnr(result, target, enhancing),
        "enhancement_recovery": enhancement_recovery(result, pre, target, enhancing),
    }


if __name__ == "__main__":
    main()
