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
"""Can these volumes be used together? Checks of one study before anything is computed from it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from monai.transforms.transform import Transform
from monai.utils import MetaKeys, TransformBackends, convert_to_numpy, ensure_tuple

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.errors import StudyError
from monai_lipcar.transforms.dose_order import SWAPPED, dose_order
from monai_lipcar.transforms.foreground import head_mask
from monai_lipcar.transforms.match import DOSE_RANK
from monai_lipcar.transforms.registration_findings import PairCheck, registration_findings
from monai_lipcar.transforms.rigid import RigidMotion, estimate_rigid_motion, resample_rigid
from monai_lipcar.transforms.slice_similarity import SliceComparison, compare_slices
from monai_lipcar.transforms.subvoxel import refine_rigid_motion
from monai_lipcar.transforms.volume_checks import check_volume, grid_difference

__all__ = [
    "CheckRegistration",
    "CheckRegistrationD",
    "CheckRegistrationDict",
    "CheckRegistrationd",
    "PairCheck",
]

logger = logging.getLogger(__name__)

POLICIES = ("raise", "drop", "register")
TOLERANCE_VOXELS = 0.75
"""Default tolerated shift, in in-plane voxels. The low dose shows a fifth of the enhancement, so an edge that is out of
place shows up five times as strong in what is computed from the difference. Measured at dose fraction 0.2, noise 1 %,
on a simulated and a real head: linear extrapolation loses 2-4 dB of PSNR at 0.25 voxel, 5-8 at 0.5, 7-11 at 0.75 and
9-13 at 1. Below, volumes acquired in one session would often be refused: motion within the tolerance is undone
instead (``refine``)."""
TOLERANCE_DEG = 0.5
"""Default tolerated rotation: moves the surface of a head 170 voxels across by 0.75 voxel."""
MIN_SIDE = 4
"""Voxels along every axis from which a motion can be estimated."""


class CheckRegistration(Transform):
    """Check that one volume can be used with a reference of the same head, and bring it into place if asked to.

    In this order: one 3-D volume, large enough, finite, not constant; the reference's grid (shape and affine); rigid
    motion against the reference, estimated with ITK (:func:`~monai_lipcar.transforms.rigid.estimate_rigid_motion`) and
    compared with the tolerance; slices that do not show the same as the reference's
    (:func:`~monai_lipcar.transforms.slice_similarity.compare_slices`).

    Args:
        policy: ``"raise"`` refuses motion beyond the tolerance, and any unusable slice. ``"drop"`` refuses motion, and
            marks unusable slices. ``"register"`` resamples a volume on another grid or beyond the tolerance rigidly
            onto the reference, estimates the motion again, and marks unusable slices.
        tolerance_mm: largest tolerated shift of the head's center; None: 0.75 of an in-plane voxel.
        tolerance_deg: largest tolerated rotation.
        min_size: least number of pixels along each side of a slice.
        estimate_motion: False skips ITK (seconds per volume); ``"register"`` needs it.
        seed: of the random sample of voxels that the motion is estimated from.
        refine: undo motion within the tolerance too, whatever the policy, where it is above twice the precision of
            :func:`~monai_lipcar.transforms.subvoxel.refine_rigid_motion` (about 0.05 pixel): in plane only for thick
            slices. Needs ``estimate_motion``.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> reference = torch.zeros(1, 40, 40, 6)
        >>> reference[:, 6:34, 6:34] = torch.from_numpy(rng.uniform(50.0, 100.0, (1, 28, 28, 6))).float()
        >>> check = CheckRegistration(estimate_motion=False)
        >>> image, found = check(1.1 * reference, reference)
        >>> bool(found.slices.usable.all())
        True
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        policy: str = "raise",
        tolerance_mm: float | None = None,
        tolerance_deg: float = TOLERANCE_DEG,
        min_size: int = 32,
        estimate_motion: bool = True,
        seed: int = 0,
        refine: bool = True,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        if (tolerance_mm is not None and not tolerance_mm > 0.0) or not tolerance_deg > 0.0:
            raise ValueError(f"tolerances must be above 0, got {tolerance_mm} mm and {tolerance_deg} degrees")
        if policy == "register" and not estimate_motion:
            raise ValueError("policy 'register' needs estimate_motion=True")
        self.policy = policy
        self.tolerance_mm = tolerance_mm
        self.tolerance_deg = tolerance_deg
        self.min_size = min_size
        self.estimate_motion = estimate_motion
        self.seed = seed
        self.refine = refine

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, reference: NdarrayOrTensor, reference_name: str = "the reference"
    ) -> tuple[NdarrayOrTensor, PairCheck]:
        """Check one volume.

        Args:
            img: ``(1, X, Y, Z)``; MetaTensors tell their affine, anything else lies on the identity.
            reference: ``(1, X', Y', Z')``.
            reference_name: for messages.

        Returns:
            The volume (the very same, or a MetaTensor on the reference's grid if it was registered) and the findings.

        Raises:
            StudyError: the pair cannot be used; says what was expected, what came and what to do.
        """
        volume, affine = self.checked_volume(img)
        target, target_affine = self.checked_volume(reference)
        difference = grid_difference(volume.shape, affine, target.shape, target_affine)
        axis = slice_axis(target_affine, target.shape)
        head = head_mask(target, axis=axis)
        estimate = self.estimate_motion and min(*volume.shape, *target.shape) >= MIN_SIDE
        if difference and not (estimate and self.policy == "register"):
            raise StudyError(
                f"not on the grid of {reference_name}: {difference}",
                advice=f"resample it onto the grid of {reference_name}, or choose the registration policy 'register'",
            )
        motion = registered = refined = None
        if estimate:
            original, original_affine = volume, affine
            motion = self._motion(volume, target, affine, target_affine, head)
            if self.policy == "register" and (difference or self._exceeds(motion, target_affine)):
                registered = motion
                volume = _resampled(original, motion, original_affine, target, target_affine)
                motion = self._motion(volume, target, target_affine, target_affine, head)
            if self._exceeds(motion, target_affine):
                raise self._displaced(motion, target_affine, reference_name, registered is not None)
            if self.refine:
                found = refine_rigid_motion(volume, target, target_affine, head)
                # a refinement that leaves what is tolerated has lost its way
                if found.significant and not self._exceeds(found.motion, target_affine):
                    refined = found
                    # from the original: interpolated once
                    both = found.motion if registered is None else registered.after(found.motion)
                    volume = _resampled(original, both, original_affine, target, target_affine)
            if registered is not None or refined is not None:
                img = _on_grid_of(reference, img, volume)
        slices = compare_slices(volume, target, head, axis)
        self._refuse_slices(slices, reference_name)
        return img, PairCheck(motion, registered, slices, refined)

    def checked_volume(self, img: NdarrayOrTensor) -> tuple[np.ndarray, np.ndarray]:
        """The volume as a float32 array ``(X, Y, Z)`` and its affine, or a StudyError that says why it is not one."""
        values = convert_to_numpy(img, dtype=np.float32)
        _, affine = _grid(img)
        check_volume(values, affine, self.min_size)
        return values[0], affine

    def tolerated_mm(self, affine: np.ndarray) -> float:
        """Largest tolerated shift on this grid, in mm."""
        return self.tolerance_mm or TOLERANCE_VOXELS * float(np.min(affine_to_spacing(affine)))

    def _motion(
        self, volume: np.ndarray, target: np.ndarray, affine: np.ndarray, target_affine: np.ndarray, head: np.ndarray
    ) -> RigidMotion:
        try:
            return estimate_rigid_motion(volume, target, affine, target_affine, head, self.seed)
        except (RuntimeError, ValueError) as error:
            # ITK's own words are a page of C++; the cause in practice is the same each time
            raise StudyError(
                "the motion between the volumes cannot be estimated: they do not overlap",
                advice="check that both show the same head, and their affines",
            ) from error

    def _exceeds(self, motion: RigidMotion, affine: np.ndarray) -> bool:
        return motion.shift_mm > self.tolerated_mm(affine) or motion.rotation_deg > self.tolerance_deg

    def _displaced(self, motion: RigidMotion, affine: np.ndarray, reference_name: str, registered: bool) -> StudyError:
        advice = "choose the registration policy 'register', or leave the study out"
        if registered:
            advice = "check that both show the same head, register them by hand, or leave the study out"
        return StudyError(
            f"displaced against {reference_name} by {motion.shift_mm:.2f} mm and {motion.rotation_deg:.2f} degrees"
            f"{' even after registration' if registered else ''} (tolerated: {self.tolerated_mm(affine):.2f} mm and "
            f"{self.tolerance_deg:g} degrees)",
            advice=advice,
        )

    def _refuse_slices(self, slices: SliceComparison, reference_name: str) -> None:
        unusable = np.flatnonzero(~slices.usable)
        if unusable.size and self.policy == "raise":
            raise StudyError(
                f"slices {', '.join(map(str, unusable))} of 0-{slices.usable.size - 1} do not show the same as those "
                f"of {reference_name}",
                advice="choose the registration policy 'drop', which leaves them out, or leave the study out",
            )


