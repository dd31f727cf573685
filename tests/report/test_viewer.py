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
"""The pictures of a page: which, how they look, and how large they may be."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from monai_lipcar.report import Panel
from monai_lipcar.report.viewer import Mark, Viewer, make_viewer

AFFINE = np.diag([1.0, 2.0, 5.0, 1.0])
SHAPE = (60, 40, 4)


def volume(value: float = 100.0) -> np.ndarray:
    """A block in the middle of the slices, brighter from slice to slice."""
    result = np.zeros(SHAPE, dtype=np.float32)
    result[15:45, 10:30] = value * np.array([0.25, 0.5, 0.75, 1.0], dtype=np.float32)
    return result


def decoded(picture: str) -> np.ndarray:
    kind, data = picture.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(float)


def test_every_slice_of_every_panel_is_there() -> None:
    difference = Panel("error", volume(-3.0), "difference", "error", unit="mm")
    viewer = make_viewer([[Panel("pre", volume(), note="33 dB"), Panel("low", volume(80.0))], [difference]], 2, AFFINE)
    assert viewer.slices == 4
    assert [[strip.title for strip in row] for row in viewer.strips] == [["pre", "low"], ["error"]]
    pre, low = viewer.strips[0]
    assert (pre.note, pre.limit) == ("33 dB", None)
    assert viewer.strips[1][0].limit == pytest.approx(3.0)
    assert viewer.strips[1][0].unit == "mm"
    assert len(pre.pictures) == 4
    # one gray window over images and slices
    assert [decoded(picture)[16, 20] for picture in pre.pictures] == pytest.approx([64, 128, 191, 255], abs=4)
    assert decoded(low.pictures[3])[16, 20] == pytest.approx(0.8 * 255, abs=4)


def test_cropped_and_with_the_shape_of_the_voxels() -> None:
    viewer = make_viewer([[Panel("pre", volume())]], 2, AFFINE)
    assert decoded(viewer.strips[0][0].pictures[0]).shape == (20 + 12, 30 + 12)  # six pixels around
    assert (viewer.width, viewer.height) == (42.0, 2.0 * 32.0)
    assert viewer.directions == "RA"


def test_differences_are_red_above_and_blue_below_zero() -> None:
    signed = volume(1.0)
    signed[15:30] *= -1.0  # the half towards the left of the patient's axis
    panels = [[Panel("pre", volume())], [Panel("change", signed, "difference", limit=1.0)]]
    picture = decoded(make_viewer(panels, 2, AFFINE).strips[1][0].pictures[3])
    # voxels grow to the patient's right, which is shown at the left of the page
    red, blue = picture[16, 10], picture[16, 30]
    assert red[0] > 80 > red[2]
    assert blue[2] > 80 > blue[0]
    np.testing.assert_allclose(picture[1, 1], 247, atol=6)  # white


def test_places_to_look_at_are_framed_where_they_are() -> None:
    marked = np.zeros(SHAPE, dtype=bool)
    marked[15:25, 10:14, 2] = True
    viewer = make_viewer([[Panel("pre", volume())]], 2, AFFINE, marked)
    assert viewer.marks[:2] == ((), ())
    (mark,) = viewer.marks[2]
    # columns go from high to low first index, rows from high to low second index
    assert mark == Mark(
        left=pytest.approx(100 * (6 + 20) / 42),
        top=pytest.approx(100 * (6 + 16) / 32),
        width=pytest.approx(100 * 10 / 42),
        height=pytest.approx(100 * 4 / 32),
    )


def size_bytes(viewer: Viewer) -> int:
    """Length of all pictures in the page."""
    return sum(len(picture) for row in viewer.strips for strip in row for picture in strip.pictures)


def test_noise_is_encoded_and_made_smaller_until_it_fits() -> None:
    """Pure noise is the worst for JPEG; the page keeps its size all the same."""
    noise = np.random.default_rng(0).normal(size=(128, 128, 3)).astype(np.float32)
    panels = [[Panel("pre", np.abs(noise))], [Panel("noise", noise, "difference", limit=1.0)]]
    full = make_viewer(panels, 2, np.eye(4))
    assert full.reduced == 1.0
    small = make_viewer(panels, 2, np.eye(4), budget_bytes=size_bytes(full) // 3)
    assert size_bytes(small) <= size_bytes(full) // 3
    assert 0.3 < small.reduced < 0.7
    assert decoded(small.strips[0][0].pictures[0]).shape[0] == round(128 * small.reduced)
    assert (small.width, small.height) == (full.width, full.height)


def test_an_empty_image_is_shown() -> None:
    empty = np.zeros((20, 30, 2), dtype=np.float32)
    viewer = make_viewer([[Panel("pre", empty), Panel("error", empty, "difference")]], 2, np.eye(4))
    assert decoded(viewer.strips[0][0].pictures[0]).max() == 0
