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
"""The cells of the paper's tables and figures: ours beside the paper's."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .alphas import RULES, SWEEP_RULES
from .approaches import APPROACHES, BASELINES, OPERATORS
from .evaluation import Job, OperatorJob, Rows
from .plan import Plan
from .protocols import COMPARED
from .reported import reported

__all__ = ["FIELDS", "cells", "to_csv"]

FIELDS = (
    *("table", "cohort", "section", "protocol", "noise_level", "alpha_rule", "alpha", "precision"),
    *("row", "column", "metric", "paper", "ours", "std", "n"),
)
MADE_WITH = ("seed", "monai_lipcar", "torch")
"""Further columns of the CSV, the same in all rows."""
OPERATOR_METRICS = ("psnr", "ssim", "psnr_head", "ssim_head")
APPROACH_METRICS = (
    *("ssim_head", "psnr_head", "relative_error_head", "ssim", "psnr"),
    *("psnr_enhancing", "enhancement_recovery", "psnr_lesion", "enhancement_recovery_lesion"),
)
LESION_COLUMNS = {
    "cnr_lesion": "contrast-to-noise ratio",
    "lbr_lesion": "lesion-to-brain ratio",
    "cep_lesion": "contrast enhancement (%)",
    "missed_lesions": "share of visible lesions missed",
    "visible_lesions": "visible lesions of a slice",
    "false_enhancement_3mm": "share of slices with false enhancement of 3 mm or more",
    "false_enhancement_mm": "largest false component of a slice (mm)",
    "false_enhancement_per_cm3": "false components per cm³",
}
LESION_SIZES = {"": "", "_small": ", lesions < 5 mm", "_large": ", lesions ≥ 5 mm"}
LESION_CONTRAST = ("cnr_lesion", "lbr_lesion", "cep_lesion")
"""What the acquired full dose has as well."""
LESION_BY_SIZE = (*LESION_CONTRAST, "missed_lesions", "visible_lesions")
LESION_METRICS = (*LESION_COLUMNS, *(metric + size for size in LESION_SIZES if size for metric in LESION_BY_SIZE))
PRECISION_METRICS = ("ssim_head", "psnr_head", "enhancement_recovery")
SWEEP_METRICS = ("ssim_head", "ssim", "psnr_head", "enhancement_recovery")
GROUPS = {"all": None, "tumor": 1.0, "no tumor": 0.0}

Cell = dict[str, Any]


def cells(plan: Plan) -> list[Cell]:
    """All cells, those that are not measured yet with ``ours`` None."""
    parts = (_table_1, _table_2, _approaches, _denoised, _lesions, _precision)
    return [{**dict.fromkeys(FIELDS), **cell} for part in parts for cell in part(plan)]


def to_csv(content: Mapping[str, Any]) -> str:
    """The cells as a table, with what they were made with.

    Args:
        content: of ``paper.json``.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, (*FIELDS, *MADE_WITH), lineterminator="\n")
    writer.writeheader()
    made_with = {name: {**content["versions"], "seed": content["seed"]}[name] for name in MADE_WITH}
    writer.writerows({**cell, **made_with} for cell in content["cells"])
    return text.getvalue()


def summary(rows: Rows, metric: str, group: float | None = None) -> dict[str, Any]:
    """Mean, standard deviation and number of the slices that have the metric.

    Example:
        >>> rows = {"a": {"ssim": 0.5, "tumor": 1.0}, "b": {"ssim": 0.7, "tumor": 0.0}}
        >>> summary(rows, "ssim", group=0.0)
        {'ours': 0.7, 'std': 0.0, 'n': 1}
    """
    values = [row[metric] for row in rows.values() if metric in row and (group is None or row.get("tumor") == group)]
    if not values:
        return {"ours": None, "std": None, "n": 0}
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"ours": round(statistics.fmean(values), 4), "std": round(deviation, 4), "n": len(values)}


def _rows(plan: Plan, job: Job | OperatorJob | None, *choices: Sequence[str]) -> Rows:
    """Rows of the first choice of slices that is complete; none where no choice is."""
    if job is None:
        return {}
    return next((rows for names in choices if (rows := plan.evaluator.rows(job, names))), {})


def _table_1(plan: Plan) -> Iterator[Cell]:
    for anatomy in plan.anatomies:
        for column, protocol in (("low", "hospital"), ("denoised", "paper")):
            for row in OPERATORS:
                job = plan.operator_job(anatomy, row, column, "test", 0.0)
                rows = _rows(plan, job, plan.names(anatomy))
                yield from _operator_cells("table 1", anatomy, "test", 0.0, row, column, rows)
            for row in BASELINES:
                whole = plan.job(anatomy, protocol, 0.0, row)
                rows = _rows(plan, whole, plan.names(anatomy), plan.names(anatomy, count=plan.settings.sweep_slices))
                yield from _operator_cells("table 1", anatomy, "test", 0.0, row, column, rows, whole)


def _operator_cells(
    table: str, anatomy: str, section: str, level: float, row: str, column: str, rows: Rows, job: Job | None = None
) -> Iterator[Cell]:
    """The cells of a row; with the job of one for comparison, which has a protocol and may have an alpha."""
    how = {} if job is None else {"protocol": job.protocol.name, "alpha_rule": "schedule", "alpha": job.alpha}
    metrics = OPERATOR_METRICS if table == "table 1" else ("relative_error", "relative_error_head")
    for metric in metrics:
        place = {"table": table, "cohort": anatomy, "section": section, "noise_level": level, **how}
        paper = reported(table, row, column, metric, anatomy)
        yield {**place, "row": row, "column": column, "metric": metric, "paper": paper, **summary(rows, metric)}


