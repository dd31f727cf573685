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
"""Human heads: the anatomy of the MNI152 template, deformed, folded anew, clothed with skull, face and vessels.

The brain comes from the T1, gray matter and white matter templates that the package nilearn carries (ICBM 152 nonlinear
symmetric 2009a, Fonov et al., NeuroImage 54:313, 2011). They are a mean of 152 people: sulci are shallow and there is
no skull. So each head gets its own fine folds, and :mod:`monai_lipcar.data.phantom.human_head` builds what surrounds
the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from monai_lipcar.data.phantom.canvas import Canvas
from monai_lipcar.data.phantom.fields import smooth_field, soft_step
from monai_lipcar.data.phantom.human_head import HeadFrame, paint_surroundings, paint_vessels
from monai_lipcar.data.phantom.lesions import LesionModel, add_lesions
from monai_lipcar.data.phantom.maps import TissueMaps
from monai_lipcar.data.phantom.tissues import HUMAN_TISSUES

__all__ = ["mni152_head"]

_PAD_MM = 48
_STEP_MM = 2


def mni152_head(
    rng: np.random.Generator,
    lesions: int | None = None,
    *,
    shape: tuple[int, int, int] = (192, 224, 24),
    spacing: tuple[float, float, float] = (1.0, 1.0, 5.0),
    brain_extracted_fraction: float = 0.0,
    model: LesionModel | None = None,
) -> TissueMaps:
    """Draw a human head, axial slices from the cerebellum to the vertex.

    Args:
        rng: source of randomness.
        lesions: number of enhancing lesions; default: 1 to 3, drawn.
        shape: grid in voxels, slices on the last axis.
        spacing: voxel size in mm.
        brain_extracted_fraction: probability that everything outside the brain is removed, as many archives do.
        model: how lesions look.

    Returns:
        Tissue maps in RAS orientation, mm close to MNI coordinates.

    Example:
        >>> head = mni152_head(np.random.default_rng(0), lesions=1, shape=(96, 112, 6), spacing=(2.0, 2.0, 20.0))
        >>> head.shape, bool(head.lesion.any())
        ((96, 112, 6), True)
    """
    # thick slices are means of thinner ones, so that their partial volume is right
    thin_slices = max(1, round(spacing[2] / 2.5))
    fine_shape = (shape[0], shape[1], shape[2] * thin_slices)
    fine_spacing = (spacing[0], spacing[1], spacing[2] / thin_slices)
    affine = _affine(rng, shape, spacing)
    points = _deform(rng, affine, fine_shape, fine_spacing, spacing)

    template = _template()
    sampled = {
        name: _sample(volume, template.origin, step, points) for name, (volume, step) in template.volumes.items()
    }
    frame = HeadFrame(points, sampled["intracranial"], sampled["brain"], sampled["vault"], fine_spacing)
    # the suprasellar cistern is too wide for the closing
    frame.intracranial = np.minimum(frame.intracranial, frame.ellipsoid((0, 1, -16), (15, 14, 11)))
    canvas = Canvas(fine_shape)
    extracted = rng.random() < brain_extracted_fraction
    if not extracted:
        paint_surroundings(canvas, frame, rng)
    inside = soft_step(-frame.intracranial, 1.0)
    canvas.paint(HUMAN_TISSUES["cerebrospinal_fluid"], inside)
    white = _paint_brain(canvas, frame, sampled, rng)
    paint_vessels(canvas, frame, rng)
    if extracted:
        margin = 1.5 + 1.0 * smooth_field(rng, fine_shape, fine_spacing, 12.0)
        canvas.paint(HUMAN_TISSUES["air"], soft_step(frame.brain - margin, 1.0))

    maps = canvas.add_slices(thin_slices).finish(affine)
    brain, white = (_mean_slices(volume, thin_slices) for volume in (soft_step(-frame.brain, 1.0), white))
    head = (
        ndimage.binary_fill_holes(maps.head, structure=np.ones((3, 3, 1), dtype=bool)) if not extracted else maps.head
    )
    maps = TissueMaps(**{**vars(maps), "head": head})
    count = int(rng.integers(1, 4)) if lesions is None else lesions
    return add_lesions(maps, rng, count, region=brain > 0.5, edema_weight=np.clip(0.25 + white, 0, 1), model=model)


def _affine(rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """The head in the middle of the slices, the lowest slice in the lower cerebellum."""
    affine = np.diag([*spacing, 1.0])
    # the vertex of the template's brain is at z = 82
    middle = (0.0, -16.0, 80.0 - spacing[2] * shape[2] / 2)
    affine[:3, 3] = np.array(middle) + rng.uniform(-3, 3, 3) - (np.array(shape) - 1) / 2 * spacing
    return affine


def _deform(
    rng: np.random.Generator,
    affine: np.ndarray,
    fine_shape: tuple[int, int, int],
    fine_spacing: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> np.ndarray:
    """Template coordinates (3, *shape) in mm of every voxel: rotated, scaled, bent and ruffled."""
    angles = rng.uniform(-1, 1, 3) * np.deg2rad([8.0, 4.0, 5.0])
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [a for a in range(3) if a != axis]
        plane = np.eye(3)
        plane[first, first] = plane[second, second] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ plane
    shear = np.eye(3) + np.triu(rng.normal(0, 0.015, (3, 3)), 1)
    matrix = turn @ shear @ np.diag(1 / rng.uniform(0.93, 1.05, 3))

    origin = affine[:3, 3] + [0, 0, (fine_spacing[2] - spacing[2]) / 2]
    axes = [origin[a] + np.arange(fine_shape[a], dtype=np.float32) * fine_spacing[a] for a in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    points = np.empty((3, *fine_shape), dtype=np.float32)
    pivot = np.array([0.0, -16.0, 10.0])
    for row in range(3):
        a, b, c = matrix[row]
        points[row] = a * (x - pivot[0]) + b * (y - pivot[1]) + c * (z - pivot[2]) + pivot[row]
        for scale, strength in ((45.0, 2.5), (20.0, 0.8), (6.0, 0.35)):
            points[row] += strength * smooth_field(rng, fine_shape, fine_spacing, scale)
    return points


@dataclass(frozen=True)
class _Template:
    volumes: dict[str, tuple[np.ndarray, float]]
    """Per name the array and its step in mm."""
    origin: np.ndarray
    """Coordinates in mm of the first voxel of every array."""


@lru_cache(maxsize=1)
def _template() -> _Template:
    """Load the template once per process; signed distances (negative inside) to the brain and to the skull's inside."""
    from nilearn import datasets

    loaders = {
        "t1": datasets.load_mni152_template,
        "gray": datasets.load_mni152_gm_template,
        "white": datasets.load_mni152_wm_template,
    }
    volumes: dict[str, tuple[np.ndarray, float]] = {}
    origin = np.zeros(3)
    for name, load in loaders.items():
        image = load(resolution=1)
        data = image.get_fdata(dtype=np.float32)
        volumes[name] = (np.pad(data / data.max(), _PAD_MM), 1.0)
        origin = image.affine[:3, 3] - _PAD_MM
    mask = volumes["t1"][0][::_STEP_MM, ::_STEP_MM, ::_STEP_MM] > 0.02
    brain = _signed_distance(mask)
    # the inside of the skull bridges the clefts of the brain: closing by 14 mm
    intracranial = _close(brain, 14.0)
    volumes["vault"] = (_close(brain, 40.0), float(_STEP_MM))
    volumes["brain"] = (brain, float(_STEP_MM))
    volumes["intracranial"] = (intracranial, float(_STEP_MM))
    return _Template(volumes, origin)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    outside = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    return np.asarray(_STEP_MM * outside, dtype=np.float32)


