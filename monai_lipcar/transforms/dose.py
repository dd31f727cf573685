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
"""The low-dose image that a routine examination (pre-dose and full-dose image) would have had."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from monai.transforms.transform import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor
from torch import Tensor

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics import (
    HIGH_RELAXIVITY,
    REFERENCE_T1_MS,
    REFERENCE_T2_MS,
    ContrastAgent,
    IodineCT,
    LinearDoseOperator,
    SignalEquationOperator,
    SignalModel,
    VoxelT1DoseOperator,
    add_gaussian_noise,
    add_rician_noise,
)
from monai_lipcar.physics.dose import SIMULATED_SATURATION
from monai_lipcar.transforms.scale import ScaleIntensityByReference
from monai_lipcar.transforms.tissue_t1 import estimate_t1

__all__ = ["SimulateLowDose", "SimulateLowDoseD", "SimulateLowDoseDict", "SimulateLowDosed"]

_AIR_HU = -1000.0


class SimulateLowDose(Transform):
    r"""Simulate the image at a fraction of the dose, from the images before contrast and at full dose.

    .. math::
        x_L = N_\sigma\big(x_P + g(x_H / x_P)\,(x_H - x_P)\big), \qquad \sigma = \text{noise level} \cdot P_{99.5}

    MR: ``g`` is the dose response of a reference tissue (:class:`~monai_lipcar.physics.DoseResponse`), so a saturating
    signal is followed back to its concentration and forward again; a linear blend would leave too little enhancement.
    The noise is Rician. Voxels that are exactly 0 in both images were masked out and stay 0. The two images must share
    their gain: match the intensities first.

    With ``t1_range_ms`` every voxel has a native T1 of its own, in this range, told from the pre-dose image as
    :func:`~monai_lipcar.transforms.tissue_t1.estimate_t1` describes (and how far to trust it), and
    :class:`~monai_lipcar.physics.VoxelT1DoseOperator` follows its signal.

    CT (``signal_model=IodineCT()``): attenuation is linear in iodine, so ``g`` is the dose fraction; Gaussian noise.

    The noise level is relative to ``P_{99.5}``, the 99.5th percentile of the pre-dose image over its foreground (above
    the air at -1000 HU for CT). It is the noise that is added: that of the two images is carried over, with the
    weights ``1 - g`` and ``g``.

    Args:
        dose_fraction: reduced dose over full dose, in [0, 1]; 0 gives the pre-dose image back, 1 the full-dose image.
        noise_level: standard deviation of the added noise, relative as above, at least 0.
        signal_model: the examination's sequence; by default the paper's spin echo. ``IodineCT()`` for CT.
        agent: contrast agent (MR).
        t1_ms: native T1 of the reference tissue in ms (MR); with ``t1_range_ms`` that of the median tissue, for which
            ``monai_lipcar.transforms.tissue_t1.BRAIN_T1_MS`` (1052 ms) is meant.
        t2_ms: native T2 of the reference tissue in ms (MR).
        seed: of the noise.
        t1_range_ms: shortest and longest native T1 of the voxels (MR), around ``t1_ms``; None: all are of the
            reference tissue.

    Raises:
        ConfigurationError: a dose fraction outside [0, 1], a negative noise level, a sequence without enhancement, a
            range of T1 for CT or without ``t1_ms`` in it.

    Example:
        >>> import torch
        >>> pre = torch.zeros(1, 8, 8, 8)
        >>> pre[:, 2:6] = 100.0
        >>> low = SimulateLowDose(dose_fraction=0.2, noise_level=0.0)(pre, 2.0 * pre)
        >>> round(float(low.max()), 1)  # the linear blend says 120.0
        123.3
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        dose_fraction: float = 0.2,
        noise_level: float = 0.01,
        signal_model: SignalModel | IodineCT | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        t1_ms: float = REFERENCE_T1_MS,
        t2_ms: float = REFERENCE_T2_MS,
        seed: int = 0,
        t1_range_ms: tuple[float, float] | None = None,
    ) -> None:
        if not noise_level >= 0:
            raise ConfigurationError(f"expected a noise level >= 0, relative to the image's scale, got {noise_level}")
        self.dose_fraction = float(dose_fraction)
        self.noise_level = float(noise_level)
        self.seed = seed
        self.is_ct = isinstance(signal_model, IodineCT)
        self.signal_model, self.t1_ms, self.t2_ms, self.t1_range_ms = signal_model, t1_ms, t2_ms, t1_range_ms
        self.operator: LinearDoseOperator | SignalEquationOperator | VoxelT1DoseOperator
        if isinstance(signal_model, IodineCT):
            if t1_range_ms is not None:
                raise ConfigurationError(f"expected no range of T1 for CT, got {t1_range_ms}")
            self.operator = LinearDoseOperator(dose_fraction)
        elif t1_range_ms is not None:
            shortest, longest = t1_range_ms
            if not shortest < t1_ms < longest:
                raise ConfigurationError(f"expected a range of T1 around {t1_ms} ms, got {t1_range_ms}")
            self.operator = VoxelT1DoseOperator(dose_fraction, signal_model, agent, (shortest, longest), t2_ms)
        else:
            self.operator = SignalEquationOperator(
                dose_fraction, signal_model, agent, t1_ms, t2_ms, saturation=SIMULATED_SATURATION
            )
        self.scaler = ScaleIntensityByReference(headroom=1.0, offset=_AIR_HU if self.is_ct else 0.0)

    def __call__(  # type: ignore[override]
        self, pre: NdarrayOrTensor, high: NdarrayOrTensor, study_id: str = ""
    ) -> Tensor:
        """Simulate one volume.

        Args:
            pre: image before contrast, channel-first (C, *spatial), scanner units.
            high: image at full dose, same grid and gain.
            study_id: gives every study its own noise, which depends on the seed and on this name alone.

        Returns:
            float32 image in the same units and on the grid of ``pre``; a MetaTensor with the metadata of ``pre`` and
            ``dose_fraction``, ``noise_level`` and ``noise_sigma`` (scanner units) unless tracking is off.

        Raises:
            StudyError: the images differ in shape or affine, contain NaN, or ``pre`` is constant.
            ValueError: a T1 for every voxel of what is not a volume.
        """
        before = convert_to_tensor(pre, dtype=torch.float32, track_meta=get_track_meta())
        plain = convert_to_tensor(before, track_meta=False)
        full = convert_to_tensor(high, dtype=torch.float32, track_meta=False, device=plain.device)
        _check_pair(pre, high, plain, full)
        reference = self.scaler.scale_of([plain])

        with torch.no_grad():
            # One scale for the operator's floor; channels become the batch.
            pair = torch.stack((plain, full), dim=1) / reference
            operator = self.operator.to(plain.device)
            if isinstance(operator, VoxelT1DoseOperator):
                clean = operator(pair, self._voxel_t1(before)[:, None])[:, 0]
            else:
                clean = operator(pair)[:, 0]
            generator = torch.Generator().manual_seed(_stream(self.seed, study_id))
            if self.is_ct:
                low = add_gaussian_noise(clean, self.noise_level, generator)
            else:
                low = add_rician_noise(clean, self.noise_level, generator)
                low[(plain == 0) & (full == 0)] = 0.0
            low = low * reference

        result: Tensor = convert_to_dst_type(low, before)[0]
        if isinstance(result, MetaTensor):
            result.meta["dose_fraction"] = self.dose_fraction
            result.meta["noise_level"] = self.noise_level
            result.meta["noise_sigma"] = self.noise_level * reference
        return result

    def _voxel_t1(self, before: Tensor) -> Tensor:
        """Native T1 in ms of every voxel of a channel-first volume."""
        if before.ndim != 4:
            raise ValueError(f"expected a volume (C, X, Y, Z) to tell T1 from, got shape {list(before.shape)}")
        spacing, axis = np.ones(3), 2
        if isinstance(before, MetaTensor):
            spacing = np.asarray(affine_to_spacing(before.affine), dtype=float)
            axis = slice_axis(before.affine, before.shape[1:])
        model = None if isinstance(self.signal_model, IodineCT) else self.signal_model
        assert self.t1_range_ms is not None
        maps = [
            estimate_t1(volume, spacing, model, self.t1_ms, self.t2_ms, self.t1_range_ms, slice_axis=axis)
            for volume in convert_to_numpy(before, dtype=np.float32)
        ]
        return torch.from_numpy(np.stack(maps)).to(before.device)


