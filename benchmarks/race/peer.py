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
"""deepinv's proximal gradient methods with its TV prior, where deepinv is installed."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import library, nn

from monai_lipcar.problem import LearnedInverseProblem, frozen

from .meter import Meter
from .racers import Trace

__all__ = ["PeerRacer", "load_deepinv", "peer_racers"]


def load_deepinv() -> Any | None:
    """The module, or None where it is not installed."""
    if find_spec("deepinv") is None or find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        # its compiled part was built for another torch (with CUDA). The Python part, which is all that deepinv needs
        # here, is imported once the two operators are declared that it registers something for
        for name in ("nms", "qnms"):
            library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("deepinv")


class PeerRacer:
    """A proximal gradient method of deepinv, as its documentation proposes it, slice by slice.

    Its proximal map and its stopping rule take one norm over a whole batch, so it gets one slice at a time. It does not
    keep the image in [0, 1]; the objective is that of the clipped image, evaluated off the clock.

    Args:
        method: ``"PGD"`` (with its backtracking) or ``"FISTA"`` (which has none).
        deepinv: the module.
        gain: largest eigenvalue of J^T J; the step size starts at one over it. Finding it is not on the clock.
        max_iterations: cap; it stops by its default criterion before that.
    """

    batch_size = 1

    def __init__(self, method: str, deepinv: Any, gain: float, max_iterations: int = 30) -> None:
        self.name = f"deepinv {method}"
        self.method = method
        self.deepinv = deepinv
        self.gain = gain
        self.max_iterations = max_iterations

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            "name": self.name,
            "version": self.deepinv.__version__,
            "max_iterations": self.max_iterations,
            "stepsize": 1.0 / self.gain,
            "batch_size": self.batch_size,
        }

    def solve(self, problem: LearnedInverseProblem) -> Trace:
        """Solve from the observed image."""
        operator, observed = problem.operator, problem.observed
        assert isinstance(operator, nn.Module)
        images, evaluations, seconds = [], [], []

        def note(values: Any, previous: torch.Tensor, image: torch.Tensor) -> float:
            images.append(image[None].clamp(0.0, 1.0))
            evaluations.append(meter.forwards)
            seconds.append(meter.elapsed())
            return 0.0

        optim = self.deepinv.optim
        options: dict[str, Any] = {"backtracking": True} if self.method == "PGD" else {}
        solver = getattr(optim, self.method)(
            data_fidelity=optim.data_fidelity.L2(),
            prior=optim.prior.TVPrior(),
            lambda_reg=float(problem.alpha),
            stepsize=1.0 / self.gain,
            max_iter=self.max_iterations,
            early_stop=True,
            custom_metrics={"trace": note},
            **options,
        )
        physics = self.deepinv.physics.Physics(A=problem.simulate_low)
        with torch.no_grad(), frozen(operator):
            with Meter(operator) as meter:
                # FISTA keeps two images
                image = solver(observed, physics, init=(observed, observed), compute_metrics=True)[0].clamp(0.0, 1.0)
            images.append(image)
            evaluations.append(meter.forwards)
            seconds.append(meter.seconds)
            objective = [float(problem.objective(point)) for point in images]
        status = "converged" if len(images) <= self.max_iterations else "max_iterations"
        return Trace(image, [objective], evaluations, seconds, [status], [meter.forwards], meter)


def peer_racers(deepinv: Any, gain: float, max_iterations: int = 30) -> list[PeerRacer]:
    """Both methods."""
    return [PeerRacer(method, deepinv, gain, max_iterations) for method in ("PGD", "FISTA")]
