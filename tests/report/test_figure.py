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
"""The figure: what it shows, which way up, and on which scales."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_lipcar.report import Panel, best_slice, study_figure
from monai_lipcar.report.orientation import orientation

WORLD = {"R": 0, "A": 1, "S": 2}
AXIAL = np.diag([1.0, 1.0, 5.0, 1.0])


def world_coordinates(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Three volumes that hold x (to the right), y (anterior) and z (superior) of each voxel."""
    voxels = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    return np.einsum("ij,jxyz->ixyz", affine, voxels)[:3]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1.0, -1.0), repeat=3)))
@pytest.mark.parametrize(("normal", "left", "up"), [("S", "R", "A"), ("A", "R", "S"), ("R", "A", "S")])
def test_every_way_a_volume_can_be_stored_looks_the_same(
    order: tuple[int, ...], signs: tuple[float, ...], normal: str, left: str, up: str
) -> None:
    affine = np.zeros((4, 4))
    affine[3] = (5.0, 6.0, 7.0, 1.0)
    affine = affine.T  # translation
    for voxel_axis, (world_axis, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world_axis, voxel_axis] = sign * (2.0, 3.0, 4.0)[world_axis]
    axis = order.index(WORLD[normal])
    orient, aspect, directions = orientation(affine, axis)
    coordinates = world_coordinates(affine, (5, 6, 7))
    picture = {name: orient(coordinates[WORLD[name]].take(2, axis=axis)) for name in (left, up)}
    assert directions == left + up
    assert (np.diff(picture[left], axis=1) < 0).all()  # less and less to the right of the page: radiological
    assert (np.diff(picture[left], axis=0) == 0).all()
    assert (np.diff(picture[up], axis=0) < 0).all()
    spacing = dict(zip("RAS", (2.0, 3.0, 4.0), strict=True))
    assert aspect == pytest.approx(spacing[up] / spacing[left])


def test_a_tilted_axial_slice_is_still_axial() -> None:
    angle = np.deg2rad(20.0)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    _, aspect, directions = orientation(tilt @ AXIAL, 2)
    assert directions == "RA"
    assert aspect == pytest.approx(1.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def spy(self: Figure, *args: object, **kwargs: object) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def head(value: float = 100.0, shape: tuple[int, int, int] = (60, 80, 4)) -> np.ndarray:
    """A block off the center, its right anterior corner brighter."""
    volume = np.zeros(shape, dtype=np.float32)
    volume[20:50, 30:70] = value
    volume[44:50, 62:70] = 1.5 * value
    return volume


def pictures(figure: Figure) -> dict[str, np.ndarray]:
    return {axes.get_title(): np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_file_is_written(suffix: str, tmp_path: Path) -> None:
    path = study_figure([[Panel("pre", head())]], tmp_path / "new" / f"figure{suffix}", "title", 1, 2, AXIAL)
    assert path == tmp_path / "new" / f"figure{suffix}"
    assert path.stat().st_size > 1000


def test_cropped_to_the_head_and_turned(tmp_path: Path, drawn: list[Figure]) -> None:
    study_figure([[Panel("pre", head(), note="28.0 dB")]], tmp_path / "figure.png", "a study", 1, 2, AXIAL)
    (figure,) = drawn
    ((title, picture),) = pictures(figure).items()
    assert title == "pre\n28.0 dB"
    assert picture.shape == (40 + 12, 30 + 12)  # six pixels around
    rows, columns = np.nonzero(picture > 120)
    assert (rows.min(), rows.max()) == (6, 13)  # anterior: up
    assert (columns.min(), columns.max()) == (6, 11)  # right: left
    texts = {text.get_text() for text in figure.texts}
    assert texts == {"a study", "simulated image, for research use only, not for diagnosis"}
    assert {text.get_text() for text in figure.axes[0].texts} == {"R", "A"}


def test_slice_that_was_asked_for(tmp_path: Path, drawn: list[Figure]) -> None:
    volume = head() * np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    study_figure([[Panel("pre", volume)]], tmp_path / "figure.png", "", 2, 2, AXIAL)
    assert pictures(drawn[0])["pre"].max() == 450.0


def test_pixels_have_the_shape_of_the_voxels(tmp_path: Path, drawn: list[Figure]) -> None:
    affine = np.diag([1.0, 2.0, 5.0, 1.0])  # twice as long from front to back
    study_figure([[Panel("pre", head())]], tmp_path / "figure.png", "", 1, 2, affine)
    (axes,) = drawn[0].axes
    size = axes.get_window_extent()
    rows, columns = np.asarray(axes.images[0].get_array()).shape
    assert size.height / size.width == pytest.approx(2.0 * rows / columns, rel=1e-6)


def test_images_share_a_window_and_differences_a_symmetric_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    low, high = head(100.0), head(200.0)
    rows = [
        [Panel("low", low), Panel("high", high), Panel("noise", 50 * high, window=False)],
        [
            Panel("low error", low - high, "difference", "error"),
            Panel("no error", high - high, "difference", "error"),
            None,
        ],
        [Panel("residual", 0.01 * low, "difference", "residual"), None, None],
    ]
    study_figure(rows, tmp_path / "figure.png", "", 1, 2, AXIAL)
    limits = {axes.get_title(): axes.images[0].get_clim() for axes in drawn[0].axes if axes.images}
    assert limits["low"] == limits["high"] == limits["noise"] == (0.0, 300.0)
    assert limits["low error"] == limits["no error"] == (-150.0, 150.0)
    assert limits["residual"] == pytest.approx((-1.5, 1.5))
    maps = {axes.get_title(): axes.images[0].get_cmap().name for axes in drawn[0].axes if axes.images}
    assert maps["low"] == "gray"
    assert maps["residual"] == "RdBu_r"
    places = {axes.get_title(): axes.get_position() for axes in drawn[0].axes if axes.images}
    assert places["low"].y0 > places["low error"].y0 > places["residual"].y0
    assert places["low"].x0 == places["residual"].x0 < places["high"].x0


def test_panels_do_not_overlap(tmp_path: Path, drawn: list[Figure]) -> None:
    difference = [Panel("error", head(), "difference"), Panel("residual", head(), "difference")]
    study_figure(
        [[Panel("pre", head()), Panel("low", head(), note="x")], difference], tmp_path / "f.png", "t", 1, 2, AXIAL
    )
    boxes = [axes.get_window_extent() for axes in drawn[0].axes]
    page = drawn[0].bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_an_empty_image_is_drawn(tmp_path: Path) -> None:
    empty = np.zeros((20, 30, 4), dtype=np.float32)
    panels = [[Panel("pre", empty), Panel("error", empty, "difference")]]
    assert study_figure(panels, tmp_path / "figure.png", "", 1, 2, AXIAL).is_file()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_best_slice_shows_the_strongest_enhancement(axis: int) -> None:
    rng = np.random.default_rng(0)
    enhancement = rng.normal(0.0, 0.02, (20, 20, 20))
    enhancement[5:8, 11:14, 15] += 1.0  # most of it in slice 15 along the last axis
    enhancement[5, 11:14, 16] += 0.5
    best = best_slice(enhancement, axis)
    assert best in {0: (5,), 1: (11, 12, 13), 2: (15,)}[axis]
    lesion = np.zeros(enhancement.shape, dtype=bool)
    assert best_slice(enhancement, axis, lesion) == best  # there is none
    lesion[2, 3, 4] = True
    enhancement[2, 3, 4] = 0.3
    assert best_slice(enhancement, axis, lesion) == (2, 3, 4)[axis]
