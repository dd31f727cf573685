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
"""Motion of a fraction of a voxel between two volumes of one head, measured where their gradients tell most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_lipcar.transforms.gain import biweight
from monai_lipcar.transforms.rigid import RigidMotion, resample_rigid

__all__ = ["Refinement", "refine_rigid_motion"]

SMOOTHING_VOXELS = 1.0
"""In-plane smoothing before gradients are taken."""
LOCAL_VOXELS = 6.0
"""Standard deviation, in plane, of the average by which the volumes are brought to one local brightness."""
STEPS = 2
"""Gauss-Newton steps; each leaves about a tenth of the one before."""
SAMPLES = 150_000
"""Voxels of the head that are looked at, at most: every n-th."""
FLOOR_VOXELS = 0.02
"""Least standard error of a shift, in pixels: enhancement biases the estimate by this much on simulated heads."""


@dataclass(frozen=True)
class Refinement:
    """A small motion and how well it is known.

    Args:
        motion: the motion; ``mutual_information`` is not a number.
        precision_mm: standard error of the shift.
        precision_deg: standard error of the rotation.

    Example:
        >>> still = RigidMotion(np.eye(3), np.zeros(3), np.zeros(3), float("nan"))
        >>> Refinement(still, 0.1, 0.1).significant
        False
    """

    motion: RigidMotion
    precision_mm: float
    precision_deg: float

    @property
    def significant(self) -> bool:
        """Shift or rotation is above twice its standard error."""
        return self.motion.shift_mm > 2 * self.precision_mm or self.motion.rotation_deg > 2 * self.precision_deg


def refine_rigid_motion(moving: np.ndarray, fixed: np.ndarray, affine: np.ndarray, head: np.ndarray) -> Refinement:
    r"""Motion below about a voxel that brings ``moving`` onto ``fixed``, by robust least squares on intensities.

    Both are smoothed by a voxel in plane and brought to one local brightness, :math:`\rho = G f / G m` under a wide
    Gaussian, so that gain and broad enhancement drop out. Where the moving volume still has to move by :math:`u`,

    .. math::
        f - \rho m \approx \rho \nabla m \cdot u, \qquad u(x) = \omega \times (x - c) + \tau,

    which is solved for the rotation :math:`\omega` and the shift :math:`\tau` with Tukey's weights (vessels and lesions
    drop out), twice, the volume being resampled in between. Through thick slices (more than 1.5 times the pixel) the
    gradient is not known well enough: there, only the shift in plane and the rotation about the slices' normal are
    estimated, and a motion through the slices leaks into the plane: an eighth of a slice biases the shift by 0.1 pixel.
    The standard error comes from leaving out one slice after the other (jackknife), so that what the model does not
    describe counts; enhancement, which it does not see, is counted with 0.02 pixel.

    Args:
        moving: ``(X, Y, Z)``, on the grid of ``fixed``, within about a voxel of its place.
        fixed: same shape.
        affine: 4x4, voxel to RAS mm.
        head: boolean mask of the head.

    Returns:
        The motion, in the convention of :class:`~monai_lipcar.transforms.rigid.RigidMotion`, and its precision: not
        significant where the head shows no gradients.
    """
    from scipy import ndimage

    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    units = axes / spacing
    slices = int(np.argmax(spacing))
    thick = spacing > 1.5 * spacing.min()
    narrow, wide = np.where(thick, 0.0, SMOOTHING_VOXELS), np.where(thick, 0.0, LOCAL_VOXELS)
    inside = np.argwhere(head)
    center = axes @ inside.mean(axis=0) + affine[:3, 3]
    shifts = [units[:, k] for k in range(3) if not thick[k]]
    turns = [units[:, slices]] if thick.any() else list(units.T)
    motion = RigidMotion(np.eye(3), np.zeros(3), center, float("nan"))
    # away from the border of the volume, which has no gradient across
    usable = head.copy()
    for k in range(3):
        if not thick[k]:
            edge = np.moveaxis(usable, k, 0)
            edge[:4] = edge[-4:] = False
    voxels = np.nonzero(usable)
    where = tuple(index[:: max(1, voxels[0].size // SAMPLES)] for index in voxels)
    if len(where[0]) < 100 * len(shifts + turns):
        return Refinement(motion, np.inf, np.inf)
    arm = axes @ np.array(where, dtype=np.float64) + (affine[:3, 3] - center)[:, None]
    arms = [np.cross(turn, arm.T).T for turn in turns]
    target = ndimage.gaussian_filter(np.asarray(fixed, dtype=np.float32), narrow)
    level = ndimage.gaussian_filter(target, wide)
    solution, error = np.zeros(len(shifts) + len(turns)), np.zeros(len(shifts) + len(turns))
    for iteration in range(STEPS):
        moved = moving if iteration == 0 else resample_rigid(moving, motion, affine, affine, fixed.shape)
        image = ndimage.gaussian_filter(np.asarray(moved, dtype=np.float32), narrow)
        ratio = level / np.maximum(ndimage.gaussian_filter(image, wide), 1e-6 * float(np.abs(image).max()) + 1e-12)
        residual = (target - ratio * image)[where].astype(np.float64)
        # the mean of both gradients: noise in one alone would make every motion look smaller
        mean = 0.5 * (target + ratio * image)
        gradient = np.zeros((3, residual.size))
        for k in (k for k in range(3) if not thick[k]):
            after, before = (tuple(i + (n == k) * step for n, i in enumerate(where)) for step in (1, -1))
            gradient += units[:, k, None] * ((mean[after] - mean[before]) / (2.0 * spacing[k]))
        columns = np.stack(
            [shift @ gradient for shift in shifts] + [np.einsum("ij,ij->j", turn, gradient) for turn in arms]
        )
        solution, error = _solve(columns, residual, where[slices], fixed.shape[slices])
        if not np.isfinite(error).all():
            return Refinement(motion, np.inf, np.inf)
        omega = sum((w * turn for w, turn in zip(solution[len(shifts) :], turns, strict=True)), np.zeros(3))
        tau = sum((t * shift for t, shift in zip(solution, shifts, strict=False)), np.zeros(3))
        motion = RigidMotion(
            motion.rotation @ _rotation(omega), motion.translation + motion.rotation @ tau, center, float("nan")
        )
    # what enhancement shifts it by, and the turn that moves the head's rim by as much
    floor_mm = FLOOR_VOXELS * float(spacing.min())
    radius_mm = float(np.sqrt((arm**2).sum(axis=0).mean()))
    return Refinement(
        motion,
        float(np.hypot(np.linalg.norm(error[: len(shifts)]), floor_mm)),
        float(np.degrees(np.hypot(np.linalg.norm(error[len(shifts) :]), floor_mm / radius_mm))),
    )


def _solve(columns: np.ndarray, residual: np.ndarray, slices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of the residual on the columns, and the jackknife's standard error over the slices."""
    unknowns = len(columns)
    solution = np.zeros(unknowns)
    for _ in range(3):
        left = residual - solution @ columns
        width = max(1.4826 * float(np.median(np.abs(left))), 1e-12)
        weights = biweight(left, 4.0 * width)
        normal, right = np.zeros((count, unknowns, unknowns)), np.zeros((count, unknowns))
        for i in range(unknowns):
            right[:, i] = np.bincount(slices, weights * columns[i] * residual, count)
            for j in range(i, unknowns):
                normal[:, i, j] = normal[:, j, i] = np.bincount(slices, weights * columns[i] * columns[j], count)
        total, total_right = normal.sum(axis=0), right.sum(axis=0)
        if np.linalg.cond(total) > 1e12:
            return solution, np.full(unknowns, np.inf)
        solution = np.linalg.solve(total, total_right)
    filled = [k for k in range(count) if normal[k].any()]
    if len(filled) < 2:
        return solution, np.full(unknowns, np.inf)
    without = np.array([np.linalg.lstsq(total - normal[k], total_right - right[k], rcond=None)[0] for k in filled])
    spread = (len(filled) - 1) / len(filled) * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return solution, np.sqrt(spread)


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Matrix of a rotation vector in radians."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector).as_matrix())
