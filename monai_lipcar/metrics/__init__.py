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
"""Metrics of simulated images: similarity over the head, error, recovered enhancement, lesions, false enhancement."""

from __future__ import annotations

from .components import Component, connected_components
from .cumulative import (
    ContrastEnhancementPercentageMetric,
    ContrastToNoiseMetric,
    EnhancementBiasMetric,
    EnhancementRecoveryMetric,
    EnhancementSlopeMetric,
    FalseEnhancementMetric,
    HeadPSNRMetric,
    HeadSSIMMetric,
    LesionToBrainRatioMetric,
    MissedEnhancementMetric,
)
from .enhancement import enhancement_bias, enhancement_recovery, enhancement_slope, enhancing_tissue, tissue_brightness
from .false_enhancement import false_enhancement, is_missed, visible_lesions
from .image import psnr, relative_error, ssim, ssim_map
from .lesion import (
    contrast_enhancement_percentage,
    contrast_to_noise,
    lesion_to_brain_ratio,
    normal_tissue,
    tissue_noise,
)
from .lesion_table import LesionScorer, false_enhancement_row
from .study import study_metrics
from .study_metric import StudyMetric
from .verdict import expected_residual, judge, not_judged, with_findings

__all__ = [
    "Component",
    "ContrastEnhancementPercentageMetric",
    "ContrastToNoiseMetric",
    "EnhancementBiasMetric",
    "EnhancementRecoveryMetric",
    "EnhancementSlopeMetric",
    "FalseEnhancementMetric",
    "HeadPSNRMetric",
    "HeadSSIMMetric",
    "LesionScorer",
    "LesionToBrainRatioMetric",
    "MissedEnhancementMetric",
    "StudyMetric",
    "connected_components",
    "contrast_enhancement_percentage",
    "contrast_to_noise",
    "enhancement_bias",
    "enhancement_recovery",
    "enhancement_slope",
    "enhancing_tissue",
    "expected_residual",
    "false_enhancement",
    "false_enhancement_row",
    "is_missed",
    "judge",
    "lesion_to_brain_ratio",
    "normal_tissue",
    "not_judged",
    "psnr",
    "relative_error",
    "ssim",
    "ssim_map",
    "study_metrics",
    "tissue_brightness",
    "tissue_noise",
    "visible_lesions",
    "with_findings",
]
