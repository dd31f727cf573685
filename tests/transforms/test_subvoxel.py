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
"""Tests of the motion of a fraction of a voxel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from monai_lipcar.transforms.foreground import head_mask
from monai_lipcar.transforms.rigid import RigidMotion
from monai_lipcar.transforms.subvoxel import Refinement, refine_rigid_motion

Head = Callable[..., np.ndarray]
SHAPE = (80, 96, 20)


@pytest.mark.parametrize(("turn_deg", "shift_mm"), [(0.0, (0.5, -0.3, 0.0)), (0.4, (0.0, 0.2, 0.0))])
def test_known_motion_is_recovered(
    head: Head, thick_slices: np.ndarray, turn_deg: float, shift_mm: tuple[float, float, float]
) -> None:
    fixed = head(thick_slices, SHAPE, dose=0.2, noise=5.0, seed=1)
    rotation_deg = (0.0, 0.0, turn_deg)
    moving = head(thick_slices, SHAPE, gain=0.9, noise=5.0, rotation_deg=rotation_deg, shift_mm=shift_mm, seed=2)
    found = refine_rigid_motion(moving, fixed, thick_slices, head_mask(fixed))
    rotation = Rotation.from_rotvec(np.radians(rotation_deg))
    translation = rotation.apply(found.motion.center) + np.array(shift_mm) - found.motion.center
    # pixels of 2 mm
    assert np.linalg.norm(found.motion.translation - translation) < 0.1
    assert found.motion.rotation_deg == pytest.approx(turn_deg, abs=0.03)
    assert found.significant
    assert 0.0 < found.precision_mm < 0.1


def test_heads_that_lie_still_do_not_move(head: Head, thick_slices: np.ndarray) -> None:
    fixed = head(thick_slices, SHAPE, dose=0.2, noise=5.0, seed=1)
    found = refine_rigid_motion(head(thick_slices, SHAPE, noise=5.0, seed=2), fixed, thick_slices, head_mask(fixed))
    assert found.motion.shift_mm < 0.1
    assert found.motion.rotation_deg < 0.03


def test_thick_slices_move_in_plane_only(head: Head, thick_slices: np.ndarray) -> None:
    fixed = head(thick_slices, SHAPE)
    found = refine_rigid_motion(
        head(thick_slices, SHAPE, shift_mm=(0.4, 0.0, 1.0)), fixed, thick_slices, head_mask(fixed)
    )
    assert found.motion.translation[2] == pytest.approx(0.0, abs=1e-9)
    # through-plane motion leaks into the plane, by about a tenth of a pixel of 2 mm
    assert found.motion.translation[0] == pytest.approx(0.4, abs=0.3)


def test_isotropic_voxels_move_in_all_directions(head: Head) -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -80.0, -95.0, -75.0
    fixed = head(affine, (54, 64, 51), noise=3.0, seed=1)
    moving = head(affine, (54, 64, 51), shift_mm=(0.5, 0.0, -0.7), noise=3.0, seed=2)
    found = refine_rigid_motion(moving, fixed, affine, head_mask(fixed))
    np.testing.assert_allclose(found.motion.translation, [0.5, 0.0, -0.7], atol=0.12)


def test_nothing_to_see_is_not_significant() -> None:
    flat = np.full((40, 40, 10), 100.0, dtype=np.float32)
    found = refine_rigid_motion(flat, flat, np.eye(4), np.ones(flat.shape, dtype=bool))
    assert not found.significant
    assert not Refinement(RigidMotion(np.eye(3), np.ones(3), np.zeros(3), 0.0), 2.0, 1.0).significant
