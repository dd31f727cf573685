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
"""All approaches on real examinations at several doses, the low dose simulated in ways that nothing was trained on.

    python -m benchmarks.real_examinations EXAMINATIONS --output runs/real --slices 4

EXAMINATIONS is a dataset folder with ``pre``, ``high`` and where there is one ``lesion`` of every study, or a JSON file
with paths that are absolute or relative to it, which can say more (``benchmarks/real_pairs.json`` is that of the
published results)::

    {"glioma": {"pre": "a/pre.nii.gz", "high": "a/high.nii.gz", "lesion": "a/labels.nii.gz", "lesion_labels": [4]},
     "whole head": {"pre": "b/pre.nii.gz", "high": "b/high.nii.gz", "center": 15, "slices": 8}}

``pre`` is registered and matched in intensity to ``high``, as whole volumes, and the low dose is made at every dose
fraction by each of the ``SIMULATIONS`` of ``monai_lipcar.simulate``. The slices are those around ``center`` or, without
it, around the one with most enhancement between pre and low, inside the lesions where there are any; they are the same
for all doses and simulations. Every approach runs as a bundle, exactly as its user runs it; linear extrapolation, of
the low dose as it is and after a denoiser, stands beside them. An approach whose weights were not trained for a dose
has ``null`` there.

Writes ``benchmarks/results/real_examinations.json``, and a figure of every examination, dose and simulation into the
output folder. What has been computed is not computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from tqdm import tqdm

import monai_lipcar
from benchmarks.bundles import ADAPTIVE, folder_of, name_and_options, solver_of
from benchmarks.examinations import Examination, read_examinations, read_lesion
from benchmarks.scoring import load_scaled, score
from monai_lipcar.bundle import bundle_root, checksum, find_weights, run_bundle
from monai_lipcar.data import find_studies
from monai_lipcar.data.geometry import slice_axis, take_slices
from monai_lipcar.data.output import StudyOutput, write_volume
from monai_lipcar.errors import WeightsError
from monai_lipcar.physics import linear_extrapolation
from monai_lipcar.report import Panel, best_slice, study_figure
from monai_lipcar.simulate import SIMULATIONS, Simulation, pair_transform
from monai_lipcar.transforms import DenoiseSlices
from monai_lipcar.transforms.denoisers import Method

logger = logging.getLogger("real_examinations")

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLES = {
    "l2h": "NN-L2H",
    "pl2h": "NN-PL2H",
    "h2l_tv": "LIP-H2L-TV",
    "ph2l_tv": "LIP-PH2L-TV",
    "ph2l_gentv": "LIP-PH2L-GenTV",
    "physics_tv": "physics-TV",
    "physics_tv --alpha auto": "physics-TV, auto",
    "ph2l_gentv --alpha auto": "LIP-PH2L-GenTV, auto",
    ADAPTIVE: "LIP-PH2L, adaptive",
}
"""What the figures call the bundles, some with options."""
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")
DOSES = (0.1, 0.2, 0.33)
CHOOSING = next(iter(SIMULATIONS))
"""The low dose that the slices are chosen on, whichever doses and simulations are asked for."""
DONE_ON_WHOLE_VOLUMES = {"registration_policy": "none", "match_intensity": False}
RECORD = "examination.json"

Rows = dict[str, dict[str, float] | None]


def prepare(
    examination: Examination, folders: Mapping[tuple[str, float], Path], slices: int, noise_level: float
) -> dict[str, Any]:
    """Write the examination into the dataset folder of every simulation and dose, where it is not there yet.

    Returns:
        What was written: ``"first_slice"``, ``"slices"``, ``"center"`` and whether there is a ``"lesion"``.

    Raises:
        SystemExit: it is there, but made with other options; or the lesion is on another grid.
    """
    count = examination.slices or slices
    wanted: dict[str, Any] = {
        "pre": str(examination.pre),
        "high": str(examination.high),
        "lesion": str(examination.lesion) if examination.lesion else None,
        "lesion_labels": list(examination.lesion_labels or ()),
        "wanted_slices": count,
        "wanted_center": examination.center,
        "noise_level": noise_level,
    }
    records, missing = [], []
    for key, dataset in folders.items():
        file = dataset / examination.study_id / RECORD
        if not file.is_file():
            missing.append(key)
            continue
        records.append(json.loads(file.read_text(encoding="utf-8")))
        if {name: records[-1].get(name) for name in wanted} != wanted:
            raise SystemExit(f"{file.parent} was made with other options; delete it, or choose another --output")
    if not missing:
        return dict(records[0])
    paths = {"study_id": examination.study_id, "pre": str(examination.pre), "high": str(examination.high)}
    pair = pair_transform(contrast_mm=8.0)(paths)
    volumes: dict[str, MetaTensor] = {"pre": pair["pre"], "high": pair["high"]}
    if examination.lesion is not None:
        volumes["lesion"] = read_lesion(examination, pair["high"])
    axis = slice_axis(pair["high"].affine, pair["high"].shape[1:])
    cleaned = {name: SIMULATIONS[name].clean(pair) for name in {CHOOSING, *(simulation for simulation, _ in missing)}}
    center = examination.center
    if center is None:
        low = SIMULATIONS[CHOOSING].low_dose(cleaned[CHOOSING], 0.2, noise_level)
        lesion = volumes["lesion"].as_tensor()[0].numpy() > 0 if "lesion" in volumes else None
        center = best_slice((low - pair["pre"]).as_tensor()[0].numpy(), axis, lesion)
    size = pair["high"].shape[1 + axis]
    count = min(count, size)
    first = min(max(center - count // 2, 0), size - count)
    record = {**wanted, "first_slice": first, "slices": count, "center": center - first}
    record["lesion_voxels"] = (
        int(take_slices(volumes["lesion"], center, count, axis).sum()) if "lesion" in volumes else 0
    )
    for simulation, dose_fraction in missing:
        volumes["low"] = SIMULATIONS[simulation].low_dose(cleaned[simulation], dose_fraction, noise_level)
        folder = folders[simulation, dose_fraction] / examination.study_id
        folder.mkdir(parents=True, exist_ok=True)
        for name, volume in volumes.items():
            write_volume(take_slices(volume, center, count, axis), folder / f"{name}.nii.gz")
        # last: says that all is there
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def baselines(study: Path, dose_fraction: float, denoiser: Method) -> tuple[Rows, dict[str, np.ndarray]]:
    """What needs no bundle: the low dose and its linear extrapolations, scored as the bundles score themselves.

    Returns:
        Rows of metrics, and the volumes in scanner units.
    """
    data = load_scaled(study)
    denoised = DenoiseSlices(denoiser)(data["low"])
    images = {
        "low": data["low"],
        "linear_extrapolation": linear_extrapolation(data["pre"], data["low"], dose_fraction),
        f"linear_extrapolation_{denoiser}": linear_extrapolation(data["pre"], denoised, dose_fraction),
    }
    rows: Rows = score(images, data)
    return rows, {name: image.as_subclass(torch.Tensor)[0].numpy() * data["scale"] for name, image in images.items()}


def run_approach(bundle: str, dataset: Path, output: Path, simulation: Simulation, dose_fraction: float) -> Rows:
    """The bundle's row of every study of the dataset; None for all where its weights were not trained for the dose.

    Args:
        bundle: its name, and after it perhaps options as the command line has them.
        dataset: folder of the studies.
        output: folder of the results.
        simulation: how the low dose was made, as far as the bundle is told.
        dose_fraction: of the low dose.

    Raises:
        SystemExit: a study failed; what is wrong is in the log.
        WeightsError: the weights are missing or damaged.
    """
    studies = [study.study_id for study in find_studies(dataset, ("pre", "low", "high"))]
    try:
        name, options = name_and_options(bundle)
        known = {**simulation.options(dose_fraction), **options}
        status = run_bundle(name, dataset, output, "evaluate.json", **known, **DONE_ON_WHOLE_VOLUMES)
    except WeightsError as error:
        if "dose fraction" not in str(error):  # missing, damaged, of another operator
            raise
        logger.info("%s is not trained for the dose fraction %g: %s", bundle, dose_fraction, error)
        return dict.fromkeys(studies)
    if status:
        raise SystemExit(f"{bundle}, dose fraction {dose_fraction:g}: some studies failed, see above")
    return {study: (StudyOutput(output, study).read() or {})["metrics"]["simulated"] for study in studies}


def draw(
    examination: Examination,
    study: Path,
    results: Mapping[str, Path],
    extrapolated: Mapping[str, np.ndarray],
    rows: Rows,
    place: Path,
    title: str,
) -> Path:
    """One figure: images and errors, baselines above, approaches below."""
    import nibabel as nib

    def load(path: Path) -> np.ndarray:
        return np.asarray(nib.nifti1.load(path).dataobj, dtype=np.float32)

    def note(name: str) -> str:
        row = rows[name] or {}
        place = "_lesion" if "enhancement_recovery_lesion" in row else ""
        recovery = row.get(f"enhancement_recovery{place}", float("nan"))
        return f"{row['psnr_head']:.1f} dB, recovery{place.replace('_', ' in ')} {recovery:.2f}"

    pre, low, high = (load(study / f"{name}.nii.gz") for name in ("pre", "low", "high"))
    affine = np.asarray(nib.nifti1.load(study / "low.nii.gz").affine)
    axis = slice_axis(affine, low.shape)
    above = [
        Panel("pre-dose", pre),
        Panel("acquired full dose", high),
        Panel("low dose, simulated", low, note=note("low")),
    ]
    below = [Panel("acquired enhancement", high - pre, "difference", "error"), None]
    below.append(Panel("error: low dose", low - high, "difference", "error"))
    for name, volume in extrapolated.items():
        if name == "low":
            continue
        label = name.replace("linear_extrapolation", "linear extrapolation").replace("_", ", ")
        above.append(Panel(label, volume, note=note(name), window=False))
        below.append(Panel(f"error: {label}", volume - high, "difference", "error", window=False))
    images, errors = [], []
    for name, folder in results.items():
        volume = load(folder / study.name / "high_sim.nii.gz")
        images.append(Panel(BUNDLES[name], volume, note=note(name)))
        errors.append(Panel(f"error: {BUNDLES[name]}", volume - high, "difference", "error"))
    record = json.loads((study / RECORD).read_text(encoding="utf-8"))
    shown = f"{examination.name}: {title}, slice {record['first_slice'] + record['center']}"
    return study_figure([above, below, images, errors], place, shown, record["center"], axis, affine)


def main(command_line: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examinations", type=Path, help="dataset folder or JSON file")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=4, help="slices of each examination that does not say it itself")
    parser.add_argument("--doses", nargs="+", type=float, default=list(DOSES), help="dose fractions")
    parser.add_argument("--simulations", nargs="+", choices=list(SIMULATIONS), default=list(SIMULATIONS))
    parser.add_argument("--bundles", nargs="+", choices=list(BUNDLES), default=list(BUNDLES))
    parser.add_argument("--noise-level", type=float, default=0.01, help="added noise, relative to the brightest tissue")
    default = "bm3d" if find_spec("bm3d") else "nlm"
    parser.add_argument("--denoiser", default=default, help="before linear extrapolation; bm3d if it is installed")
    results = REPOSITORY / "benchmarks" / "results" / "real_examinations.json"
    parser.add_argument("--results", type=Path, default=results)
    arguments = parser.parse_args(command_line)

    examinations = read_examinations(arguments.examinations)
    conditions = [(simulation, dose) for simulation in arguments.simulations for dose in arguments.doses]
    places = {
        (simulation, dose): arguments.output / re.sub(r"\W+", "-", simulation) / f"{dose:g}"
        for simulation, dose in conditions
    }
    datasets = {key: place / "dataset" for key, place in places.items()}
    content: dict[str, Any] = {
        "noise_level": arguments.noise_level,
        "simulations": {
            name: {key: _said(value) for key, value in vars(SIMULATIONS[name]).items()} for name in SIMULATIONS
        },
        "denoiser": arguments.denoiser,
        "versions": {module.__name__: module.__version__ for module in (monai_lipcar, monai, torch)},
        "weights": {name: checksum(find_weights(bundle_root(name), name)) for name in OPERATORS},
        "solvers": {},
        "examinations": {},
    }
    for examination in tqdm(examinations, desc="examinations"):
        record = prepare(examination, datasets, arguments.slices, arguments.noise_level)
        kept = {key: record[key] for key in ("first_slice", "slices", "lesion_voxels")}
        content["examinations"][examination.name] = {**kept, "results": {name: {} for name in arguments.simulations}}
    for simulation, dose in tqdm(conditions, desc="doses"):
        place, dataset = places[simulation, dose], datasets[simulation, dose]
        approaches = {
            name: run_approach(name, dataset, place / folder_of(name), SIMULATIONS[simulation], dose)
            for name in arguments.bundles
        }
        trained = [name for name, found in approaches.items() if any(row is not None for row in found.values())]
        content["solvers"] |= {name: solver_of(place / folder_of(name)) for name in trained}
        for examination in examinations:
            study = dataset / examination.study_id
            rows, extrapolated = baselines(study, dose, arguments.denoiser)
            rows |= {name: found[examination.study_id] for name, found in approaches.items()}
            content["examinations"][examination.name]["results"][simulation][f"{dose:g}"] = rows
            folders = {name: place / folder_of(name) for name in arguments.bundles if rows[name] is not None}
            title = f"{simulation}, dose fraction {dose:g}"
            draw(examination, study, folders, extrapolated, rows, place / f"{examination.study_id}.png", title)
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    logger.info("results: %s; figures in %s", arguments.results, arguments.output)


def _said(value: Any) -> Any:
    """An argument of a simulation as JSON says it."""
    return value if isinstance(value, (int, float)) else list(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    main()
