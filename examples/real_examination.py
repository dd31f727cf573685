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
"""A real examination: simulate its low dose, get the full dose back in three ways, and judge the result.

Routine examinations have an image before contrast and one at full dose, but no low dose. This example takes such a
pair, matches the intensities, makes the low dose through the signal equation, computes the full dose with
``ph2l_gentv``, ``ph2l_tv`` and ``physics_tv``, and draws everything in one figure with its numbers.

The low dose is made with another sequence and another contrast agent than those of the operators' training data and
of the physics operator, and with a native T1 of its own in every voxel, so that the result is not judged with the very
model that made the data. ``--simulation`` chooses another of the ways in ``monai_lipcar.simulate``.

    python examples/real_examination.py --pre pre.nii.gz --high high.nii.gz --output output/real --slices 8
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from monai_lipcar.bundle import run_bundle
from monai_lipcar.data.geometry import slice_axis, take_slices
from monai_lipcar.data.output import StudyOutput, write_volume
from monai_lipcar.report import METRIC_NAMES, Panel, best_slice, study_figure
from monai_lipcar.simulate import SIMULATIONS, pair_transform

BUNDLES = {"ph2l_gentv": "LIP-PH2L-GenTV", "ph2l_tv": "LIP-PH2L-TV", "physics_tv": "physics-TV"}
SHOWN = (
    "ssim_head",
    "psnr_head",
    "relative_error_head",
    "ssim_enhancing",
    "psnr_enhancing",
    "relative_error_enhancing",
    "enhancement_recovery",
)


def prepare(
    pre: Path,
    high: Path,
    folder: Path,
    dose_fraction: float,
    noise_level: float,
    simulation: str,
    slices: int | None = None,
    center: int | None = None,
) -> None:
    """Write ``pre``, ``low`` and ``high`` of the examination, intensities matched, into a dataset folder."""
    pair = pair_transform(contrast_mm=8.0)({"study_id": folder.name, "pre": str(pre), "high": str(high)})
    make = SIMULATIONS[simulation]
    low = make.low_dose(make.clean(pair), dose_fraction, noise_level)
    volumes = {"pre": pair["pre"], "low": low, "high": pair["high"]}
    if slices is not None:
        axis = slice_axis(volumes["pre"].affine, volumes["pre"].shape[1:])
        # chosen on what a low-dose examination has: the full dose is only for judging
        if center is None:
            center = best_slice((volumes["low"] - volumes["pre"]).as_tensor()[0].numpy(), axis)
        volumes = {name: take_slices(volume, center, slices, axis) for name, volume in volumes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, volume in volumes.items():
        write_volume(volume, folder / f"{name}.nii.gz")


def main() -> None:
    """Run the example."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pre", type=Path, required=True, help="image before contrast")
    parser.add_argument("--high", type=Path, required=True, help="image at full dose, registered to it")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--name", default="examination", help="what to call it")
    parser.add_argument("--dose-fraction", type=float, default=0.2)
    parser.add_argument("--noise-level", type=float, default=0.01, help="relative to the brightest tissue")
    default = next(iter(SIMULATIONS))
    parser.add_argument("--simulation", default=default, choices=list(SIMULATIONS), help="how the low dose is made")
    parser.add_argument("--slices", type=int, default=8, help="slices with most enhancement to work on; 0 for all")
    parser.add_argument("--center", type=int, help="slice in the middle of them, instead of the most enhancing one")
    parser.add_argument("--bundles", nargs="+", default=list(BUNDLES), choices=list(BUNDLES))
    arguments = parser.parse_args()

    dataset = arguments.output / "dataset"
    study = dataset / arguments.name
    if not (study / "low.nii.gz").exists():
        slices = arguments.slices or None
        low_dose = (arguments.dose_fraction, arguments.noise_level, arguments.simulation)
        prepare(arguments.pre, arguments.high, study, *low_dose, slices, arguments.center)
    table: dict[str, dict[str, float]] = {}
    for bundle in tqdm(arguments.bundles, desc="bundles"):
        status = run_bundle(
            bundle,
            dataset,
            arguments.output / bundle,
            "evaluate.json",
            **SIMULATIONS[arguments.simulation].options(arguments.dose_fraction),  # known at the scanner
            registration_policy="none",  # both done above, on the whole volumes
            match_intensity=False,
        )
        if status:
            raise SystemExit(status)  # the reason is in the log
        metrics = (StudyOutput(arguments.output / bundle, arguments.name).read() or {})["metrics"]
        table |= {"low": metrics["low"], "linear_extrapolation": metrics["linear_extrapolation"]}
        table[bundle] = metrics["simulated"]
    (arguments.output / "metrics.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    figure = draw(study, arguments.output, arguments.bundles, arguments.dose_fraction, table)
    lines = ["image".ljust(24) + "".join(METRIC_NAMES[name].rjust(34) for name in SHOWN)]
    for image, row in table.items():
        lines.append(image.ljust(24) + "".join(f"{row[name]:34.3f}" if name in row else " " * 34 for name in SHOWN))
    logging.info("%s\nfigure: %s", "\n".join(lines), figure)


def draw(
    study: Path, output: Path, bundles: list[str], dose_fraction: float, table: dict[str, dict[str, float]]
) -> Path:
    """One figure: the images, their errors, and the residuals of the inverse problems."""
    import nibabel as nib

    def load(path: Path) -> np.ndarray:
        return np.asarray(nib.nifti1.load(path).dataobj, dtype=np.float32)

    pre, low, high = (load(study / f"{name}.nii.gz") for name in ("pre", "low", "high"))
    affine = np.asarray(nib.nifti1.load(study / "low.nii.gz").affine)
    axis = slice_axis(affine, low.shape)
    linear = pre + (low - pre) / dose_fraction
    results = {bundle: load(output / bundle / study.name / "high_sim.nii.gz") for bundle in bundles}
    residuals = {bundle: load(output / bundle / study.name / "residual.nii.gz") for bundle in bundles}

    def note(name: str) -> str:
        row = table[name]
        return f"{row['psnr_head']:.1f} dB, recovery {row.get('enhancement_recovery', float('nan')):.2f}"

    rows: list[list[Panel | None]] = [
        [
            Panel("pre-dose", pre),
            Panel("low dose, simulated", low, note=note("low")),
            Panel("linear extrapolation", linear, note=note("linear_extrapolation"), window=False),
            *(Panel(BUNDLES[bundle], results[bundle], note=note(bundle)) for bundle in bundles),
            Panel("acquired full dose", high),
        ],
        [
            Panel("acquired enhancement", high - pre, "difference", "error"),
            Panel("error: low dose", low - high, "difference", "error"),
            Panel("error: linear extrapolation", linear - high, "difference", "error", window=False),
            *(Panel(f"error: {BUNDLES[bundle]}", results[bundle] - high, "difference", "error") for bundle in bundles),
        ],
        [
            None,
            None,
            None,
            *(Panel(f"residual: {BUNDLES[bundle]}", residuals[bundle], "difference", "residual") for bundle in bundles),
        ],
    ]
    index = best_slice(low - pre, axis)
    title = f"{study.name}: dose fraction {dose_fraction:g}, slice {index + 1} of {low.shape[axis]}"
    return study_figure(rows, output / "figure.png", title, index, axis, affine)


if __name__ == "__main__":
    main()