def _table_2(plan: Plan) -> Iterator[Cell]:
    for anatomy in plan.anatomies:
        for section in ("training", "test"):
            if section not in plan.evaluator.slices[anatomy]:
                continue
            names = plan.names(anatomy) if section == "test" else plan.training_names(anatomy)
            for level in (0.0, plan.settings.operator_level):
                for row in OPERATORS:
                    rows = _rows(plan, plan.operator_job(anatomy, row, "low", section, level), names)
                    yield from _operator_cells("table 2", anatomy, section, level, row, "low", rows)
                for row in BASELINES:
                    beside = plan.job(anatomy, "hospital", level, row, section=section)
                    rows = _rows(plan, beside, names)
                    yield from _operator_cells("table 2", anatomy, section, level, row, "low", rows, beside)


def _approaches(plan: Plan) -> Iterator[Cell]:
    """Table 3 (whole test set, with and without tumor) and Figure 7 (the sweep)."""
    for anatomy in plan.anatomies:
        subset = plan.names(anatomy, count=plan.settings.sweep_slices)
        for protocol in COMPARED:
            for rule in RULES:
                for level in plan.settings.main_levels:
                    jobs, names = plan.comparison(anatomy, protocol, level, rule)
                    yield from _table("table 3", plan, jobs, names, anatomy, protocol, rule, level, GROUPS)
            for rule in SWEEP_RULES:
                for level in plan.settings.levels:
                    jobs = {name: plan.job(anatomy, protocol, level, name, rule) for name in APPROACHES}
                    yield from _table("figure 7", plan, jobs, subset, anatomy, protocol, rule, level, {"all": None})


def _table(
    table: str,
    plan: Plan,
    jobs: dict[str, Job | None],
    names: Sequence[str],
    anatomy: str,
    protocol: str,
    rule: str,
    level: float,
    groups: dict[str, float | None],
) -> Iterator[Cell]:
    for row, job in jobs.items():
        if table == "figure 7" and rule != "schedule" and APPROACHES[row].bundle is None:
            continue  # no alpha, and the same slices: the same number
        rows = _rows(plan, job, names)
        place = {
            **{"table": table, "cohort": anatomy, "section": "test", "protocol": protocol, "noise_level": level},
            **{"alpha_rule": rule, "alpha": None if job is None or rule == "auto" else job.alpha, "row": row},
        }
        if job is not None and job.precision != "float32":
            place["precision"] = job.precision
        for column, group in groups.items():
            for metric in APPROACH_METRICS if table == "table 3" else SWEEP_METRICS:
                yield {**place, "column": column, "metric": metric, **summary(rows, metric, group)}


def _denoised(plan: Plan) -> Iterator[Cell]:
    """The sweep's slices with a denoiser after the noise, for all approaches."""
    for anatomy in plan.anatomies:
        subset = plan.names(anatomy, count=plan.settings.sweep_slices)
        for level in plan.noisy_levels:
            jobs = plan.denoised_jobs(anatomy, level)
            yield from _table("denoised", plan, jobs, subset, anatomy, "denoised", "validation", level, {"all": None})


def _lesions(plan: Plan) -> Iterator[Cell]:
    """Lesion by lesion, on the slices with a tumor; the full dose is a row of its own."""
    for anatomy in plan.anatomies:
        jobs, names = plan.lesion_jobs(anatomy)
        place = {"table": "lesions", "cohort": anatomy, "section": "test", "noise_level": 0.0, "column": "tumor"}
        acquired: Rows = {}
        for row, job in jobs.items():
            rows = _rows(plan, job, names) if names else {}
            acquired = acquired or {name: _of_acquired(found) for name, found in rows.items()}
            here = {**place, "alpha_rule": "validation", "alpha": job and job.alpha, "row": row}
            if job is not None:
                here["protocol"] = job.protocol.name
            for metric in LESION_METRICS:
                yield {**here, "metric": metric, **summary(rows, metric)}
        for metric in (metric + size for size in LESION_SIZES for metric in LESION_CONTRAST):
            yield {**place, "row": "high", "metric": metric, **summary(acquired, metric)}


def _of_acquired(row: Mapping[str, float]) -> dict[str, float]:
    return {metric.removeprefix("high_"): value for metric, value in row.items() if metric.startswith("high_")}


def _precision(plan: Plan) -> Iterator[Cell]:
    """What the lower precision of rows of the whole test set changes, on the slices that have both."""
    for anatomy, protocol, rule, level, name in itertools.product(
        plan.anatomies, COMPARED, RULES, plan.settings.main_levels, APPROACHES
    ):
        job = plan.job(anatomy, protocol, level, name, rule)
        if job is None or (lower := plan.on_test_set(job)) == job:
            continue
        place = {
            **{"table": "precision", "cohort": anatomy, "section": "test", "protocol": protocol},
            **{"noise_level": level, "alpha_rule": rule, "alpha": job.alpha},
            **{"precision": lower.precision, "row": name},
        }
        exact, found = plan.evaluator.rows(job), plan.evaluator.rows(lower)
        both = [(row, found[slice_name]) for slice_name, row in exact.items() if slice_name in found]
        for metric in PRECISION_METRICS:
            changes = [other[metric] - row[metric] for row, other in both if metric in row and metric in other]
            if changes:
                values = {"greatest": max(map(abs, changes)), "mean": statistics.fmean(changes)}
                for column, value in values.items():
                    cell = {**place, "column": column, "metric": metric}
                    yield {**cell, "ours": round(value, 5), "n": len(changes)}
