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
"""From what each racer did on each slice to the numbers of the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from .run import METRICS, Row

__all__ = ["ADAM", "BATCHED", "FREE", "PROXIMAL", "against_adam", "first_at", "summarize"]

ADAM, BATCHED, PROXIMAL = "Adam, slice by slice", "Adam, batched", "ProximalSolver"
FREE = (ADAM, BATCHED)
"""Their iterates may leave [0, 1], where objectives are lower than those of any image; only the last one is clipped."""

ROUNDING = 1e-5
"""Relative: the same steps on one slice and on several at a time end with objectives that differ by less."""


def first_at(row: Row, target: float, free: bool = False) -> int | None:
    """Index of the first image in [0, 1] with an objective of at most the target; only the last where all are free.

    Example:
        >>> first_at({"objective": [3.0, 2.0, 1.0]}, 2.0), first_at({"objective": [3.0, 2.0]}, 1.0)
        (1, None)
        >>> first_at({"objective": [3.0, 1.0, 2.0]}, 2.0, free=True)
        2
    """
    first = len(row["objective"]) - 1 if free else 0
    enough = target + ROUNDING * abs(target)
    return next((index for index, value in enumerate(row["objective"]) if index >= first and value <= enough), None)


def summarize(
    rows: Mapping[str, Row], adam: Mapping[str, Row], threads: int, rate: float, free: bool = False
) -> dict[str, Any]:
    """One racer at one noise level.

    Args:
        rows: slice to what the racer did.
        adam: slice to what the published solver did, whose last objective is the target.
        threads: that the racer could use.
        rate: matrix products' GFLOP/s on this machine.
        free: only the last point of each row is an image in [0, 1] (:data:`FREE`).
    """
    reached = [(row, first_at(row, adam[name]["objective"][-1], free)) for name, row in rows.items()]
    there = [(row, index) for row, index in reached if index is not None]

    def to_adam(key: str) -> float | None:
        """Median, a slice that never gets there counting as infinite; None where that is the median."""
        found = statistics.median(math.inf if index is None else row[key][index] for row, index in reached)
        return found if math.isfinite(found) else None

    total = sum(row["total_seconds"] for row in rows.values())
    inside = sum(row["inside_seconds"] for row in rows.values())
    gflops = sum(row["gflop"] for row in rows.values()) / inside
    result: dict[str, Any] = {
        "slices": len(rows),
        "reached_adam": len(there) / len(rows),
        "evaluations_to_adam": to_adam("evaluations"),
        "evaluations_to_adam_most": max((row["evaluations"][index] for row, index in there), default=None),
        "seconds_to_adam": to_adam("seconds"),
        "evaluations": statistics.median(row["steps"] for row in rows.values()),
        "evaluations_most": max(row["steps"] for row in rows.values()),
        "forward_passes": statistics.median(row["forwards"] for row in rows.values()),
        "backward_passes": statistics.median(row["backwards"] for row in rows.values()),
        "seconds": statistics.median(row["total_seconds"] for row in rows.values()),
        "objective_over_adam": statistics.median(
            row["objective"][-1] / adam[name]["objective"][-1] for name, row in rows.items()
        ),
        "status": {status: [row["status"] for row in rows.values()].count(status) for status in _statuses(rows)},
        "inside_network": inside / total,
        "gflops": gflops,
        "of_matrix_product": gflops / rate,
        "processor_use": sum(row["cpu_seconds"] for row in rows.values()) / (total * threads),
    }
    for metric in METRICS:
        values = [row[metric] for row in rows.values() if metric in row]
        if values:
            result[metric] = statistics.fmean(values)
    return result


def against_adam(rows: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    """What the proximal solver saves, slice against slice: medians of ratios to all that the published one did.

    On a slice where it never reaches the objective of the published one, it saves nothing: the ratio is 0.

    Args:
        rows: racer to slice to what it did.
    """
    adam, batched, proximal = rows[ADAM], rows[BATCHED], rows[PROXIMAL]
    reached = {name: first_at(row, adam[name]["objective"][-1]) for name, row in proximal.items()}

    def ratio(of: Mapping[str, Row], key: str, to: str) -> float:
        return statistics.median(
            0.0 if index is None else of[name][key] / proximal[name][to][index] for name, index in reached.items()
        )

    def difference(metric: str) -> float:
        return statistics.fmean(row[metric] - adam[name][metric] for name, row in proximal.items())

    return {
        "slices": len(proximal),
        "reached": sum(index is not None for index in reached.values()) / len(proximal),
        "times_fewer_evaluations": ratio(adam, "steps", "evaluations"),
        "times_faster": ratio(adam, "total_seconds", "seconds"),
        "times_faster_than_batched": ratio(batched, "total_seconds", "seconds"),
        "times_faster_to_the_end": statistics.median(
            adam[name]["total_seconds"] / row["total_seconds"] for name, row in proximal.items()
        ),
        "psnr_head_difference": difference("psnr_head"),
        "ssim_head_difference": difference("ssim_head"),
        "outside_network": 1.0
        - sum(row["inside_seconds"] for row in proximal.values())
        / sum(row["total_seconds"] for row in proximal.values()),
    }


def _statuses(rows: Mapping[str, Row]) -> list[str]:
    return sorted({row["status"] for row in rows.values()})
