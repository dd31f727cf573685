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
"""What the page of a study says: numbers with their meaning, places, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing

from monai_lipcar.metrics import not_judged
from monai_lipcar.metrics.verdict import HEAD_LIMIT, UNTRUSTED_LIMIT, WINDOW_LIMIT
from monai_lipcar.networks import file_sha256
from monai_lipcar.transforms.domain_features import FEATURES, side_of_range

from .lesions import lesion_rows
from .plots import convergence_plot, residual_plot
from .view import StudyView
from .viewer import make_viewer
from .words import (
    CERTIFICATES,
    EXPLANATIONS,
    LESION_SIZE_NAMES,
    METRIC_NAMES,
    PLACES,
    STATUSES,
    metric_text,
    plain_number,
)

__all__ = ["page_content", "verdict_of"]

_BY_SIZE = (
    *("visible_lesions", "missed_lesions", "cnr_lesion", "lbr_lesion", "cep_lesion"),
    *("enhancement_slope_lesion", "enhancement_bias_lesion", "false_enhancement_per_cm3"),
)
_RESULT_FILES = ("high_sim.nii.gz", "low_sim.nii.gz", "residual.nii.gz")


def verdict_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict in a result's record, or that there is none: formats before 1.4 have none."""
    verdict: dict[str, Any] = record.get("verdict") or not_judged(
        "the result was made by a version that did not judge; run it again with --overwrite"
    )
    return verdict


