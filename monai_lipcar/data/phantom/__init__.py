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
"""The digital phantom: simulated heads, a simulated scanner, and cohorts of simulated studies."""

from __future__ import annotations

from monai_lipcar.data.phantom.acquisition import AcquisitionOptions, acquire, random_acquisition_options
from monai_lipcar.data.phantom.canvas import Canvas
from monai_lipcar.data.phantom.cohort import ANATOMIES, simulate_study, study_scanner, write_cohort
from monai_lipcar.data.phantom.fields import smooth_field, soft_step
from monai_lipcar.data.phantom.lesions import LesionModel, add_lesions
from monai_lipcar.data.phantom.maps import TissueMaps
from monai_lipcar.data.phantom.mni152 import mni152_head
from monai_lipcar.data.phantom.randomized import random_head
from monai_lipcar.data.phantom.scanner import Scanner, draw_scanner
from monai_lipcar.data.phantom.tissues import HUMAN_TISSUES, Tissue

__all__ = [
    "ANATOMIES",
    "HUMAN_TISSUES",
    "AcquisitionOptions",
    "Canvas",
    "LesionModel",
    "Scanner",
    "Tissue",
    "TissueMaps",
    "acquire",
    "add_lesions",
    "draw_scanner",
    "mni152_head",
    "random_acquisition_options",
    "random_head",
    "simulate_study",
    "smooth_field",
    "soft_step",
    "study_scanner",
    "write_cohort",
]
