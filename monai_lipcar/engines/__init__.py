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
"""Ignite engines: evaluation study by study, and what training adds to MONAI's trainer."""

from __future__ import annotations

from .resume import latest_checkpoint, resume_from
from .study import StudyDataset, StudyEvaluator, collate_study, prepare_study
from .training import (
    AutocastInferer,
    EpochSeed,
    FinalWeights,
    Throughput,
    attach_handlers,
    recalibrate_batch_norm,
)

__all__ = [
    "AutocastInferer",
    "EpochSeed",
    "FinalWeights",
    "StudyDataset",
    "StudyEvaluator",
    "Throughput",
    "attach_handlers",
    "collate_study",
    "latest_checkpoint",
    "prepare_study",
    "recalibrate_batch_norm",
    "resume_from",
]
