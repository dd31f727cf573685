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
"""How stationary an image is, by the proximal gradient step from it."""

from __future__ import annotations

import torch

from monai_lipcar.types import PerSample

from .objective import LearnedInverseProblem
from .proximal_step import Point, Trial, sum_per_sample, wide

__all__ = ["certificate"]


def certificate(
    problem: LearnedInverseProblem,
    point: Point,
    trial: Trial,
    step: PerSample,
    decrease: PerSample,
    first_residual: PerSample,
) -> dict[str, torch.Tensor]:
    """The measures that :class:`~monai_lipcar.problem.ProximalSolver` describes, each (B,), without an evaluation.

    Args:
        problem: that is solved.
        point: the image.
        trial: the step from there.
        step: its tau, (B,).
        decrease: of the convex model, relative, (B,).
        first_residual: norm of the first step of the solve over its tau, (B,).
    """
    subgradient, complementarity = problem.prior.witness(point.image, trial.dual)
    slope = point.gradient + wide(problem.alpha, point.image) * subgradient
    moved = point.image - (point.image - wide(step, point.image) * slope / point.metric).clamp(0.0, 1.0)
    residual = trial.squared.sqrt() / step
    measures = {
        "relative_model_decrease": decrease,
        "prox_gradient_residual": residual,
        "relative_prox_gradient_residual": residual / first_residual.clamp_min(torch.finfo(torch.float64).tiny),
        "stationarity": sum_per_sample(point.metric * moved.square()).sqrt() / step,
        "complementarity": problem.alpha * complementarity,
    }
    return {name: value.float() for name, value in measures.items()}
