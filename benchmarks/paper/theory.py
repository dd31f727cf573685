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
"""The paper's theory, numerically: stability, convergence, and the rate in the Bregman distance.

All three on a square of one slice, with the forward operator of ``ph2l_tv`` and total variation, solved far beyond the
tolerance of daily use:

- stability (Theorem 3): at fixed alpha, data y + delta n with |n| = 1 and delta falling. The solutions go to that of y.
- convergence (Theorem 4): delta falling, alpha = c delta, so that delta^2 / alpha falls too. For data that the operator
  explains, y = Psi(x_H), the error goes towards zero; for the acquired low dose it goes to the error that the operator
  makes on these data.
- rate (Remark 5): the true image is one that fulfills the source condition, a solution of a regularized problem, with
  the subgradient xi that its optimality gives. With alpha = c delta the Bregman distance
  D(x, x_true) = TV(x) - TV(x_true) - <xi, x - x_true> should fall as fast as delta.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from monai_lipcar.problem import LearnedInverseProblem, ProximalSolver, TotalVariation

from .evaluation import Evaluator
from .parts import Parts
from .settings import RESULTS
from .slices import Sample

__all__ = ["run", "slope"]

ALPHA = 1e-3
FORMAT = 2


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of a straight line through log y over log x; NaN with fewer than two positive values.

    Example:
        >>> round(slope([1.0, 0.1, 0.01], [5.0, 0.05, 0.0005]), 6)
        2.0
    """
    points = [(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]
    if len(points) < 2:
        return float("nan")
    logs = np.array(points)
    return float(np.polyfit(logs[:, 0], logs[:, 1], deg=1)[0])


def run(evaluator: Evaluator, name: str, anatomy: str, compute: bool = True) -> dict[str, Any] | None:
    """All experiments on one slice; each is found again when it was finished before.

    Args:
        evaluator: of the reproduction.
        name: the slice.
        anatomy: its cohort.
        compute: False only looks, and returns None where an experiment is missing.

    With ``go_on`` the published result is taken where it is of the same slice, weights and settings.
    """
    settings = evaluator.settings
    sample = evaluator.slices[anatomy]["test"].load([name])[0]
    result: dict[str, Any] = {"slice": f"{anatomy} {name}", "side": settings.theory_side, "alpha": ALPHA}
    if settings.go_on and (published := _published(evaluator, result)):
        return published
    experiment = Experiment(evaluator, _square(sample, settings.theory_side)) if compute else None
    parts = Parts(settings.output / "theory")
    for part in tqdm(("stability", "convergence", "rate"), desc="theory", unit="experiment", disable=not compute):
        key = {
            **{"format": FORMAT, "part": part, "slice": name, "side": settings.theory_side, "alpha": ALPHA},
            **{"steps": settings.theory_steps, "iterations": settings.theory_iterations, "seed": settings.seed},
            **{"weights": evaluator.networks.sha256("ph2l"), "data": evaluator.data(anatomy)},
        }
        content = parts.find(key)
        if not content:
            if not compute:
                return None
            content = getattr(experiment, part)()
            parts.store(key, content)
        result[part] = content
    return result


def _published(evaluator: Evaluator, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The theory of ``paper.json``, if it is of what is wanted, from the same weights, seed and number of steps."""
    settings = evaluator.settings
    try:
        file = (settings.published or settings.results) / RESULTS
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found: dict[str, Any] | None = content["theory"]
    if found is None or content["seed"] != settings.seed:
        return None
    same = {key: found[key] for key in wanted} == wanted and len(found["rate"]["delta"]) == settings.theory_steps
    same = same and "noise_free" in found["convergence"]  # from format 2 on
    return found if same and content["weights"]["sha256"]["ph2l"] == evaluator.networks.sha256("ph2l") else None


class Experiment:
    """The experiments on one square of one slice.

    Args:
        evaluator: for its operator and settings.
        sample: members of the square, (1, H, W).
    """

    def __init__(self, evaluator: Evaluator, sample: Sample) -> None:
        settings = evaluator.settings
        self.operator = evaluator.networks.operator("ph2l")
        device = torch.device(settings.device)
        self.pre, self.low, self.high = (sample[name][None].to(device) for name in ("pre", "low", "high"))
        self.solver = ProximalSolver(max_iterations=settings.theory_iterations, tolerance=1e-7, max_prox_iterations=500)
        noise = torch.randn(self.low.shape, generator=torch.Generator().manual_seed(settings.seed)).to(device)
        self.direction = noise / noise.norm()
        # from the norm of noise of standard deviation 0.05 down, by factors of two
        self.deltas = [0.05 * settings.theory_side * 0.5**step for step in range(settings.theory_steps)]

    def stability(self) -> dict[str, Any]:
        """Distances of the solutions from that without perturbation."""
        reference = self._solve(self.low, ALPHA)
        distances = [self._distance(self._solve(self._noisy(self.low, d), ALPHA), reference) for d in self.deltas]
        return {"delta": self.deltas, "distance": distances, "slope": slope(self.deltas, distances)}

    def convergence(self) -> dict[str, Any]:
        """Errors of the solutions, for data that the operator explains and for the acquired low dose.

        ``"noise_free"``: for the acquired low dose as it is, with the same alphas, which is what the error of the
        operator leaves.
        """
        alphas = self._alphas()
        result: dict[str, Any] = {"delta": self.deltas, "alpha": alphas}
        with torch.no_grad():
            explained = self.operator(torch.cat([self.pre, self.high], dim=1))
        result["operator_error"] = float((explained - self.low).norm())
        for name, data in (("explained", explained), ("acquired", self.low)):
            pairs = zip(self.deltas, alphas, strict=True)
            result[name] = [self._distance(self._solve(self._noisy(data, d), a), self.high) for d, a in pairs]
        result["noise_free"] = [self._distance(self._solve(self.low, alpha), self.high) for alpha in alphas]
        return result

    def rate(self) -> dict[str, Any]:
        """Bregman distances from an image that fulfills the source condition."""
        prior = TotalVariation()
        true = self._solve(self.low, ALPHA)
        leaf = true.clone().requires_grad_(True)
        simulated = self.operator(torch.cat([self.pre, leaf], dim=1))
        residual = (self.low - simulated).detach()
        # optimality: Psi'(x)^T (y - Psi(x)) / alpha is a subgradient of TV, plus the normal cone of [0, 1]
        (adjoint,) = torch.autograd.grad((simulated * residual).sum(), leaf)
        xi = adjoint / ALPHA
        distances = []
        alphas = self._alphas()
        for delta, alpha in zip(self.deltas, alphas, strict=True):
            image = self._solve(self._noisy(simulated.detach(), delta), alpha)
            linear = float((xi * (image - true)).sum(dtype=torch.float64))
            distances.append(float(prior.exact(image) - prior.exact(true)) - linear)
        return {
            **{"delta": self.deltas, "alpha": alphas, "bregman": distances},
            "slope": slope(self.deltas, distances),
        }

    def _alphas(self) -> list[float]:
        """In proportion to delta, ALPHA at the geometric middle of the deltas."""
        middle = math.sqrt(self.deltas[0] * self.deltas[-1])
        return [ALPHA * delta / middle for delta in self.deltas]

    def _noisy(self, data: torch.Tensor, delta: float) -> torch.Tensor:
        return data + delta * self.direction

    def _solve(self, data: torch.Tensor, alpha: float) -> torch.Tensor:
        problem = LearnedInverseProblem(self.operator, data, TotalVariation(), alpha, self.pre)
        # always from the same image: minimizers of a problem that is not convex are not unique
        image: torch.Tensor = self.solver.solve(problem, self.low).image
        return image

    @staticmethod
    def _distance(image: torch.Tensor, other: torch.Tensor) -> float:
        return float((image - other).norm())


def _square(sample: Sample, side: int) -> dict[str, torch.Tensor]:
    """A square around the middle of the head."""
    rows, columns = np.nonzero(sample["head"][0].numpy() > 0.5)
    height, width = sample["head"].shape[-2:]
    corner = [
        int(np.clip(int(place.mean()) - side // 2, 0, max(size - side, 0)))
        for place, size in ((rows, height), (columns, width))
    ]
    cut = (slice(None), slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    return {name: sample[name][cut].contiguous() for name in ("pre", "low", "high")}
