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
"""Report of one finished study: a figure and a self-contained HTML page."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from monai_lipcar.bundle import prepare_again
from monai_lipcar.data import Study, find_studies
from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.data.output import RESULT_FILE, StudyOutput
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.handlers import input_hashes
from monai_lipcar.physics import linear_extrapolation

from .figure import Panel, best_slice, study_figure

__all__ = ["METRIC_NAMES", "finished_studies", "study_report"]

METRIC_NAMES = {
    "ssim_head": "SSIM, head",
    "psnr_head": "PSNR, head (dB)",
    "relative_error_head": "relative error, head",
    "ssim_enhancing": "SSIM, enhancing tissue",
    "psnr_enhancing": "PSNR, enhancing tissue (dB)",
    "relative_error_enhancing": "relative error, enhancing tissue",
    "enhancement_recovery": "enhancement recovery",
    "enhancement_slope": "enhancement slope",
    "enhancement_bias": "enhancement bias",
    "psnr_lesion": "PSNR, lesion (dB)",
    "relative_error_lesion": "relative error, lesion",
    "enhancement_recovery_lesion": "enhancement recovery, lesion",
    "enhancement_slope_lesion": "enhancement slope, lesion",
    "enhancement_bias_lesion": "enhancement bias, lesion",
    "cnr_lesion": "contrast-to-noise, lesion",
    "lbr_lesion": "lesion-to-brain ratio",
    "cep_lesion": "contrast enhancement, lesion (%)",
    "visible_lesions": "visible lesions",
    "missed_lesions": "missed lesions (share)",
    "false_enhancement_per_cm3": "false enhancement (per cm³)",
    "false_enhancement_mm": "largest false enhancement (mm)",
    "false_enhancement_3mm": "false enhancement from 3 mm (share)",
    "ssim": "SSIM, whole image",
    "psnr": "PSNR, whole image (dB)",
}
_BY_SIZE = (
    *("visible_lesions", "missed_lesions", "cnr_lesion", "lbr_lesion", "cep_lesion"),
    *("enhancement_slope_lesion", "enhancement_bias_lesion", "false_enhancement_per_cm3"),
)
_SIZES = {"small": "< 5 mm", "large": "≥ 5 mm"}
_IMAGE_NAMES = {
    "low": "low dose",
    "high": "high dose",
    "linear_extrapolation": "linear extrapolation",
    "linear_dose_model": "linear dose model",
    "simulated": "simulated",
}


def finished_studies(output_dir: str | Path, dataset_dir: str | Path | None = None) -> list[Study]:
    """The inputs of finished results.

    Args:
        output_dir: folder of the results.
        dataset_dir: dataset folder, to list its studies only and take the inputs from there; by default they are
            looked for where they were, seen from ``output_dir``, when the results were made. A study whose inputs
            are not there says so when it is checked.

    Raises:
        ConfigurationError: there is no finished result, or no such dataset.
    """
    if dataset_dir is None:
        candidates = []
        for path in sorted(Path(output_dir).glob(f"*/{RESULT_FILE}")):
            record = StudyOutput(output_dir, path.parent.name).read()
            if record is not None:
                candidates.append(_recorded_study(path.parent.name, record, Path(output_dir)))
    else:
        studies = find_studies(dataset_dir, required=())
        candidates = [study for study in studies if StudyOutput(output_dir, study.study_id).read() is not None]
    if not candidates:
        raise ConfigurationError(f"no finished result in {output_dir}; expected <study_id>/{RESULT_FILE}")
    return candidates


def _recorded_study(study_id: str, record: dict[str, Any], output_dir: Path) -> Study:
    members, problems = {}, []
    for name, entry in record["inputs"].items():
        path = Path(os.path.normpath(output_dir.absolute() / entry["path"])) if entry.get("path") else None
        if path is not None and path.exists():
            members[name] = path
        else:
            problems.append(
                StudyError(
                    f"the file is not {'where it was when' if path else 'in one folder with'} the result"
                    f"{' was made' if path else ''}",
                    study=study_id,
                    member=entry["file"],
                    advice="say where the inputs are with --dataset DIR",
                )
            )
    return Study(study_id, members, tuple(problems))


def study_report(study: Study, output_dir: str | Path) -> dict[str, Path]:
    """Draw ``figure.png`` and write ``report.html`` beside a finished result.

    The figure shows the slice with the largest lesion, or without a lesion mask the one that enhances most.

    Args:
        study: the inputs.
        output_dir: folder of the results.

    Returns:
        Paths, keys ``"figure"`` and ``"report"``.

    Raises:
        StudyError: the study has no finished result there, or its inputs are not those of the result any more.
    """
    from jinja2 import Environment, PackageLoader

    output = StudyOutput(output_dir, study.study_id)
    record = output.read()
    if record is None:
        raise StudyError(f"no finished result in {output.folder}", study=study.study_id, advice="run it first")
    study.check()
    for name, entry in input_hashes(study).items():
        if entry["sha256"] != record["inputs"].get(name, entry)["sha256"]:
            raise StudyError(
                "the file has changed since the result was made",
                study=study.study_id,
                member=name,
                advice="run it again",
            )
    figure = _draw(study, output.folder, record)
    environment = Environment(loader=PackageLoader("monai_lipcar.report"), autoescape=True)
    registration = record.get("registration") or {}
    motions = {
        name: (shift, registration["rotation_deg"][name]) for name, shift in registration.get("shift_mm", {}).items()
    }
    metrics = record.get("metrics") or {}
    page = environment.get_template("study.html.j2").render(
        record=record,
        figure=base64.b64encode(figure.read_bytes()).decode(),
        metrics=metrics,
        metric_names={key: label for key, label in METRIC_NAMES.items() if any(key in row for row in metrics.values())},
        by_size=_by_size(metrics),
        sizes=_SIZES,
        text=_metric_text,
        motions=motions,
        image_names=_IMAGE_NAMES,
    )
    report = output.folder / "report.html"
    report.write_text(page, encoding="utf-8")
    return {"figure": figure, "report": report}


def _by_size(metrics: dict[str, dict[str, float]]) -> dict[str, str]:
    """Labels of what the record says of small and of large lesions; nothing where no lesion is marked."""
    if not any(f"visible_lesions_{size}" in row for row in metrics.values() for size in _SIZES):
        return {}
    known = {name for row in metrics.values() for name in row}
    return {name: METRIC_NAMES[name] for name in _BY_SIZE if any(f"{name}_{size}" in known for size in _SIZES)}


def _metric_text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.startswith("visible_lesions"):
        return f"{value:.0f}"
    if "psnr" in name:
        return f"{value:.2f}"
    return f"{value:.1f}" if name.startswith("cep_lesion") or name.endswith("_mm") else f"{value:.3f}"


def _draw(study: Study, folder: Path, record: dict[str, Any]) -> Path:
    from monai.transforms import LoadImage

    load = LoadImage(image_only=True, ensure_channel_first=True)
    # registered, matched and denoised as they were for the computation, in the units of the result
    prepared = prepare_again(study, record)
    members: dict[str, MetaTensor] = {name: prepared[name] for name in ("pre", "low", "high") if name in prepared}
    volumes = {name: np.asarray(volume)[0] * prepared["scale"] for name, volume in members.items()}
    forward = (folder / "low_sim.nii.gz").is_file()
    reference = members[("pre" if "pre" in members else "high") if forward else "low"]
    simulated = np.asarray(load(folder / ("low_sim.nii.gz" if forward else "high_sim.nii.gz")))[0]
    residual_file = folder / "residual.nii.gz"
    affine = np.asarray(reference.affine)
    axis = slice_axis(affine, simulated.shape)
    metrics = record.get("metrics") or {}

    def note(image: str) -> str:
        row = metrics.get(image, {})
        return f"SSIM {row['ssim_head']:.3f}, {row['psnr_head']:.1f} dB" if "ssim_head" in row else ""

    pre = volumes.get("pre")
    target = volumes.get("low" if forward else "high")
    first = []
    if pre is not None:
        first.append(Panel("pre-dose", pre))
    if forward:
        first.append(Panel("high dose", volumes["high"], note=note("high")))
        first.append(Panel("simulated low dose", simulated, note=note("simulated")))
    else:
        first.append(Panel("low dose (observed)", volumes["low"], note=note("low")))
        if pre is not None:
            fraction = float(record.get("configuration", {}).get("dose_fraction", 0.2))
            linear = _linear(pre, volumes["low"], fraction)
            first.append(Panel("linear extrapolation", linear, note=note("linear_extrapolation"), window=False))
        first.append(Panel("simulated high dose", simulated, note=note("simulated")))
    if target is not None:
        first.append(Panel(f"acquired {'low' if forward else 'high'} dose", target))
    second = []
    if pre is not None:
        second.append(Panel("simulated enhancement", simulated - pre, "difference", "enhancement"))
        if target is not None:
            second.append(Panel("acquired enhancement", target - pre, "difference", "enhancement"))
    if target is not None:
        second.append(Panel("error: simulated - acquired", simulated - target, "difference", "enhancement"))
    if residual_file.is_file():
        residual = np.asarray(load(residual_file))[0]
        second.append(Panel("residual: not explained", residual, "difference", "residual"))
    baseline = pre if pre is not None else volumes["high" if forward else "low"]
    shown = volumes.get("high" if forward else "low", simulated) - baseline if pre is not None else simulated
    index = best_slice(shown, axis)
    if "lesion" in prepared:
        lesion = np.asarray(prepared["lesion"])[0]
        if lesion.shape == shown.shape and lesion.any():
            index = int(np.argmax(lesion.sum(axis=tuple(other for other in range(3) if other != axis))))
    heading = f"{study.study_id}: {record['bundle']['name']}, slice {index + 1} of {simulated.shape[axis]}"
    rows = [first, second] if second else [first]
    return study_figure(rows, folder / "figure.png", heading, index, axis, affine)


def _linear(pre: np.ndarray, low: np.ndarray, fraction: float) -> np.ndarray:
    import torch

    return linear_extrapolation(torch.from_numpy(pre), torch.from_numpy(low), fraction).numpy()
