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
"""The race as a picture: how far the objective is, over network evaluations and over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .run import Row
from .summary import ADAM, BATCHED, FREE, PROXIMAL

__all__ = ["curve", "draw"]

COLORS = {
    **{ADAM: "tab:red", BATCHED: "tab:orange", PROXIMAL: "tab:blue"},
    **{"deepinv PGD": "0.6", "deepinv FISTA": "0.3"},
}
LOWEST = 1e-5
"""End of the axis."""
Rows = Mapping[str, Mapping[str, Row]]
"""Racer to slice to what it did."""


def curve(rows: Mapping[str, Row], best: Mapping[str, float], start: Mapping[str, float], key: str) -> Any:
    """Median over the slices of (F - best) / (start - best), the smallest so far, on a grid of what was spent.

    Args:
        rows: slice to what one racer did.
        best: slice to the smallest objective of an image in [0, 1] that any racer saw.
        start: slice to the objective of the observed image.
        key: what is spent, ``"evaluations"`` or ``"seconds"``.

    Returns:
        What was spent, and the medians, from where all slices have a point.
    """
    spent = {name: np.asarray(row[key], dtype=float) for name, row in rows.items()}
    grid = np.geomspace(max(values[0] for values in spent.values()), max(values[-1] for values in spent.values()), 200)
    lines = []
    for name, row in rows.items():
        lowest = np.minimum.accumulate(np.asarray(row["objective"], dtype=float))
        index = np.searchsorted(spent[name], grid * (1 + 1e-9), side="right") - 1
        lines.append((lowest[index] - best[name]) / (start[name] - best[name]))
    return grid, np.median(lines, axis=0)


def draw(races: Mapping[str, Rows], file: Path) -> None:
    """Draw a row of two panels for each race.

    Dashed are iterates that may leave [0, 1], as far as they are above the best image there; a circle is the image that
    they end with.

    Args:
        races: title to rows.
        file: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.1 * len(races)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(races), 2, squeeze=False, sharey=True)
    for axes, (title, racers) in zip(panels, races.items(), strict=True):
        best: dict[str, float] = {}
        for racer, rows in racers.items():
            for name, row in rows.items():
                best[name] = min(best.get(name, float("inf")), *row["objective"][-1 if racer in FREE else 0 :])
        start = {name: row["objective"][0] for name, row in racers[PROXIMAL].items()}
        for key, panel in zip(("evaluations", "seconds"), axes, strict=True):
            for racer, rows in racers.items():
                if racer not in FREE:
                    spent, median = curve(rows, best, start, key)
                    panel.plot(spent, np.maximum(median, LOWEST), label=racer, color=COLORS[racer])
                    continue
                before = {
                    name: {**row, **{of: row[of][:-1] for of in ("objective", key)}} for name, row in rows.items()
                }
                spent, median = curve(before, best, start, key)
                panel.plot(spent, np.where(median > LOWEST, median, np.nan), "--", color=COLORS[racer])
                ends = [(row["objective"][-1] - best[name]) / (start[name] - best[name]) for name, row in rows.items()]
                end = max(float(np.median(ends)), LOWEST)
                panel.plot(
                    np.median([row[key][-1] for row in rows.values()]), end, "o", label=racer, color=COLORS[racer]
                )
            panel.set(xscale="log", yscale="log", xlabel="network evaluations" if key == "evaluations" else "s / slice")
            panel.set_title(title, fontsize=10)
        axes[0].set_ylabel("relative objective, median")
    panels[0, 0].legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
