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
"""The pictures of a page on which a reader moves through the slices: small files, embedded."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .figure import Panel
from .orientation import bounding_box, orientation

__all__ = ["BUDGET_BYTES", "Mark", "Strip", "Viewer", "make_viewer"]

BUDGET_BYTES = 7_000_000
"""Largest size of all pictures of a page as text. A mail server and a browser take a page of 8 MB."""
_QUALITY = 85
_COLORS = "RdBu_r"


@dataclass(frozen=True)
class Strip:
    """The pictures of one panel, a slice each.

    Args:
        title: what they show.
        note: a line below, e.g. the PSNR.
        pictures: ``data:`` addresses, in the order of the slices.
        limit: of a difference the end of its color scale; None for an image in shades of gray.
        unit: of ``limit``.
    """

    title: str
    note: str
    pictures: tuple[str, ...]
    limit: float | None
    unit: str


@dataclass(frozen=True)
class Mark:
    """A frame on the pictures of a slice, in percent of their width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Viewer:
    """All that the page needs to show slices.

    Args:
        strips: rows of panels.
        marks: of each slice the places to look at.
        width: of a picture on the page, in pixels of the volume.
        height: the same; pixels that are not square are accounted for.
        directions: letters of the directions at the left and at the top of a picture.
        reduced: factor that the pictures were made smaller by, to keep the page small; 1 where they were not.
    """

    strips: tuple[tuple[Strip, ...], ...]
    marks: tuple[tuple[Mark, ...], ...]
    width: float
    height: float
    directions: str
    reduced: float

    @property
    def slices(self) -> int:
        """Number of slices."""
        return len(self.marks)


def make_viewer(
    rows: Sequence[Sequence[Panel]],
    axis: int,
    affine: np.ndarray,
    marked: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> Viewer:
    """Make the pictures: all slices, cropped to what shows something in any of them, radiological.

    One gray window for all images and slices, and one symmetric color scale for each group of differences, so that
    slices can be compared with each other. JPEG, since noise does not compress without loss: 24 slices of 256x256 with
    nine panels are 6 MB so, 20 MB as PNG.

    Args:
        rows: rows of panels.
        axis: slice axis of their volumes.
        affine: of the volumes.
        marked: boolean volume, the places to look at: each connected piece in a slice gets a frame.
        budget_bytes: size that the pictures must not exceed; they are made smaller until they do not.

    Returns:
        What the page shows.
    """
    panels = [panel for row in rows for panel in row]
    orient, aspect, directions = orientation(affine, axis)
    volumes = [panel.volume for panel in panels if panel.kind == "image" and panel.window]
    top = max(float(np.percentile(volume, 99.8)) for volume in volumes) or 1.0
    seen = np.max([orient(volume.max(axis=axis)) for volume in volumes], axis=0) > 0.08 * top
    box = bounding_box(seen)
    count = panels[0].volume.shape[axis]
    looks = [_look(panel, panels, top) for panel in panels]

    def oriented(volume: np.ndarray, index: int) -> np.ndarray:
        return orient(np.take(volume, index, axis=axis))[box]

    height, width = oriented(panels[0].volume, 0).shape

    def encode(reduced: float) -> list[list[str]]:
        size = max(round(width * reduced), 1), max(round(height * reduced), 1)
        return [
            [_picture(look(oriented(panel.volume, index)), size) for index in range(count)]
            for panel, (look, _) in zip(panels, looks, strict=True)
        ]

    reduced, pictures = 1.0, encode(1.0)
    while (size := sum(len(picture) for strip in pictures for picture in strip)) > budget_bytes and reduced > 0.1:
        # the size goes with the area; a bit smaller, since the headers do not shrink
        reduced *= 0.95 * math.sqrt(budget_bytes / size)
        pictures = encode(reduced)
    strips = iter(
        Strip(panel.title, panel.note, tuple(own), limit, panel.unit)
        for panel, own, (_, limit) in zip(panels, pictures, looks, strict=True)
    )
    marks = [() if marked is None else _marks(oriented(marked, index)) for index in range(count)]
    return Viewer(
        tuple(tuple(next(strips) for _ in row) for row in rows),
        tuple(marks),
        float(width),
        height * aspect,
        directions,
        reduced,
    )


def _look(panel: Panel, panels: Sequence[Panel], top: float) -> tuple[Callable[[np.ndarray], np.ndarray], float | None]:
    """What makes 8-bit values of a picture, and the end of its color scale."""
    from matplotlib import colormaps

    if panel.kind == "image":
        return (lambda picture: np.asarray(np.clip(picture / top, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)), None
    group = [entry.volume for entry in panels if entry.group == panel.group and entry.window]
    limit = panel.limit or max(float(np.percentile(np.abs(volume), 99.5)) for volume in group) or 1.0
    colors = np.asarray(colormaps[_COLORS](np.linspace(0.0, 1.0, 256))[:, :3] * 255.0 + 0.5, dtype=np.uint8)
    return (lambda picture: colors[np.asarray(np.clip(picture / limit, -1.0, 1.0) * 127.5 + 127.5, np.uint8)]), limit


def _picture(values: np.ndarray, size: tuple[int, int]) -> str:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(values))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    # Without chroma subsampling, which would smear the thin red and blue lines of a difference; and without "optimize",
    # for which Pillow's buffer is too small where noise hardly compresses
    image.save(file, format="JPEG", quality=_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _marks(mask: np.ndarray) -> tuple[Mark, ...]:
    height, width = mask.shape
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return tuple(
        Mark(
            100.0 * columns.start / width,
            100.0 * lines.start / height,
            100.0 * (columns.stop - columns.start) / width,
            100.0 * (lines.stop - lines.start) / height,
        )
        for lines, columns in ndimage.find_objects(labels)
    )
