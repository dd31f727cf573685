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
"""The metrics as MONAI metrics, for any MONAI evaluator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from .components import LESION_SIZES, in_size
from .enhancement import enhancement_recovery, enhancing_tissue
from .image import psnr, ssim
from .lesion_table import LesionScorer, false_enhancement_row
from .study_metric import Members, StudyMetric

__all__ = [
    "ContrastEnhancementPercentageMetric",
    "ContrastToNoiseMetric",
    "EnhancementBiasMetric",
    "EnhancementRecoveryMetric",
    "EnhancementSlopeMetric",
    "FalseEnhancementMetric",
    "HeadPSNRMetric",
    "HeadSSIMMetric",
    "LesionToBrainRatioMetric",
    "MissedEnhancementMetric",
]

_FALSE_ENHANCEMENT = {
    "per_cm3": "false_enhancement_per_cm3",
    "diameter_mm": "false_enhancement_mm",
    "lesion_like": "false_enhancement_3mm",
}


class HeadSSIMMetric(StudyMetric):
    """SSIM over the head (:func:`~monai_lipcar.metrics.ssim`), which the noise of the air does not decide.

    Example:
        >>> image, head = torch.rand(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
        >>> head[..., 4:12, 4:12] = 1
        >>> round(HeadSSIMMetric()(image, image, head=head).item(), 5)
        1.0
    """

    needs = ("high", "head")

    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        head = members["head"]
        return ssim(image, members["high"], head) if bool(head.any()) else float("nan")


class HeadPSNRMetric(StudyMetric):
    """PSNR over the head in dB (:func:`~monai_lipcar.metrics.psnr`); over all voxels it is MONAI's ``PSNRMetric(1)``.

    Example:
        >>> image, head = torch.full((1, 1, 16, 16), 0.5), torch.ones(1, 1, 16, 16)
        >>> round(HeadPSNRMetric()(image + 0.1, image, head=head).item(), 4)
        20.0
    """

    needs = ("high", "head")

    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        head = members["head"]
        return psnr(image, members["high"], head) if bool(head.any()) else float("nan")


class EnhancementRecoveryMetric(StudyMetric):
    """Mean simulated over mean acquired enhancement in enhancing tissue (:func:`enhancement_recovery`): 1 is right."""

    needs = ("high", "pre", "head")

    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        pre, high = members["pre"], members["high"]
        return enhancement_recovery(image, pre, high, enhancing_tissue(pre, high, members["head"]))


class _LesionMetric(StudyMetric):
    needs: tuple[str, ...] = ("high", "lesion", "head")

    def __init__(self, size: str = "all", **options: Any) -> None:
        super().__init__(**options)
        in_size([], size)  # refuses what is no size
        self.size = size

    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        scorer = LesionScorer(members["lesion"], members["head"], members["high"], spacing, members.get("pre"))
        if not in_size(scorer.components, self.size) or not bool(members["head"].any()):
            return float("nan")
        return self._of(scorer, image)

    @abstractmethod
    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        raise NotImplementedError


class ContrastToNoiseMetric(_LesionMetric):
    """Contrast-to-noise ratio of lesions, mean over the lesions (:func:`contrast_to_noise`).

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.
    """

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.contrast(image, self.size)["cnr_lesion"]


class LesionToBrainRatioMetric(_LesionMetric):
    """Lesion-to-brain ratio, mean over the lesions (:func:`lesion_to_brain_ratio`).

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.
    """

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.contrast(image, self.size)["lbr_lesion"]


class ContrastEnhancementPercentageMetric(_LesionMetric):
    """Contrast enhancement percentage of lesions, mean over the lesions (:func:`contrast_enhancement_percentage`).

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.

    Example:
        >>> pre, lesion = torch.full((1, 1, 8, 8), 0.25), torch.zeros(1, 1, 8, 8)
        >>> lesion[..., 2:6, 2:6] = 1
        >>> metric = ContrastEnhancementPercentageMetric()
        >>> metric(pre + 0.125 * lesion, pre + 0.25 * lesion, pre=pre, lesion=lesion).item(), metric.aggregate().item()
        (50.0, 50.0)
    """

    needs = ("high", "pre", "lesion", "head")

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.percentage(image, self.size)["cep_lesion"]


class EnhancementSlopeMetric(_LesionMetric):
    """Slope of the regression of simulated on acquired enhancement over lesions (:func:`enhancement_slope`).

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.
    """

    needs = ("high", "pre", "lesion", "head")

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.enhancement(image, self.size)["enhancement_slope_lesion"]


class EnhancementBiasMetric(_LesionMetric):
    """Mean signed error of the enhancement over lesions (:func:`enhancement_bias`): below 0 some is lost.

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.
    """

    needs = ("high", "pre", "lesion", "head")

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.enhancement(image, self.size)["enhancement_bias_lesion"]


class MissedEnhancementMetric(_LesionMetric):
    """Share of the lesions that the acquired image shows and the simulated one does not (:func:`is_missed`).

    Args:
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` lesions.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`.

    Example:
        >>> pre, lesion = torch.full((1, 1, 20, 20), 0.3), torch.zeros(1, 1, 20, 20)
        >>> lesion[..., 2:5, 2:5] = 1; lesion[..., 10:18, 10:18] = 1
        >>> simulated = pre + 0.2 * lesion; simulated[..., 2:5, 2:5] = 0.3
        >>> small = MissedEnhancementMetric("small")
        >>> MissedEnhancementMetric()(simulated, pre + 0.2 * lesion, pre=pre, lesion=lesion).item()
        0.5
        >>> small(simulated, pre + 0.2 * lesion, pre=pre, lesion=lesion).item()
        1.0
    """

    needs = ("high", "pre", "lesion", "head")

    def _of(self, scorer: LesionScorer, image: torch.Tensor) -> float:
        return scorer.enhancement(image, self.size)["missed_lesions"]


class FalseEnhancementMetric(StudyMetric):
    """Enhancement outside of lesions that the acquired image does not have (:func:`false_enhancement`).

    Args:
        value: ``"per_cm3"``, the number of components over the volume of the head; ``"diameter_mm"``, the diameter of
            the largest; ``"lesion_like"``, 1 where that has 3 mm or more: the mean is the share of such studies.
        size: ``"all"``, ``"small"`` (below 5 mm) or ``"large"`` components; for ``"per_cm3"``.
        **options: see :class:`~monai_lipcar.metrics.study_metric.StudyMetric`. A ``lesion`` is optional.

    Raises:
        ValueError: unknown value or size.

    Example:
        >>> pre = torch.full((1, 1, 20, 20), 0.3)
        >>> simulated = pre.clone(); simulated[..., 5:9, 5:9] += 0.2
        >>> head = torch.ones_like(pre)
        >>> FalseEnhancementMetric("lesion_like")(simulated, pre, pre=pre, head=head).item()
        1.0
    """

    needs = ("high", "pre", "head")

    def __init__(self, value: str = "per_cm3", size: str = "all", **options: Any) -> None:
        super().__init__(**options)
        if value not in _FALSE_ENHANCEMENT:
            raise ValueError(f"expected a value of {', '.join(_FALSE_ENHANCEMENT)}, got {value!r}")
        if size not in LESION_SIZES or (size != "all" and value != "per_cm3"):
            raise ValueError(f"expected a size of {', '.join(LESION_SIZES)} (per_cm3), or all, got {size!r}")
        self.key = _FALSE_ENHANCEMENT[value] + ("" if size == "all" else f"_{size}")

    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        head = members["head"]
        if not bool(head.any()):
            return float("nan")
        high, lesion = members["high"], members.get("lesion")
        return false_enhancement_row(image, members["pre"], high, head, spacing, lesion)[self.key]