def page_content(view: StudyView, folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of a study's page asks for.

    Args:
        view: the volumes.
        folder: of the result.
        record: of the result.

    Returns:
        Names of the template and their values.
    """
    metrics = record.get("metrics") or {}
    known = {name for row in metrics.values() for name in row}
    verdict = verdict_of(record)
    images: dict[str, np.ndarray] = {
        name: view.images[name] for name in ("pre", "low", "simulated", "high") if name in view.images
    }
    spacing = [float(step) for step in affine_to_spacing(view.affine)]
    return {
        "record": record,
        "forward": (folder / "low_sim.nii.gz").is_file(),
        "verdict": verdict,
        "places": [_place(place, view) for place in verdict["places"]],
        "tiles": _tiles(record, verdict),
        "viewer": make_viewer(view.rows, view.axis, view.affine, _marked(verdict, view)),
        "columns": max(len(row) for row in view.rows),
        "first_slice": 1 + (verdict["places"][0]["slice"] if verdict["places"] else view.index),
        "plots": _plots(record, verdict),
        "facts": _facts(record),
        "metrics": metrics,
        "metric_names": {key: label for key, label in METRIC_NAMES.items() if key in known},
        "by_size": _by_size(metrics),
        "sizes": LESION_SIZE_NAMES,
        "text": metric_text,
        "lesions": [] if view.lesion is None else lesion_rows(view.lesion, images, view.axis, spacing),
        "registration": _registration(record.get("registration") or {}),
        "domain": _domain(record.get("domain") or {}),
        "hashes": _hashes(folder, record),
    }


def _by_size(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Labels of what the record says of small and of large lesions; nothing where no lesion is marked."""
    if not any(f"visible_lesions_{size}" in row for row in metrics.values() for size in LESION_SIZE_NAMES):
        return {}
    known = {name for row in metrics.values() for name in row}
    return {
        name: METRIC_NAMES[name] for name in _BY_SIZE if any(f"{name}_{size}" in known for size in LESION_SIZE_NAMES)
    }


def _box(place: Mapping[str, Any], axis: int) -> tuple[slice, slice, slice]:
    """A place's voxels in the volume: the verdict is about slices first."""
    box = [slice(*place["rows"]), slice(*place["columns"])]
    box.insert(axis, slice(place["slice"], place["slice"] + 1))
    return box[0], box[1], box[2]


def _marked(verdict: Mapping[str, Any], view: StudyView) -> np.ndarray | None:
    if not verdict["places"]:
        return None
    marked = np.zeros(view.images["simulated"].shape, dtype=bool)
    for place in verdict["places"]:
        marked[_box(place, view.axis)] = True
    return marked


def _place(place: Mapping[str, Any], view: StudyView) -> dict[str, Any]:
    """A place to look at, its middle as a voxel and in mm."""
    middle = [(part.start + part.stop - 1) / 2 for part in _box(place, view.axis)]
    x, y, z = (view.affine @ [*middle, 1.0])[:3]
    position = ", ".join(
        f"{abs(value):.0f} {directions[0] if value >= 0 else directions[1]}"
        for value, directions in ((x, "RL"), (y, "AP"), (z, "SI"))
    )
    return {
        "slice": place["slice"] + 1,
        "what": PLACES[place["kind"]],
        "value": place["value"],
        "voxel": [round(value) for value in middle],
        "position": position,
    }


def _tiles(record: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers to see first."""
    tiles = []
    measures = verdict["measures"]
    if "residual_head" in measures:
        tiles.append(("residual over expected, head", f"{measures['residual_head']:.2f} (limit {HEAD_LIMIT})"))
        limit = measures.get("residual_window_limit", WINDOW_LIMIT)  # formats of before have none
        tiles.append(("worst window", f"{measures['residual_window']:.2f} (limit {limit:.1f})"))
    if "untrusted_enhancement" in measures:
        share, limit = (100 * value for value in (measures["untrusted_enhancement"], UNTRUSTED_LIMIT))
        tiles.append(("enhancement not to be trusted", f"below {share:.0f} % of the tissue (limit {limit:.0f} %)"))
    if record.get("sigma") is not None:
        tiles.append(("noise level sigma", f"{record['sigma']:.4f}"))
    if record.get("alpha") is not None:
        tiles.append(("alpha", f"{record['alpha']:g}"))
    if record.get("status"):
        tiles.append(("solver", record["status"].replace("_", " ")))
    shifts = (record.get("registration") or {}).get("shift_mm") or {}
    if shifts:
        name = max(shifts, key=lambda key: float(shifts[key]))
        tiles.append(("largest displacement found", f"{shifts[name]:.2f} mm ({name})"))
    return tiles


def _plots(record: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, str]:
    plots = {}
    slices = verdict.get("slices") or {}
    if slices:
        plots["Residual over the expected one, slice by slice"] = residual_plot(
            slices["residual_head"],
            slices["residual_window"],
            HEAD_LIMIT,
            verdict["measures"].get("residual_window_limit", WINDOW_LIMIT),
        )
    if (record.get("history") or {}).get("objective"):
        plots["Objective over the iterations of the solver"] = convergence_plot(record["history"])
    return plots


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of the numbers of a computation."""
    facts = []

    def add(key: str, label: str, value: str) -> None:
        facts.append((label, value, EXPLANATIONS[key]))

    if record.get("sigma") is not None:
        add("sigma", "sigma: noise level of the low dose", f"{record['sigma']:.4f}")
    if record.get("scale"):
        add("scale", "scale", f"{record['scale']:.5g}")
    if record.get("solver"):
        add("alpha", "alpha", f"{record['alpha']:g}")
        if choice := record.get("alpha_choice"):
            reached = f"{choice['wanted']:.4f} expected, {choice['reached']:.4f} found"
            add("alpha_choice", "alpha from the noise", reached)
        if guess := record.get("guess_choice"):
            parts = f"{guess['end_to_end']:.2f} end-to-end, {guess['pre']:.2f} before contrast"
            add("guess_choice", "guess from the noise", parts)
        evaluations = f", {record['network_evaluations']} evaluations" if "network_evaluations" in record else ""
        add("solver", "solver", f"{record['solver']['name']}, {record['iterations']} iterations{evaluations}")
        facts.append(("status", record["status"].replace("_", " "), STATUSES.get(record["status"], "")))
        first, last = record["objective"]["first"], record["objective"]["last"]
        add("objective", "objective", f"{first:.4g} → {last:.4g}")
        add("discrepancy", "discrepancy", f"{record['discrepancy']:.4f}")
        for name, value in record["certificate"].items():
            if value is not None:
                label = f"certificate: {name.replace('_', ' ')}"
                facts.append((label, f"{value:.3g} in the worst slice", CERTIFICATES.get(name, "")))
    add("seconds", "time", f"{record['seconds']:.1f} s on {record['device']}")
    return facts


def _registration(registration: Mapping[str, Any]) -> dict[str, str]:
    """What the registration check found of each member, in a line."""
    lines = {}
    for name, shift in (registration.get("shift_mm") or {}).items():
        rotation = registration["rotation_deg"][name]
        line = f"{shift:.2f} mm, {rotation:.2f}° against {registration['reference']}"
        if (registration.get("registered") or {}).get(name):
            line += ", after registration"
            undone = (registration.get("registered_mm") or {}).get(name)
            if undone is not None:
                line += f" (undone: {undone:.2f} mm, {registration['registered_deg'][name]:.2f}°)"
        line += f" (tolerated: {registration['tolerance_mm']:.2f} mm, {registration['tolerance_deg']:.2g}°)"
        if (registration.get("refined") or {}).get(name):
            line += f"; undone to a precision of {registration['left_mm'][name]:.2g} mm"
        similarity = [value for value in (registration.get("similarity") or {}).get(name, ()) if value is not None]
        if similarity:
            line += f"; similarity of the slices {min(similarity):.2f} to {max(similarity):.2f}"
        lines[name] = line
    return lines


def _domain(domain: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Label, value and range of what was compared with the studies of the training, and whether it is out of range."""
    rows = []
    measures = domain.get("measures") or {}
    for name, (low, high) in (domain.get("ranges") or {}).items():
        if name not in measures or name not in FEATURES:
            continue
        bounds = (("from", low), ("up to", high)) if None in (low, high) else (("from", low), ("to", high))
        text = " ".join(f"{word} {plain_number(value)}" for word, value in bounds if value is not None)
        outside = side_of_range(measures[name], (low, high))
        rows.append((FEATURES[name].label, plain_number(measures[name]), text, bool(outside)))
    return rows


def _hashes(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of what the result was made with, and of its files as they are now."""
    configuration = record.get("configuration") or {}
    made_with = {
        name.replace("_", " "): configuration[name] for name in ("weights", "guess_weights") if configuration.get(name)
    }
    return made_with | {name: file_sha256(folder / name) for name in _RESULT_FILES if (folder / name).is_file()}
