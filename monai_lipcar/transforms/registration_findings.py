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
"""What the registration check found about the members of a study, and how a record says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_lipcar.transforms.rigid import RigidMotion
from monai_lipcar.transforms.slice_similarity import SliceComparison
from monai_lipcar.transforms.subvoxel import Refinement

__all__ = ["PairCheck", "registration_findings"]


@dataclass(frozen=True)
class PairCheck:
    """What was found about one volume against its reference.

    Args:
        motion: rigid motion against the reference, after registration and before refinement; None when not estimated.
        registered: the motion beyond the tolerance that was undone by registration; None when it was not.
        slices: slice-by-slice comparison.
        refined: the motion within the tolerance that was undone on top of it; None when it was not.
    """

    motion: RigidMotion | None
    registered: RigidMotion | None
    slices: SliceComparison
    refined: Refinement | None = None


def registration_findings(pairs: Mapping[str, PairCheck]) -> dict[str, Any]:
    """The entries of ``d["registration"]`` that exist by member, as JSON takes them.

    Args:
        pairs: what was found about each member.

    Returns:
        By entry (``shift_mm``, ``refined_mm``...) the value of each member that has one; millimeters and degrees.
    """
    motions = {key: pair.motion for key, pair in pairs.items() if pair.motion is not None}
    registered = {key: pair.registered for key, pair in pairs.items() if pair.registered is not None}
    refined = {key: pair.refined for key, pair in pairs.items() if pair.refined is not None}
    return {
        "shift_mm": {key: motion.shift_mm for key, motion in motions.items()},
        "rotation_deg": {key: motion.rotation_deg for key, motion in motions.items()},
        "mutual_information": {key: motion.mutual_information for key, motion in motions.items()},
        "registered": {key: key in registered for key in pairs},
        "registered_mm": {key: motion.shift_mm for key, motion in registered.items()},
        "registered_deg": {key: motion.rotation_deg for key, motion in registered.items()},
        "refined": {key: key in refined for key in pairs},
        "refined_mm": {key: found.motion.shift_mm for key, found in refined.items()},
        "refined_deg": {key: found.motion.rotation_deg for key, found in refined.items()},
        "left_mm": {key: found.precision_mm for key, found in refined.items()},
        "left_deg": {key: found.precision_deg for key, found in refined.items()},
        "similarity": {key: pair.slices.similarity.tolist() for key, pair in pairs.items()},
        "slice_gain": {key: pair.slices.gain.tolist() for key, pair in pairs.items()},
        "judged_slices": {key: pair.slices.judged.tolist() for key, pair in pairs.items()},
    }
