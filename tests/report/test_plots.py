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
"""The curves of a page."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes

from monai_lipcar.report.plots import convergence_plot, residual_plot

Lines = list[tuple[list[float], list[float]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What is plotted: horizontal and vertical values of each line."""
    found: Lines = []
    plot = Axes.plot

    def spy(self: Axes, x: list[float], y: list[float], *args: object, **kwargs: object) -> object:
        found.append((list(x), list(y)))
        return plot(self, x, y, *args, **kwargs)

    monkeypatch.setattr(Axes, "plot", spy)
    return found


def assert_svg(address: str) -> None:
    kind, data = address.split(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_objective_relative_to_its_start(lines: Lines) -> None:
    history = {"iterations": [0, 1, 4], "objective": [[4.0, 2.0, 1.0], [6.0, 3.0]]}
    assert_svg(convergence_plot(history))
    assert lines[0] == ([0, 1, 4], [100.0, 50.0, 25.0])
    assert lines[1] == ([0, 1], [100.0, 50.0])
    assert lines[2] == ([0, 1, 4], [100.0, 50.0, 40.0])  # the slice that was done keeps its last value


def test_an_objective_of_zero_is_drawn() -> None:
    assert_svg(convergence_plot({"iterations": [0], "objective": [[0.0], [0.0]]}))


def test_residual_of_each_slice(lines: Lines) -> None:
    assert_svg(residual_plot([None, 0.9], [None, 3.1], 1.5, 2.7))
    windows, head, _ = lines  # the last one is that of the legend
    assert head[0] == windows[0] == [1, 2]
    assert (head[1][1], windows[1][1]) == (0.9, 3.1)
    assert head[1][0] != head[1][0]  # NaN: a gap
