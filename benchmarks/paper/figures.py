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
"""The figures: operators' errors, images of the approaches, noise, box plots, theory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from monai_lipcar.data.atomic import replacing
from monai_lipcar.metrics import psnr, ssim
from monai_lipcar.report import Panel, study_figure

from .approaches import APPROACHES, LEARNED, OPERATORS
from .parts import digest
from .plan import Plan
from .protocols import COMPARED
from .slices import Sample

__all__ = ["draw", "example"]

COLORS = {
    **{"low": "0.6", "linear_extrapolation": "0.35", "physics_tv": "tab:green", "nn_l2h": "tab:red"},
    **{"nn_pl2h": "tab:orange", "lip_h2l_tv": "tab:purple", "lip_ph2l_tv": "tab:blue", "lip_ph2l_gentv": "tab:cyan"},
}
MARKERS = dict(zip(APPROACHES, "xX^ovsDP", strict=True))
EXAMPLES = 30
"""Test slices that an example is chosen from."""
ERROR_LIMIT = 0.15
"""End of the color scale of the errors: the largest, of enhancement that is missed, would hide all others."""
ZOOM = 56
"""Side of the square around a lesion, in pixels."""
RULE_LINES = {"validation": "-", "schedule": "--", "auto": ":"}
RULE_LEGEND = {
    "validation": "chosen on validation slices (solid)",
    "schedule": "of the schedule (dashed)",
    "auto": "by the noise of the slice (dotted)",
}
CELL_METRICS = {"ssim_head": "SSIM, head", "ssim": "SSIM, whole image"}


def draw(plan: Plan, content: dict[str, Any]) -> list[Path]:
    """Draw what can be drawn of what is finished; returns the files."""
    folder = plan.settings.images
    folder.mkdir(parents=True, exist_ok=True)
    files = [*_operators(plan, folder), *_theory(content["theory"], folder)]
    for anatomy in plan.anatomies:
        files += [*_noise(plan, content, anatomy, folder), *_boxes(plan, anatomy, folder)]
        for tumor in (True, False):
            files += _example(plan, anatomy, tumor, folder)
        files += _zoom(plan, anatomy, folder)
    return files


def example(plan: Plan, anatomy: str, tumor: bool) -> str:
    """The slice that the figures show: the largest lesion, or without a lesion the largest head, of some slices."""
    slices = plan.evaluator.slices[anatomy]["test"].first(EXAMPLES)
    samples = slices.load(slices.names)
    lesions = [float(sample["lesion"].sum()) for sample in samples]
    heads = [float(sample["head"].sum()) * (lesion == 0) for sample, lesion in zip(samples, lesions, strict=True)]
    return slices.names[int(np.argmax(lesions if tumor else heads))]


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, folder: Path, name: str) -> list[Path]:
    """As PNG for pages, and as SVG."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "paper"}):  # the same file when drawn again
        figure.savefig(files[0], dpi=130)
        figure.savefig(files[1], metadata={"Date": None})
    return files


def _operators(plan: Plan, folder: Path) -> list[Path]:
    """Figure 3: relative error of every image, clean and with noise on the input."""
    level = plan.settings.operator_level
    anatomy = plan.anatomies[0]
    figure = _figure(11, 5.2)
    axes = figure.subplots(2, 4, sharey="row")
    for row, noise in enumerate((0.0, level)):
        for column, operator in enumerate(OPERATORS):
            place = axes[row, column]
            for section, color in (("training", "tab:blue"), ("test", "tab:orange")):
                names = plan.names(anatomy) if section == "test" else plan.training_names(anatomy)
                rows = plan.evaluator.rows(plan.operator_job(anatomy, operator, "low", section, noise), names)
                if not rows:
                    return []
                values = [entry["relative_error"] for entry in rows.values()]
                mean = round(float(np.mean(values)), 4)  # as the tables round it, before they show three digits
                place.plot(values, ".", color=color, markersize=3, alpha=0.7, label=f"{section}: mean {mean:.3f}")
                place.axhline(mean, color=color, linewidth=1)
            place.set_title(f"{operator.upper()}, {'clean input' if noise == 0 else f'noise {noise:g} on the input'}")
            place.legend(fontsize=7, loc="upper right")
            if column == 0:
                place.set_ylabel("relative error, whole image")
            if row == 1:
                place.set_xlabel("image")
    for places in axes:
        places[0].set_ylim(0, 1.3 * places[0].get_ylim()[1])  # room for the legends
    return _save(figure, folder, "operators")


