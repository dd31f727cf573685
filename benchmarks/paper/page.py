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
"""The page that shows the paper's numbers beside ours: its tables, filled from ``paper.json``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.publish import fill
from monai_lipcar.data.atomic import write_text

from .alphas import SWEEP_RULES
from .approaches import APPROACHES, OPERATORS
from .settings import REPOSITORY, Settings
from .tables import LESION_COLUMNS, LESION_SIZES

__all__ = ["TEMPLATE", "changes", "tables", "write"]

TEMPLATE = REPOSITORY / "docs" / "paper.md"
MISSING = "not measured yet"
Cell = Mapping[str, Any]
COHORTS = {"rat": "simulated rats", "mni152": "simulated human heads (MNI152)"}
ROWS = {**{name: details.label for name, details in APPROACHES.items()}, **{name: name.upper() for name in OPERATORS}}


def write(settings: Settings, content: Mapping[str, Any]) -> None:
    """Fill the page; a page elsewhere is made from that of the documentation."""
    if settings.page != TEMPLATE:
        write_text(settings.page, TEMPLATE.read_text(encoding="utf-8"))
    for file, text in changes(settings.page, settings.images, content).items():
        write_text(file, text)


def changes(page: Path, images: Path, content: Mapping[str, Any]) -> dict[Path, str]:
    """The page's new text, if it does not show this content yet."""
    return fill(page, tables(content, images, page.parent))


def tables(content: Mapping[str, Any], images: Path, beside: Path) -> dict[str, str]:
    """Name of each table of the page to its Markdown.

    Args:
        content: of ``paper.json``.
        images: folder of the figures; those that are there are shown.
        beside: folder of the page.
    """
    cells = content["cells"]
    result = {"made with": _made_with(content), "cohorts": _cohorts(content["cohorts"])}
    result["theory"] = _theory(content["theory"])
    result["table 1"] = _table_1(cells)
    result["table 2"] = _table_2(cells)
    result["denoised"] = _denoised(cells)
    result["lesions"] = _lesions(cells)
    result["precision"] = _precision(cells)
    for anatomy in COHORTS:
        for protocol in ("paper", "hospital"):
            chosen = [cell for cell in cells if (cell["cohort"], cell.get("protocol")) == (anatomy, protocol)]
            result[f"table 3, {anatomy}, {protocol}"] = _table_3(chosen)
            result[f"noise, {anatomy}, {protocol}"] = _noise(chosen)
        for figure in ("images-{}-tumor", "images-{}-no-tumor", "noise-{}", "boxes-{}", "lesion-{}"):
            result[figure.format(anatomy)] = _image(images / f"{figure.format(anatomy)}.png", beside)
    for figure in ("operators", "theory"):
        result[f"figure {figure}"] = _image(images / f"{figure}.png", beside)
    return result


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _value(cells: Iterable[Cell], metric: str, **where: Any) -> str:
    """Our number with its standard deviation, or that there is none yet."""
    found = _find(cells, metric, **where)
    if found is None or found["ours"] is None:
        # of finished rows, none has what the metric needs: no lesion, nothing that enhances
        finished = _find(cells, "ssim_head", **where) if "_" in metric else None
        return "–" if finished is not None and finished["ours"] is not None else MISSING
    digits = 2 if "psnr" in metric else 3
    return f"{found['ours']:.{digits}f} ± {found['std']:.{digits}f}"


def _paper(cells: Iterable[Cell], metric: str, **where: Any) -> str:
    """The paper's number; empty where it is not known."""
    found = _find(cells, metric, **where)
    if found is None or found["paper"] is None:
        return ""
    return f"{found['paper']:.{2 if 'psnr' in metric else 3}f}"


def _find(cells: Iterable[Cell], metric: str, **where: Any) -> Cell | None:
    chosen = (cell for cell in cells if cell["metric"] == metric)
    return next((cell for cell in chosen if all(cell.get(key) == value for key, value in where.items())), None)


def _made_with(content: Mapping[str, Any]) -> str:
    rows = [[name, version] for name, version in content["versions"].items()]
    rows += [["seed", str(content["seed"])], ["weights", content["weights"]["source"]]]
    rows += [[f"SHA-256 of {name}", f"`{value[:16]}`"] for name, value in content["weights"]["sha256"].items()]
    for name, protocol in content["protocols"].items():
        steps = [f"{protocol['before']} on the low dose" if protocol["before"] else "low dose as acquired", "noise"]
        steps += [protocol["after"]] if protocol["after"] else []
        rows.append([f"protocol `{name}`", ", then ".join(steps)])
    return _markdown(("what", "value"), rows)


def _cohorts(cohorts: Mapping[str, Any]) -> str:
    columns = ("cohort, section", "studies", "slices written", "usable slices", "slices used")
    rows = []
    for anatomy, sections in cohorts.items():
        for section, counts in sections.items():
            numbers = [counts[key] for key in ("studies", "slices_written", "slices_usable", "slices_used")]
            rows.append([f"{anatomy}, {section}", *map(str, numbers)])
    return _markdown(columns, rows or [[MISSING, "", "", "", ""]])