def _close(distance: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the morphological closing of the inside of a surface."""
    return _signed_distance(_signed_distance(distance < radius) <= -radius)


def _sample(volume: np.ndarray, origin: np.ndarray, step: float, points: np.ndarray) -> np.ndarray:
    index = (points - origin.reshape(3, 1, 1, 1).astype(np.float32)) / np.float32(step)
    sampled = ndimage.map_coordinates(volume, index, order=1, mode="nearest", output=np.float32)
    return np.asarray(sampled)


def _paint_brain(
    canvas: Canvas, frame: HeadFrame, sampled: dict[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Paint gray and white matter with new folds; returns the fraction of white matter."""
    shape, spacing = frame.shape, frame.spacing
    present = soft_step(-frame.brain, 1.0)
    gray, white = sampled["gray"], sampled["white"]
    fluid = np.clip(1 - gray - white, 0, 1)
    # the mean of 152 brains is blurred: winner-takes-more sharpens it
    powers = np.stack([gray, white, fluid]) ** 2.2
    gray, white, fluid = powers / np.maximum(powers.sum(axis=0), 1e-6)

    # folds of this brain alone: sheets where a smooth field is zero, fluid in the middle, cortex on both sides
    field = smooth_field(rng, shape, spacing, 11.0)
    distance = np.abs(field) * 7.0
    distance += 0.6 * smooth_field(rng, shape, spacing, 3.0)
    depth = -frame.brain
    reach = 15.0 + 5.0 * smooth_field(rng, shape, spacing, 20.0)
    # not in the brain stem and the deep nuclei; the cerebellum has finer folds of its own
    x, y, z = frame.points
    cerebrum = soft_step(z + 12 + 0.30 * (y + 20), 12.0) * soft_step(
        np.hypot(np.hypot(x, (y + 10) * 0.7), z - 8) - 38, 10.0
    )
    shallow = soft_step(reach - depth, 6.0) * cerebrum
    ribbon = soft_step(2.8 - distance, 1.2) * shallow
    gray, white = gray + ribbon * white, white * (1 - ribbon)
    cleft = soft_step(0.75 - distance, 0.9) * shallow * soft_step(reach - 3.0 - depth, 4.0)
    foliage = np.abs(smooth_field(rng, shape, spacing, (5.0, 3.5, 3.5)))
    cerebellum = soft_step(-z - 14, 6.0) * soft_step(-y - 38, 6.0)
    cleft = np.maximum(cleft, 0.45 * soft_step(0.35 - foliage, 0.4) * cerebellum * gray)
    gray, white, fluid = gray * (1 - cleft), white * (1 - cleft), np.clip(fluid + cleft, 0, 1)

    # what is left of the template's own intensities once the tissue classes are accounted for
    expected = (
        0.70 * sampled["gray"] + 0.86 * sampled["white"] + 0.45 * np.clip(1 - sampled["gray"] - sampled["white"], 0, 1)
    )
    detail = np.clip(sampled["t1"] / np.maximum(expected, 0.2), 0.8, 1.2)
    mottle = 1 + 0.03 * smooth_field(rng, shape, spacing, 4.0) + 0.03 * smooth_field(rng, shape, spacing, 15.0)
    contrast = rng.normal(1.0, 0.05, 2)
    flow = np.clip(1 + 0.4 * smooth_field(rng, shape, spacing, 5.0), 0.2, 2.5)
    tissue = np.clip(gray + white, 0, 1) * present
    share = white / np.maximum(gray + white, 1e-6)
    canvas.paint(HUMAN_TISSUES["gray_matter"], tissue, r1_factor=detail * mottle * contrast[0], uptake_factor=flow)
    canvas.paint(
        HUMAN_TISSUES["white_matter"], tissue * share, r1_factor=detail * mottle * contrast[1], uptake_factor=flow
    )
    frame.fluid = np.clip(fluid, 0, 1) * present + (1 - present) * soft_step(-frame.intracranial, 1.0)
    return white * present


def _mean_slices(volume: np.ndarray, factor: int) -> np.ndarray:
    x, y, z = volume.shape
    return np.asarray(volume.reshape(x, y, z // factor, factor).mean(axis=-1))