def _noise(plan: Plan, content: dict[str, Any], anatomy: str, folder: Path) -> list[Path]:
    """Figure 7: SSIM against the noise level, alpha in three ways."""
    cells = [
        cell
        for cell in content["cells"]
        if (cell["table"], cell["cohort"]) == ("figure 7", anatomy) and cell["ours"] is not None
    ]
    if not cells:
        return []
    figure = _figure(10, 7.5)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, (metric, title) in enumerate(CELL_METRICS.items()):
        for column, protocol in enumerate(COMPARED):
            place = axes[row, column]
            for approach, details in APPROACHES.items():
                # what has no alpha stands under the schedule
                rules = ("schedule",) if details.bundle is None else tuple(RULE_LINES)
                for rule in rules:
                    points = [
                        (cell["noise_level"], cell["ours"])
                        for cell in cells
                        if (cell["metric"], cell["row"]) == (metric, approach)
                        if (cell["protocol"], cell["alpha_rule"]) == (protocol, rule)
                    ]
                    first = rule == rules[0]
                    look = {"color": COLORS[approach], "marker": MARKERS[approach], "linewidth": 1.4, "markersize": 5}
                    line = "-" if first else RULE_LINES[rule]
                    look |= {"label": details.label} if first else {"linestyle": line, "markerfacecolor": "none"}
                    if approach == "nn_pl2h":  # would be hidden under LIP-PH2L-GenTV, which follows it under noise
                        look |= {"markerfacecolor": "none", "markersize": 9, "zorder": 3}
                    place.plot([level for level, _ in points], [value for _, value in points], **look)
            place.grid(alpha=0.3)
            place.set_title(_protocol_title(plan, protocol), fontsize=10)
            if column == 0:
                place.set_ylabel(title)
            if row == 1:
                place.set_xlabel("noise level (standard deviation, images in [0, 1])")
    count = len(plan.names(anatomy, count=plan.settings.sweep_slices))
    rules_shown = {cell["alpha_rule"] for cell in cells if APPROACHES[cell["row"]].bundle is not None}
    alphas = ", ".join(legend for rule, legend in RULE_LEGEND.items() if rule in rules_shown)
    figure.suptitle(f"{anatomy}: mean over {count} test slices\nalpha {alphas}", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return _save(figure, folder, f"noise-{anatomy}")


def _boxes(plan: Plan, anatomy: str, folder: Path) -> list[Path]:
    """Figure 8: SSIM in the head over the test set, but of linear extrapolation: beside it, the others look alike."""
    levels = plan.settings.main_levels
    figure = _figure(11, 7)
    axes = figure.subplots(len(COMPARED), len(levels), sharey="col", squeeze=False)
    for row, protocol in enumerate(COMPARED):
        for column, level in enumerate(levels):
            values, labels, colors = [], [], []
            jobs, names = plan.comparison(anatomy, protocol, level, "validation")
            for approach, details in APPROACHES.items():
                job = jobs[approach]
                rows = {} if job is None else plan.evaluator.rows(job, names)
                if rows and approach != "linear_extrapolation":
                    values.append([entry["ssim_head"] for entry in rows.values()])
                    labels.append(details.label.replace("LIP-PH2L-", "LIP-PH2L-\n"))
                    colors.append(COLORS[approach])
            if not values:
                return []
            place = axes[row, column]
            boxes = place.boxplot(values, tick_labels=labels, patch_artist=True, flierprops={"markersize": 2})
            for box, color in zip(boxes["boxes"], colors, strict=True):
                box.set(facecolor=color, alpha=0.55)
            for median in boxes["medians"]:
                median.set(color="black")
            place.tick_params(axis="x", labelsize=7, rotation=35)
            place.grid(alpha=0.3, axis="y")
            title = f"{_protocol_title(plan, protocol)}, noise {level:g}: {len(names)} test slices"
            place.set_title(title, fontsize=10)
            if column == 0:
                place.set_ylabel("SSIM, head")
    figure.suptitle(f"{anatomy}: alpha chosen on validation slices; linear extrapolation is below (Table 3)")
    return _save(figure, folder, f"boxes-{anatomy}")


def _theory(content: dict[str, Any] | None, folder: Path) -> list[Path]:
    if content is None:
        return []
    figure = _figure(11, 3.6)
    stability, convergence, rate = figure.subplots(1, 3)
    part = content["stability"]
    stability.loglog(part["delta"], part["distance"], "o-", label=f"slope {part['slope']:.2f}")
    stability.set(title="stability (Theorem 3)", ylabel=r"$\Vert x_\delta - x_0 \Vert$")
    part = content["convergence"]
    convergence.loglog(part["delta"], part["explained"], "o-", label=r"data $\Psi(x_H)$ + noise")
    convergence.loglog(part["delta"], part["acquired"], "s-", label="acquired low dose + noise")
    convergence.loglog(part["delta"], part["noise_free"], "k:", label="acquired low dose, same alpha")
    convergence.set(title="convergence (Theorem 4)", ylabel=r"$\Vert x_\delta - x_H \Vert$")
    part = content["rate"]
    rate.loglog(part["delta"], part["bregman"], "o-", label=f"slope {part['slope']:.2f}")
    first = part["bregman"][0]
    reference = [first * delta / part["delta"][0] for delta in part["delta"]]
    rate.loglog(part["delta"], reference, "k:", label="slope 1")
    rate.set(title="rate (Remark 5)", ylabel="Bregman distance to the true image")
    for place in (stability, convergence, rate):
        place.set_xlabel(r"$\delta$: norm of the noise")
        place.xaxis.set_minor_formatter("")  # labels between the decades run into each other
        place.grid(alpha=0.3, which="both")
        place.legend(fontsize=8)
    return _save(figure, folder, "theory")


def _example(plan: Plan, anatomy: str, tumor: bool, folder: Path) -> list[Path]:
    """Figures 4 to 6: the approaches' images of one slice, paper protocol without noise."""
    name = example(plan, anatomy, tumor)
    sample = plan.evaluator.slices[anatomy]["test"].load([name], denoised=True)[0]
    images = {approach: _image(plan, anatomy, name, sample, approach, 0.0) for approach in APPROACHES}
    high = sample["high"]

    def panel(approach: str) -> Panel:
        return Panel(APPROACHES[approach].label, _volume(images[approach]), note=_note(images[approach], sample))

    before, after = Panel("before contrast", _volume(sample["pre"])), Panel("full dose", _volume(high))
    rows = [[before, *map(panel, ("low", "linear_extrapolation", "physics_tv")), after], [*map(panel, LEARNED)]]
    errors: list[Panel | None] = [
        Panel(f"{APPROACHES[a].label} - full dose", _volume(images[a] - high), "difference", limit=ERROR_LIMIT)
        for a in LEARNED
    ]
    kind = "with tumor" if tumor else "without tumor"
    title = f"{name}, {kind}, paper protocol, no noise added"
    file = folder / f"images-{anatomy}-{'tumor' if tumor else 'no-tumor'}.png"
    return [study_figure([*rows, errors], file, title, 0, 2, _affine(plan, anatomy, name))]


def _zoom(plan: Plan, anatomy: str, folder: Path) -> list[Path]:
    """The lesion of the example at the main noise levels and the highest one."""
    name = example(plan, anatomy, tumor=True)
    sample = plan.evaluator.slices[anatomy]["test"].load([name], denoised=True)[0]
    marked = sample["lesion"] if bool(sample["lesion"].any()) else sample["head"]
    center = [int(places.float().mean()) for places in torch.nonzero(marked[0] > 0.5, as_tuple=True)]
    corner = [min(max(c - ZOOM // 2, 0), size - ZOOM) for c, size in zip(center, marked.shape[-2:], strict=True)]
    cut = (slice(None), *(slice(start, start + ZOOM) for start in corner))
    levels = sorted({*plan.settings.main_levels, plan.settings.levels[-1]})
    rows: list[Sequence[Panel | None]] = []
    for level in levels:
        row = [Panel("full dose", _volume(sample["high"][cut]))]
        for approach in ("low", "physics_tv", *LEARNED):
            image = _image(plan, anatomy, name, sample, approach, level)
            note = f"noise {level:g}, {psnr(image[cut], sample['high'][cut]):.1f} dB"
            # the noisiest pixels of any image must not set the gray window
            row.append(Panel(APPROACHES[approach].label, _volume(image[cut]), note=note, window=False))
        rows.append(row)
    file = folder / f"lesion-{anatomy}.png"
    title = f"{name}, lesion, paper protocol"
    return [study_figure(rows, file, title, 0, 2, _affine(plan, anatomy, name))]


def _image(plan: Plan, anatomy: str, name: str, sample: Sample, approach: str, level: float) -> torch.Tensor:
    """An approach's image (1, H, W), kept on disk; alpha by validation, while that is not finished of the schedule."""
    job = plan.job(anatomy, "paper", level, approach, "validation") or plan.job(anatomy, "paper", level, approach)
    assert job is not None
    file = plan.settings.output / "shown" / f"{digest([plan.evaluator.key(job), name])}.npy"
    if not file.is_file():
        image = plan.evaluator.images(job, [sample])[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            np.save(partial, image.numpy())
    return torch.from_numpy(np.load(file))


def _note(image: torch.Tensor, sample: Sample) -> str:
    head = sample["head"] > 0.5
    return f"{psnr(image, sample['high'], head):.1f} dB, SSIM {ssim(image, sample['high'], head):.3f}"


def _volume(image: torch.Tensor) -> np.ndarray:
    """(1, H, W) as a volume (H, W, 1)."""
    return np.asarray(image[0].numpy()[:, :, None])


def _affine(plan: Plan, anatomy: str, name: str) -> np.ndarray:
    study = name.rpartition(":")[0]
    image: Any = nib.load(plan.settings.output / "cohorts" / anatomy / study / "low.nii.gz")
    affine: np.ndarray = image.affine
    return affine


def _protocol_title(plan: Plan, protocol: str) -> str:
    details = plan.protocols[protocol]
    if protocol == "paper":
        return f"paper protocol: {details.before}, then noise"
    return f"hospital protocol: noise{f', then {details.after}' if details.after else ' on the raw low dose'}"