def _resampled(
    volume: np.ndarray, motion: RigidMotion, affine: np.ndarray, target: np.ndarray, target_affine: np.ndarray
) -> np.ndarray:
    return resample_rigid(volume, motion, affine, target_affine, target.shape, fill=float(volume.min()))


def _on_grid_of(reference: NdarrayOrTensor, img: NdarrayOrTensor, volume: np.ndarray) -> MetaTensor:
    """``volume`` with the affine of the reference, and what else was known about ``img``."""
    values = torch.from_numpy(volume)[None]
    affine = torch.from_numpy(_grid(reference)[1])
    if not isinstance(img, MetaTensor):
        return MetaTensor(values, affine=affine)
    meta = {key: value for key, value in img.meta.items() if key != MetaKeys.AFFINE}
    meta[MetaKeys.SPATIAL_SHAPE] = np.array(volume.shape)
    return MetaTensor(values, affine=affine, meta=meta, applied_operations=list(img.applied_operations))


class CheckRegistrationd(MapTransform):
    """Dictionary version of :class:`CheckRegistration` for a whole study, which also checks the order of the doses.

    Every member is checked against ``reference_key``; then ``pre <= low <= high`` in enhancing tissue
    (:func:`~monai_lipcar.transforms.dose_order.dose_order`), of those present. Sets

    - ``d["usable_slices"]``: list of bool along the slice axis, True where all members are usable;
    - ``d["registration"]``: dictionary that can be written as JSON: ``reference``, ``policy``, ``tolerance_mm``,
      ``tolerance_deg``, ``refine``, and by member ``shift_mm``, ``rotation_deg``, ``mutual_information`` (found after
      registration, before refinement), ``registered`` (bool: motion beyond the tolerance, or another grid, was undone
      by resampling), ``registered_mm`` and ``registered_deg`` (that motion), ``refined`` (bool: motion within the
      tolerance was undone), ``refined_mm``, ``refined_deg`` (that motion) and ``left_mm``, ``left_deg`` (the precision
      it is known to, which is what is left of it), ``similarity``, ``slice_gain`` and ``judged_slices`` (lists along
      the slice axis);
      ``dose_order`` by pair (``"pre<low"``).

    Args:
        keys: members to check.
        reference_key: the one that the others are compared with; its grid is the study's. Checked whether among the
            keys or not. Of several, the first that is present.
        policy, tolerance_mm, tolerance_deg, min_size, estimate_motion, seed, refine: see :class:`CheckRegistration`.
        mask_keys: members that only have to lie on the reference's grid, where they are loaded.
        allow_missing_keys: members other than the reference may be absent.

    Raises:
        StudyError: when called: the study cannot be used; names the study, the member and its file.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pre = torch.zeros(1, 40, 40, 6)
        >>> pre[:, 6:34, 6:34] = torch.from_numpy(rng.uniform(50.0, 100.0, (1, 28, 28, 6))).float()
        >>> check = CheckRegistrationd(keys=["pre", "low"], estimate_motion=False)
        >>> d = check({"pre": pre, "low": 1.1 * pre})
        >>> all(d["usable_slices"]), d["registration"]["reference"]
        (True, 'low')
        >>> check({"study_id": "rat-0001", "low": pre})
        Traceback (most recent call last):
            ...
        monai_lipcar.errors.StudyError: study rat-0001, pre: the member is missing; add it to the study
    """

    backend = CheckRegistration.backend

    def __init__(
        self,
        keys: KeysCollection,
        reference_key: KeysCollection = "low",
        policy: str = "raise",
        tolerance_mm: float | None = None,
        tolerance_deg: float = TOLERANCE_DEG,
        min_size: int = 32,
        estimate_motion: bool = True,
        mask_keys: KeysCollection = ("lesion",),
        seed: int = 0,
        allow_missing_keys: bool = False,
        refine: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference_keys = [str(key) for key in ensure_tuple(reference_key)]
        self.mask_keys = ensure_tuple(mask_keys)
        self.check = CheckRegistration(policy, tolerance_mm, tolerance_deg, min_size, estimate_motion, seed, refine)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        reference_key = next((key for key in self.reference_keys if key in d), self.reference_keys[0])
        others = [str(key) for key in self.keys if key != reference_key]
        for key in (reference_key, *([] if self.allow_missing_keys else others)):
            if key not in d:
                raise _located(StudyError("the member is missing", advice="add it to the study"), d, key)
        members = [reference_key, *(key for key in others if key in d)]
        for key in members:
            # all files first: a damaged one is said before the motion of another is estimated
            with _locating(d, key):
                self.check.checked_volume(d[key])
        pairs: dict[str, PairCheck] = {}
        reference = d[reference_key]
        for key in members[1:]:
            with _locating(d, key):
                d[key], pairs[key] = self.check(d[key], reference, reference_key)
        self._check_masks(d, reference_key)
        orders = self._dose_orders(d, members)
        shape, affine = _grid(reference)
        usable = np.ones(shape[slice_axis(affine, shape)], dtype=bool)
        for pair in pairs.values():
            usable &= pair.slices.usable
        d["usable_slices"] = usable.tolist()
        d["registration"] = {
            "reference": reference_key,
            "policy": self.check.policy,
            "tolerance_mm": self.check.tolerated_mm(affine),
            "tolerance_deg": self.check.tolerance_deg,
            "refine": self.check.refine,
            **registration_findings(pairs),
            "dose_order": orders,
        }
        if not usable.all():
            logger.warning("study %s: unusable slices %s", d.get("study_id", "-"), np.flatnonzero(~usable).tolist())
        return d

    def _check_masks(self, d: Mapping[Hashable, Any], reference_key: str) -> None:
        reference = d[reference_key]
        for key in (str(key) for key in self.mask_keys if isinstance(d.get(key), (torch.Tensor, np.ndarray))):
            with _locating(d, key):
                shape, affine = _grid(d[key])
                if difference := grid_difference(shape, affine, *_grid(reference)):
                    raise StudyError(
                        f"not on the grid of {reference_key}: {difference}",
                        advice=f"resample the mask onto the grid of {reference_key}",
                    )

    def _dose_orders(self, d: Mapping[Hashable, Any], members: list[str]) -> dict[str, float]:
        orders = {}
        for less, more in pairwise(sorted((key for key in members if key in DOSE_RANK), key=DOSE_RANK.__getitem__)):
            volumes = [self.check.checked_volume(d[key])[0] for key in (less, more)]
            spacing = np.asarray(affine_to_spacing(_grid(d[members[0]])[1]))
            order = dose_order(volumes[0], volumes[1], spacing)
            if order < SWAPPED:
                error = StudyError(
                    f"expected {more} to be brighter than {less} in enhancing tissue, and it is darker",
                    advice="check whether the two were swapped",
                )
                raise _located(error, d, less)
            orders[f"{less}<{more}"] = order
        return orders


def _grid(img: NdarrayOrTensor) -> tuple[tuple[int, ...], np.ndarray]:
    affine = convert_to_numpy(img.affine, dtype=np.float64) if isinstance(img, MetaTensor) else np.eye(4)
    return tuple(int(side) for side in img.shape[1:]), affine


@contextmanager
def _locating(d: Mapping[Hashable, Any], key: str) -> Iterator[None]:
    """Say in which study and file an error arose."""
    try:
        yield
    except StudyError as error:
        raise _located(error, d, key) from error


def _located(error: StudyError, d: Mapping[Hashable, Any], key: str) -> StudyError:
    file = Path(str(d[key].meta.get("filename_or_obj", ""))).name if isinstance(d.get(key), MetaTensor) else ""
    member = file if file.startswith(key) else f"{key} ({file})" if file else key
    return StudyError(error.reason, study=d.get("study_id"), member=member, advice=error.advice)


CheckRegistrationD = CheckRegistrationDict = CheckRegistrationd
