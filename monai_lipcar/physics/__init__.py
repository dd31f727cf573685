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
"""How a dose of contrast agent becomes signal: agents, sequences, CT, noise, and forward operators without training.

Times are in ms, rates in 1/s, concentrations in mM (mmol/L), relaxivities in 1/(mM s), angles in degrees.
"""

from __future__ import annotations

from monai_lipcar.physics.acquisition import Acquisition
from monai_lipcar.physics.agent import CONVENTIONAL, HIGH_RELAXIVITY, ContrastAgent, relaxation_rates
from monai_lipcar.physics.ct import IodineCT
from monai_lipcar.physics.dose import (
    REFERENCE_T1_MS,
    REFERENCE_T2_MS,
    DoseProtocol,
    DoseResponse,
    kept_enhancement,
    voxel_slope,
)
from monai_lipcar.physics.noise import add_gaussian_noise, add_rician_noise, rician_mean
from monai_lipcar.physics.operators import LinearDoseOperator, SignalEquationOperator, linear_extrapolation
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho
from monai_lipcar.physics.spoiled_gradient_echo import SpoiledGradientEcho, ernst_angle_deg
from monai_lipcar.physics.voxel_t1 import VoxelT1DoseOperator

__all__ = [
    "CONVENTIONAL",
    "HIGH_RELAXIVITY",
    "REFERENCE_T1_MS",
    "REFERENCE_T2_MS",
    "Acquisition",
    "ContrastAgent",
    "DoseProtocol",
    "DoseResponse",
    "IodineCT",
    "LinearDoseOperator",
    "SignalEquationOperator",
    "SignalModel",
    "SpinEcho",
    "SpoiledGradientEcho",
    "VoxelT1DoseOperator",
    "add_gaussian_noise",
    "add_rician_noise",
    "ernst_angle_deg",
    "kept_enhancement",
    "linear_extrapolation",
    "relaxation_rates",
    "rician_mean",
    "voxel_slope",
]