def _table_1(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "table 1"]
    columns = ["operator, low dose", "PSNR, paper", "PSNR, ours (dB)", "SSIM, paper", "SSIM, ours"]
    columns += ["PSNR in the head, ours (dB)", "SSIM in the head, ours", "slices"]
    rows = []
    for anatomy, title in COHORTS.items():
        rows.append([f"**{title}**", *[""] * 7])
        for column, low in (("low", "as acquired"), ("denoised", "denoised")):
            for row in dict.fromkeys(cell["row"] for cell in chosen):
                where = {"cohort": anatomy, "row": row, "column": column}
                rows.append(
                    [
                        f"{ROWS[row]}, {low}",
                        *(f(chosen, metric, **where) for metric in ("psnr", "ssim") for f in (_paper, _value)),
                        *(_value(chosen, metric, **where) for metric in ("psnr_head", "ssim_head")),
                        _count(chosen, **where),
                    ]
                )
    return _markdown(columns, rows)


def _table_2(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "table 2"]
    levels = sorted({cell["noise_level"] for cell in chosen})
    columns = ["operator"]
    places = [(section, level) for section in ("training", "test") for level in levels]
    for section, level in places:
        name = f"{section}, {'clean' if level == 0 else f'noise {level:g}'}"
        columns += [f"{name}: paper", f"{name}: ours"]
    rows = []
    for anatomy, title in COHORTS.items():
        rows.append([f"**{title}**", *[""] * (2 * len(places))])
        for row in dict.fromkeys(cell["row"] for cell in chosen):
            entry = [ROWS[row]]
            for section, level in places:
                where = {"cohort": anatomy, "row": row, "section": section, "noise_level": level}
                there = anatomy == "rat" or section == "test"
                entry += [_paper(chosen, "relative_error", **where)]
                entry += [_value(chosen, "relative_error", **where) if there else "no training set"]
            rows.append(entry)
    return _markdown(columns, rows)


def _table_3(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "table 3"]
    columns = ["noise, approach", "alpha", "SSIM, paper", "SSIM, ours", "SSIM in the head", "with tumor", "without"]
    columns += ["PSNR in the head (dB)", "PSNR in lesions (dB)", "enhancement recovery", "slices", "slices with tumor"]
    rows = []
    scheduled = []
    for level in sorted({cell["noise_level"] for cell in chosen}):
        for row in APPROACHES:
            where = {"noise_level": level, "row": row, "alpha_rule": "validation"}
            everything = {**where, "column": "all"}
            head = [_value(chosen, "ssim_head", **where, column=group) for group in ("all", "tumor", "no tumor")]
            entry = [f"{level:g}: {ROWS[row]}", _alpha(chosen, **everything)]
            entry += [_paper(chosen, "ssim", **everything), _value(chosen, "ssim", **everything), *head]
            for metric in ("psnr_head", "psnr_lesion", "enhancement_recovery"):
                entry.append(_value(chosen, metric, **everything))
            entry += [_count(chosen, **where, column=group) for group in ("all", "tumor")]
            rows.append(entry)
            if APPROACHES[row].bundle is not None:
                everything["alpha_rule"] = "schedule"
                entry = [f"{level:g}: {ROWS[row]}", _alpha(chosen, **everything)]
                entry += [_value(chosen, metric, **everything) for metric in ("ssim_head", "psnr_head")]
                scheduled.append([*entry, _count(chosen, **everything)])
    by_schedule = ["noise, approach", "alpha of the schedule", "SSIM in the head", "PSNR in the head (dB)", "slices"]
    return f"{_markdown(columns, rows)}\n\nThe same with alpha of the schedule:\n\n{_markdown(by_schedule, scheduled)}"


def _denoised(cells: Sequence[Cell]) -> str:
    """All approaches with a denoiser after the noise, beside the hospital's protocol, which has none."""
    chosen = [cell for cell in cells if cell["table"] == "denoised"]
    plain = [cell for cell in cells if cell["table"] == "figure 7" and cell["protocol"] == "hospital"]
    metrics = {
        "ssim_head": "SSIM in the head",
        "psnr_head": "PSNR in the head (dB)",
        "enhancement_recovery": "recovery",
    }
    columns = ["noise, approach", "alpha"]
    for name in metrics.values():
        columns += [name, "not denoised"]
    rows = []
    for anatomy, title in COHORTS.items():
        rows.append([f"**{title}**", *[""] * len(columns)])
        for level, row in itertools.product(sorted({cell["noise_level"] for cell in chosen}), APPROACHES):
            where = {"cohort": anatomy, "noise_level": level, "row": row, "alpha_rule": "validation"}
            beside = {**where, "alpha_rule": "validation" if APPROACHES[row].bundle else "schedule"}
            entry = [f"{level:g}: {ROWS[row]}", _alpha(chosen, **where)]
            for metric in metrics:
                entry += [_value(chosen, metric, **where), _value(plain, metric, **beside)]
            rows.append([*entry, _count(chosen, **where)])
    return _markdown([*columns, "slices"], rows) if chosen else MISSING


