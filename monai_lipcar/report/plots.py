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
"""The curves of a study's page: how the solver came down, and what it left in each slice."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["convergence_plot", "residual_plot"]

# inches: about the width of a phone, so that letters stay legible there
_SIZE = (4.4, 2.8)


def convergence_plot(history: Mapping[str, Sequence[Any]]) -> str:
    """The objective over the iterations, relative to its start: a thin line for each slice, a thick one for their sum.

    Args:
        history: of a record, see :func:`monai_lipcar.handlers.record.objective_history`.

    Returns:
        ``data:`` address of an SVG picture.
    """
    figure, axes = _axes()
    iterations, slices = history["iterations"], history["objective"]
    total = [0.0] * len(iterations)
    for values in slices:
        steps = iterations[: len(values)]
        relative = [100.0 * value / (values[0] or 1.0) for value in values]
        axes.plot(steps, relative, color="0.75", linewidth=0.8)
        for point in range(len(iterations)):
            total[point] += values[min(point, len(values) - 1)]
    relative = [100.0 * value / (total[0] or 1.0) for value in total]
    axes.plot(iterations, relative, color="#0b57a4", linewidth=2.0, label="sum over slices")
    axes.plot([], [], color="0.75", linewidth=0.8, label="each slice")
    axes.set(xlabel="iteration", ylabel="objective (% of its start)", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def residual_plot(
    head: Sequence[float | None], windows: Sequence[float | None], head_limit: float, window_limit: float
) -> str:
    """Residual over the expected one in each slice, with the limits of the verdict.

    Args:
        head: root mean square of the residual over the head, over what noise and prior leave; None in a slice without.
        windows: the same in the worst window of each slice.
        head_limit: of the verdict.
        window_limit: of the verdict.

    Returns:
        ``data:`` address of an SVG picture.
    """
    figure, axes = _axes()
    numbers = range(1, len(head) + 1)
    nothing = float("nan")
    for values, limit, color, marker, label in (
        (windows, window_limit, "#b35900", "s", "worst window"),
        (head, head_limit, "#0b57a4", "o", "head"),
    ):
        own = [nothing if value is None else value for value in values]
        axes.plot(numbers, own, marker + "-", color=color, markersize=3, linewidth=1.2, label=label)
        axes.axhline(limit, color=color, linestyle="--", linewidth=1.0)
    axes.plot([], [], color="0.4", linestyle="--", linewidth=1.0, label="limit")
    axes.set(xlabel="slice", ylabel="residual / expected", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)  # never over a limit
    return _svg(figure)


def _axes() -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _svg(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
