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
"""The learned inverse problem: priors, objective and solvers."""

from __future__ import annotations

from .adam import AdamSolver
from .differences import finite_differences, transposed_differences
from .discrepancy import AlphaRule, AlphaSearch, DiscrepancyPrinciple, discrepancy
from .gain import operator_gain
from .guess_rule import GuessRule
from .objective import LearnedInverseProblem, frozen
from .priors import GeneralizedTotalVariation, Prior, TotalVariation
from .prox_tv import Proximal, prox_tv
from .proximal import ProximalSolver
from .solution import Solution, Status

__all__ = [
    "AdamSolver",
    "AlphaRule",
    "AlphaSearch",
    "DiscrepancyPrinciple",
    "GeneralizedTotalVariation",
    "GuessRule",
    "LearnedInverseProblem",
    "Prior",
    "Proximal",
    "ProximalSolver",
    "Solution",
    "Status",
    "TotalVariation",
    "discrepancy",
    "finite_differences",
    "frozen",
    "operator_gain",
    "prox_tv",
    "transposed_differences",
]
