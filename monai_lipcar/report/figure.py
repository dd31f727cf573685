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
"""The figure of one study: before contrast, low dose, simulated full dose, and what remains unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_lipcar.data.atomic import replacing

from .orientation import bounding_box, orientation

__all__ = ["Panel", "best_slice", "study_figure"]

# inches
_PANEL = 2.3
_GAP = 0.12
_LINE = 0.17
_BAR = 0.08
_Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """One picture of the figure.

    Args:
        title: what it shows.
        volume: (X, Y, Z).
        kind: ``"image"`` shares the gray window of all images, ``"difference"`` the symmetric color scale of all
            differences of its ``group``.
        group: differences that share a color scale.
        note: a line below the title, e.g. the PSNR.
        window: whether it has a say in the gray window or color scale that it shares.
        limit: end of the color scale of a difference, where it does not follow from its group's values.
        unit: of the values, for the color scale.
    """

    title: str
    volume: np.ndarray
    kind: str = "image"
    group: str = ""
    note: str = ""
    window: bool = True
    limit: float | None = None
    unit: str = ""


def best_slice(enhancement: np.ndarray, axis: int, region: np.ndarray | None = None) -> int:
    """Slice that shows most: the one with the largest sum of the brightest 0.5 % of the volume's enhancement.

    Args:
        enhancement: difference of two volumes, 3-D.
        axis: slice axis.
        region: boolean, same shape, such as the lesions: enhancement elsewhere does not count, where it is not empty.
    """
    if region is not None and region.any():
        enhancement = np.where(region, enhancement, 0.0)
    threshold = np.percentile(enhancement, 99.5)
    bright = np.where(enhancement > threshold, enhancement - threshold, 0.0)
    return int(np.argmax(bright.sum(axis=tuple(other for other in range(3) if other != axis))))


def study_figure(
    rows: Sequence[Sequence[Panel | None]],
    path: str | Path,
    title: str,
    index: int,
    axis: int,
    affine: np.ndarray,
    footer: str = "simulated image, for research use only, not for diagnosis",
) -> Path:
    """Draw one slice of several volumes as a page of panels.

    Args:
        rows: rows of panels; None leaves a place empty.
        path: PNG, SVG or PDF file.
        title: heading of the figure.
        index: slice number.
        axis: slice axis of the volumes.
        affine: of the volumes, for the shape of the pixels and the way up: radiological, with letters in the first
            panel for the direction (right, anterior, superior) at its left and at its top.
        footer: line below.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    everything = [panel for row in rows for panel in row if panel is not None]
    orient, aspect, directions = orientation(affine, axis)
    slices = {id(panel): orient(np.take(panel.volume, index, axis=axis)) for panel in everything}
    window = [slices[id(panel)] for panel in everything if panel.kind == "image" and panel.window]
    top = max(float(np.percentile(picture, 99.8)) for picture in window)
    box = bounding_box(np.max(window, axis=0) > 0.08 * top)
    pictures = {key: picture[box] for key, picture in slices.items()}
    height, width = next(iter(pictures.values())).shape
    panel_height = _PANEL * aspect * height / width
    # below each other: the heading; of each row the titles, the pictures and the color bars; the footer
    titles = [_LINE * max(2 if panel is not None and panel.note else 1 for panel in row) + 0.08 for row in rows]
    bars = [4 * _BAR if any(panel is not None and panel.kind != "image" for panel in row) else 0.0 for row in rows]
    inches = (
        max(len(row) for row in rows) * (_PANEL + _GAP) + _GAP,
        2 * _LINE + sum(titles) + sum(bars) + len(rows) * (panel_height + _GAP) + 1.5 * _LINE,
    )
    figure = Figure(figsize=inches)
    FigureCanvasAgg(figure)
    # a study may be called $x$, which is no formula
    figure.text(0.5, 1 - 0.1 / inches[1], title, fontsize=11, ha="center", va="top", parse_math=False)
    figure.text(0.5, 0.1 / inches[1], footer, fontsize=8, color="0.35", ha="center")
    down = 2 * _LINE
    for row, title_height, bar_height in zip(rows, titles, bars, strict=True):
        down += title_height + panel_height
        for column, panel in enumerate(row):
            if panel is None:
                continue
            left = _GAP + column * (_PANEL + _GAP)
            place = figure.add_axes(_fraction(left, down, _PANEL, panel_height, inches))
            place.axis("off")
            place.set_title(panel.title + (f"\n{panel.note}" if panel.note else ""), fontsize=8.5, pad=4)
            look: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": top}
            if panel.kind != "image":
                group = [entry for entry in everything if entry.group == panel.group and entry.window]
                limit = max(float(np.percentile(np.abs(pictures[id(entry)]), 99.5)) for entry in group) or 1.0
                limit = panel.limit or limit
                look = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            shown = place.imshow(pictures[id(panel)], aspect="auto", interpolation="nearest", **look)
            if panel.kind != "image":
                beside = figure.add_axes(_fraction(left, down + 1.5 * _BAR, _PANEL, _BAR, inches))
                bar = figure.colorbar(shown, cax=beside, orientation="horizontal", ticks=MaxNLocator(6, prune="both"))
                bar.ax.tick_params(labelsize=7)
            elif panel is everything[0]:
                for x, y, letter in ((0.04, 0.5, directions[0]), (0.5, 0.965, directions[1])):
                    text = place.text(x, y, letter, transform=place.transAxes, ha="center", va="center", fontsize=8)
                    text.set(color="white", bbox={"facecolor": "black", "edgecolor": "none", "pad": 1.0})
        down += bar_height + _GAP
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=130)
    return path


def _fraction(left: float, down: float, width: float, height: float, inches: tuple[float, float]) -> _Rectangle:
    """Axes of a size in inches, their lower left corner ``left`` and ``down`` from the figure's upper left one."""
    return left / inches[0], 1 - down / inches[1], width / inches[0], height / inches[1]
