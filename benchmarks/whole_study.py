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
"""A whole study through the bundle ``ph2l_gentv`` as it is, with ``--precision auto``, and with the published solver.

    python benchmarks/whole_study.py --output runs/whole_study

Simulates a head of 24 slices of 256x256 that no training has seen, and runs ``python -m monai.bundle run`` on it in a
process of its own for each, from the command to the files, start-up included. ``--precision auto`` is left out where
the device is not faster in bfloat16. What is finished is kept in the output
folder, so that an interrupted run goes on with what is missing; a new folder starts anew. Writes
``benchmarks/results/whole_study.json``, which ``docs/solvers.md`` shows after ``benchmarks/publish.py``. With
``--slices`` the study has only its middle slices, which the published solver needs less time for.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # run as a script, too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, which reads it when it is loaded

import torch  # noqa: E402
from monai.transforms import LoadImage  # noqa: E402

import monai_lipcar  # noqa: E402
from benchmarks.paper.parts import Parts  # noqa: E402
from benchmarks.race import machine  # noqa: E402
from benchmarks.solver import rounded  # noqa: E402
from monai_lipcar.bundle import bundle_root, checksum, find_weights  # noqa: E402
from monai_lipcar.data import find_studies  # noqa: E402
from monai_lipcar.data.atomic import write_json  # noqa: E402
from monai_lipcar.data.geometry import slice_axis, take_slices  # noqa: E402
from monai_lipcar.data.output import write_volume  # noqa: E402
from monai_lipcar.data.phantom import write_cohort  # noqa: E402
from monai_lipcar.networks import has_fast_bfloat16  # noqa: E402

BUNDLE = "ph2l_gentv"
VARIANTS: dict[str, dict[str, str]] = {
    "proximal": {"solver": "proximal", "precision": "float32"},
    "proximal, precision auto": {"solver": "proximal", "precision": "auto"},
    "paper": {"solver": "paper", "precision": "float32"},
}
"""Options of the bundle; the published solver takes longest."""
ANATOMY: tuple[str, dict[str, Any]] = ("mni152", {"shape": (256, 256, 24)})
SEED = 2407
"""The paper's test cohort's: no training of the shipped weights used it."""
FORMAT = 2
"""Raise when what a row holds changes meaning."""
logger = logging.getLogger(__name__)


def write_study(output: Path, slices: int, anatomy: tuple[str, dict[str, Any]] = ANATOMY) -> Path:
    """Dataset folder with the pre- and low-dose image of one head; its middle slices, if it has more."""
    name, options = anatomy
    dataset = output / f"{slices}-slices"
    whole = output / "cohort"
    write_cohort(whole, name, 1, seed=SEED, anatomy_options=options)
    (study,) = find_studies(whole, ("pre", "low"))
    for member in ("pre", "low"):
        volume = LoadImage(image_only=True, ensure_channel_first=True)(str(study.members[member]))
        axis = slice_axis(volume.affine, volume.shape[1:])
        size = volume.shape[1 + axis]
        if slices > size:
            raise SystemExit(f"--slices: expected at most {size}, got {slices}")
        folder = dataset / study.study_id
        folder.mkdir(parents=True, exist_ok=True)
        write_volume(take_slices(volume, size // 2, slices, axis), folder / f"{member}.nii.gz")
    return dataset


def measure(dataset: Path, output: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the bundle in a process of its own: what it took, and what it says of the study."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--overwrite", "true"]
    command += ["--config_file", f"{bundle_root(BUNDLE)}/configs/inference.json"]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(output)]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode} of {' '.join(command)}")
    (file,) = output.glob("*/result.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        "study_seconds": record["seconds"],
        "solver": record["solver"],
        "status": record["status"],
        "network_evaluations": record["network_evaluations"],
        "objective": record["objective"]["last"],
    }


def run(chosen: argparse.Namespace, anatomy: tuple[str, dict[str, Any]] = ANATOMY) -> dict[str, Any]:
    """Run what is missing, and write what was found."""
    output = chosen.output.resolve()
    dataset = write_study(output, chosen.slices, anatomy)
    parts = Parts(output / "parts")
    guess = find_weights(bundle_root(BUNDLE), "pl2h", "guess_model.pt")
    settings: dict[str, Any] = {
        "machine": machine.describe(),
        "version": monai_lipcar.__version__,
        "weights": {"ph2l": checksum(find_weights(bundle_root(BUNDLE), "ph2l")), "pl2h": checksum(guess)},
        "slices": chosen.slices,
        "options": chosen.options,
    }
    content: dict[str, Any] = {**settings, "rows": {}}
    for variant in chosen.variants:
        options = VARIANTS[variant]
        if options["precision"] == "auto" and not has_fast_bfloat16(torch.device(chosen.options.get("device", "cpu"))):
            logger.warning("%s: left out, this device is not faster in bfloat16", variant)
            continue
        key = {"format": FORMAT, **options, "anatomy": list(anatomy), "torch": torch.__version__, **settings}
        row = parts.find(key)
        if not row:
            row = measure(dataset, output / "results" / variant.replace(", ", "-"), {**chosen.options, **options})
            parts.store(key, row)
        content["rows"][variant] = dict(row)
        logger.info("%s: %s", variant, json.dumps(rounded(row)))
        if "paper" in content["rows"]:
            for one in content["rows"].values():
                one["times_faster"] = content["rows"]["paper"]["seconds"] / one["seconds"]
        chosen.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(chosen.results, rounded(content))
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the study and of what is finished")
    parser.add_argument("--slices", type=int, default=24, help="in the middle of the study")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--device", default="cpu")
    results = REPOSITORY / "benchmarks" / "results" / "whole_study.json"
    parser.add_argument("--results", type=Path, default=results)
    chosen = parser.parse_args(arguments)
    chosen.options = {"device": chosen.device}
    run(chosen)


if __name__ == "__main__":
    main()