def _lesions(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "lesions"]
    if not any(cell["n"] for cell in chosen):
        return MISSING
    columns = ["approach", "slices", *LESION_COLUMNS.values()]
    rows = []
    for (anatomy, title), (size, which) in itertools.product(COHORTS.items(), LESION_SIZES.items()):
        there = [cell for cell in chosen if cell["cohort"] == anatomy]
        if size and not _of_some_lesions(there, size):
            continue
        rows.append([f"**{title}{which}**", *[""] * (len(columns) - 1)])
        for row in dict.fromkeys(cell["row"] for cell in chosen):
            found = [_find(there, metric + size, row=row) for metric in LESION_COLUMNS]
            slices = max((cell["n"] for cell in found if cell is not None), default=0)
            if size and not slices:
                continue
            missing = "–" if slices else MISSING  # nothing to measure in any of the slices
            shown = [
                "" if cell is None else missing if cell["ours"] is None else f"{cell['ours']:.3f} ± {cell['std']:.3f}"
                for cell in found
            ]
            rows.append([ROWS.get(row, "full dose"), str(slices), *shown])
    return _markdown(columns, rows)


def _of_some_lesions(cells: Sequence[Cell], size: str) -> bool:
    """Whether there are lesions of this size, and others: else their rows are none, or those of all lesions again."""
    kept = ("ours", "std", "n")
    measured = {(cell["row"], cell["metric"]): [cell[key] for key in kept] for cell in cells if cell["n"]}
    of_size = {key: values for key, values in measured.items() if key[1].endswith(size)}
    return any(values != measured.get((row, metric.removesuffix(size))) for (row, metric), values in of_size.items())


def _precision(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "precision"]
    columns = ["cohort, protocol, noise, approach", "alpha", "slices with both"]
    columns += ["SSIM in the head: greatest change", "mean change", "PSNR in the head: greatest change (dB)"]
    columns += ["mean change (dB)", "enhancement recovery: greatest change", "mean change"]
    rows = []
    keys = ("cohort", "protocol", "noise_level", "row", "alpha")
    for values in dict.fromkeys(tuple(cell[key] for key in keys) for cell in chosen):
        where = dict(zip(keys, values, strict=True))
        name = f"{where['cohort']}, `{where['protocol']}`, {where['noise_level']:g}: {ROWS[where['row']]}"
        entry = [name, f"{where['alpha']:.2g}", _count(chosen, **where, column="mean")]
        for metric in ("ssim_head", "psnr_head", "enhancement_recovery"):
            for column in ("greatest", "mean"):
                found = _find(chosen, metric, **where, column=column)
                digits = 2 if "psnr" in metric else 4
                entry.append("–" if found is None else f"{round(found['ours'], digits) + 0.0:.{digits}f}")  # no -0.00
        rows.append(entry)
    return _markdown(columns, rows) if rows else "All rows are in float32."


def _count(cells: Sequence[Cell], **where: Any) -> str:
    found = _find(cells, "ssim_head", **where)
    return "0" if found is None else str(found["n"])


def _noise(cells: Sequence[Cell]) -> str:
    chosen = [cell for cell in cells if cell["table"] == "figure 7"]
    levels = sorted({cell["noise_level"] for cell in chosen})
    rows = []
    for row, details in APPROACHES.items():
        for rule in SWEEP_RULES if details.bundle else ("schedule",):
            name = f"{ROWS[row]}, {rule}" if details.bundle else ROWS[row]
            where = {"row": row, "alpha_rule": rule, "column": "all"}
            if rule == "auto" and _find(chosen, "ssim_head", **where) is None:
                continue  # a bundle without a rule
            values = [_value(chosen, "ssim_head", **where, noise_level=level) for level in levels]
            rows.append([name, *(value.split(" ±")[0] for value in values)])
    return _markdown(["SSIM in the head at noise", *(f"{level:g}" for level in levels)], rows)


def _alpha(cells: Sequence[Cell], **where: Any) -> str:
    if APPROACHES[where["row"]].bundle is None:
        return ""
    found = _find(cells, "ssim_head", **where)
    return MISSING if found is None or found.get("alpha") is None else f"{found['alpha']:.2g}"


def _theory(content: Mapping[str, Any] | None) -> str:
    columns = [
        "norm of the noise",
        "distance of the solutions (Theorem 3)",
        "error, data that Psi explains (Theorem 4)",
    ]
    columns += ["error, acquired low dose", "the same without the noise", "Bregman distance (Remark 5)"]
    if content is None:
        return _markdown(columns, [[MISSING] * 6])
    stability, convergence, rate = (content[name] for name in ("stability", "convergence", "rate"))
    series = zip(
        stability["delta"],
        stability["distance"],
        convergence["explained"],
        convergence["acquired"],
        convergence["noise_free"],
        rate["bregman"],
        strict=True,
    )
    rows = [[f"{value:.3g}" for value in row] for row in series]
    rows.append(["slope, log-log", f"{stability['slope']:.2f}", "", "", "", f"{rate['slope']:.2f}"])
    return _markdown(columns, rows)


def _image(file: Path, beside: Path) -> str:
    if not file.is_file():
        return MISSING
    return f"![{file.stem}]({Path(os.path.relpath(file, beside)).as_posix()})"