class SimulateLowDosed(MapTransform):
    """Dictionary version of :class:`SimulateLowDose`: adds ``low`` to a study that has ``pre`` and ``high``.

    The noise depends on the seed and on ``d["study_id"]`` (where there is one) alone: not on the order of the studies.
    A ``low`` that is already there is replaced.

    Args:
        pre_key: key of the image before contrast.
        high_key: key of the full-dose image.
        low_key: key of the result.
        dose_fraction, noise_level, signal_model, agent, t1_ms, t2_ms, seed, t1_range_ms: see :class:`SimulateLowDose`.

    Raises:
        ConfigurationError: see :class:`SimulateLowDose`.
        StudyError: when called: see :class:`SimulateLowDose`; the message names the study.

    Example:
        >>> import torch
        >>> pre = torch.zeros(1, 8, 8, 8)
        >>> pre[:, 2:6] = 100.0
        >>> d = SimulateLowDosed(noise_level=0.0)({"study_id": "a", "pre": pre, "high": 1.5 * pre})
        >>> sorted(d), round(float(d["low"].max()), 1)
        (['high', 'low', 'pre', 'study_id'], 110.7)
    """

    backend = SimulateLowDose.backend

    def __init__(
        self,
        pre_key: str = "pre",
        high_key: str = "high",
        low_key: str = "low",
        dose_fraction: float = 0.2,
        noise_level: float = 0.01,
        signal_model: SignalModel | IodineCT | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        t1_ms: float = REFERENCE_T1_MS,
        t2_ms: float = REFERENCE_T2_MS,
        seed: int = 0,
        t1_range_ms: tuple[float, float] | None = None,
    ) -> None:
        super().__init__((pre_key, high_key))
        self.pre_key, self.high_key, self.low_key = pre_key, high_key, low_key
        self.simulator = SimulateLowDose(
            dose_fraction, noise_level, signal_model, agent, t1_ms, t2_ms, seed, t1_range_ms
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        study = d.get("study_id")
        for key in (self.pre_key, self.high_key):
            if key not in d:
                raise StudyError(
                    f"no {key} volume to simulate the low dose from",
                    study=study,
                    advice=f"the study needs {self.pre_key} and {self.high_key}",
                )
        try:
            d[self.low_key] = self.simulator(d[self.pre_key], d[self.high_key], study_id=str(study or ""))
        except StudyError as error:
            raise StudyError(
                error.reason, study=study, member=error.member or self.pre_key, advice=error.advice
            ) from error
        return d


def _check_pair(pre: NdarrayOrTensor, high: NdarrayOrTensor, before: Tensor, full: Tensor) -> None:
    advice = "register and resample the two volumes first"
    if before.shape != full.shape:
        raise StudyError(
            f"expected pre and high of one shape, got {list(before.shape)} and {list(full.shape)}",
            member="high",
            advice=advice,
        )
    if (
        isinstance(pre, MetaTensor)
        and isinstance(high, MetaTensor)
        and not torch.allclose(pre.affine.double().cpu(), high.affine.double().cpu(), atol=1e-3)
    ):
        raise StudyError("expected pre and high of one affine, got different ones", member="high", advice=advice)
    if not bool(torch.isfinite(full).all()):
        raise StudyError(
            "the volume contains NaN or infinite values", member="high", advice="check the file, or export it again"
        )


def _stream(seed: int, study_id: str) -> int:
    """A 63-bit seed of its own for every study."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{study_id}".encode()).digest()[:8], "big") >> 1


SimulateLowDoseD = SimulateLowDoseDict = SimulateLowDosed
