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
"""MONAI transforms for studies: checks, intensities, denoising, dose simulation."""

from __future__ import annotations

from .contrast import MatchContrastD, MatchContrastd, MatchContrastDict, match_contrast
from .denoise import DenoiseSlices, DenoiseSlicesD, DenoiseSlicesd, DenoiseSlicesDict
from .domain import CheckDomainD, CheckDomaind, CheckDomainDict
from .dose import SimulateLowDose, SimulateLowDoseD, SimulateLowDosed, SimulateLowDoseDict
from .foreground import foreground_threshold, head_mask
from .invert import InvertByFirstD, InvertByFirstd, InvertByFirstDict
from .load import LoadMembersD, LoadMembersd, LoadMembersDict
from .match import MatchIntensity, MatchIntensityD, MatchIntensityd, MatchIntensityDict
from .noise_level import EstimateNoise, EstimateNoiseD, EstimateNoised, EstimateNoiseDict, estimate_noise
from .registration import CheckRegistration, CheckRegistrationD, CheckRegistrationd, CheckRegistrationDict
from .scale import (
    ScaleIntensityByReference,
    ScaleIntensityByReferenceD,
    ScaleIntensityByReferenced,
    ScaleIntensityByReferenceDict,
)
from .tissue_t1 import BRAIN_T1_MS, estimate_t1

__all__ = [
    "BRAIN_T1_MS",
    "CheckDomainD",
    "CheckDomainDict",
    "CheckDomaind",
    "CheckRegistration",
    "CheckRegistrationD",
    "CheckRegistrationDict",
    "CheckRegistrationd",
    "DenoiseSlices",
    "DenoiseSlicesD",
    "DenoiseSlicesDict",
    "DenoiseSlicesd",
    "EstimateNoise",
    "EstimateNoiseD",
    "EstimateNoiseDict",
    "EstimateNoised",
    "InvertByFirstD",
    "InvertByFirstDict",
    "InvertByFirstd",
    "LoadMembersD",
    "LoadMembersDict",
    "LoadMembersd",
    "MatchContrastD",
    "MatchContrastDict",
    "MatchContrastd",
    "MatchIntensity",
    "MatchIntensityD",
    "MatchIntensityDict",
    "MatchIntensityd",
    "ScaleIntensityByReference",
    "ScaleIntensityByReferenceD",
    "ScaleIntensityByReferenceDict",
    "ScaleIntensityByReferenced",
    "SimulateLowDose",
    "SimulateLowDoseD",
    "SimulateLowDoseDict",
    "SimulateLowDosed",
    "estimate_noise",
    "estimate_t1",
    "foreground_threshold",
    "head_mask",
    "match_contrast",
]
