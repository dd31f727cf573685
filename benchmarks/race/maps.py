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
"""The proximal map of total variation against deepinv's, on one thread and at equal accuracy.

What is timed are maps that solves ask for: image, weight and starting dual of each come from a solve of the race.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monai_lipcar.problem import (
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    Prior,
    ProximalSolver,
    TotalVariation,
    prox_tv,
)
from monai_lipcar.problem.prox_tv import Proximal

__all__ = ["GAP", "MapCall", "compare", "maps_of_solve"]

GAP = 1e-3
"""Above the minimum that an objective may be."""
MOST_STEPS = 20_000
"""Cap on the steps of both: far beyond what the gap takes, so that it does not end them before."""
PEER_REPEATS = 3
"""Of deepinv's, at most: one takes up to a second."""
CRITERIA = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8)
"""deepinv's stopping criterion, loose to tight; the last is the default of its prior."""


@dataclass(frozen=True)
class MapCall:
    """A proximal map that a solve asked for, as one of plain total variation in the usual norm.

    Args:
        title: which one of which solve.
        image: what is denoised, (1, 1, H, W).
        weight: alpha times the step, over the metric of the median voxel.
        before: the image of the map before it in the solve, whose dual this one starts from.
        weight_before: of that.
    """

    title: str
    image: torch.Tensor
    weight: float
    before: torch.Tensor
    weight_before: float


class _Recorder(Prior):
    """A prior that keeps what its proximal map is asked for: image (of a guess, the difference to it) and weight."""

    def __init__(self, prior: Prior, calls: list[tuple[torch.Tensor, float]]) -> None:
        self.prior, self.calls = prior, calls

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return self.prior(image)

    def exact(self, image: torch.Tensor) -> torch.Tensor:
        return self.prior.exact(image)

    def select(self, indices: torch.Tensor) -> _Recorder:
        return _Recorder(self.prior.select(indices), self.calls)

    def prox(self, image: torch.Tensor, weight: Any, **options: Any) -> Proximal:
        guess = self.prior.guess if isinstance(self.prior, GeneralizedTotalVariation) else 0.0
        call = (image - guess, float(weight) / float(options["metric"].median()))
        # a map that is only made more exact is no other one
        if not self.calls or self.calls[-1][1] != call[1] or not torch.equal(self.calls[-1][0], call[0]):
            self.calls.append(call)
        return self.prior.prox(image, weight, **options)

    def witness(self, image: torch.Tensor, dual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.prior.witness(image, dual)


def maps_of_solve(title: str, problem: LearnedInverseProblem, side: int, solver: ProximalSolver) -> list[MapCall]:
    """The maps with the median and with the largest weight of a solve, but for its first, which nothing is before.

    Args:
        title: of the problem.
        problem: of one slice.
        side: the middle of the images is taken, this large at most.
        solver: solves it.
    """
    calls: list[tuple[torch.Tensor, float]] = []
    prior = _Recorder(problem.prior, calls)
    recorded = LearnedInverseProblem(problem.operator, problem.observed, prior, problem.alpha, problem.pre)
    solver.solve(recorded, problem.observed)
    later = sorted(range(min(1, len(calls) - 1), len(calls)), key=lambda index: calls[index][1])
    chosen = {"median": later[len(later) // 2], "largest": later[-1]}
    return [
        MapCall(
            title=f"{title}, {name}",
            image=_middle(calls[index][0], side),
            weight=calls[index][1],
            before=_middle(calls[max(index - 1, 0)][0], side),
            weight_before=calls[max(index - 1, 0)][1],
        )
        for name, index in chosen.items()
    ]


def _middle(image: torch.Tensor, side: int) -> torch.Tensor:
    rows, columns = (max(0, (size - side) // 2) for size in image.shape[2:])
    return image[..., rows : rows + side, columns : columns + side].cpu().contiguous()


def compare(calls: Sequence[MapCall], deepinv: Any | None, repeats: int = 15) -> list[dict[str, Any]]:
    """Milliseconds of both for some maps, on one thread: from a cold start, and of ``prox_tv`` from the map before.

    deepinv has no gap to stop by; it gets the loosest of its criteria that brings it as near to the minimum. How near
    is measured for both alike: the objective, less the lower bound that an almost exact dual of ``prox_tv`` proves.

    Args:
        calls: what is asked for.
        deepinv: the module, or None.
        repeats: of which the median counts.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(call, deepinv, repeats) for call in calls]
    finally:
        torch.set_num_threads(threads)


def _row(call: MapCall, deepinv: Any | None, repeats: int) -> dict[str, Any]:
    prior, image, weight = TotalVariation(), call.image, call.weight

    def objective(result: torch.Tensor) -> float:
        fidelity = 0.5 * (result - image).double().square().sum()
        return float(fidelity + weight * prior.exact(result).double().sum())

    def own(dual: torch.Tensor | None = None) -> Proximal:
        return prox_tv(image, weight, dual=dual, tolerance=GAP, max_iterations=MOST_STEPS)

    exact = prox_tv(image, weight, tolerance=1e-6, max_iterations=MOST_STEPS)
    bound = objective(exact.image) - float(exact.gap)
    dual = prox_tv(call.before, call.weight_before, tolerance=GAP, max_iterations=MOST_STEPS).dual
    cold, warm = own(), own(dual)
    row: dict[str, Any] = {
        "title": call.title,
        "weight": weight,
        "prox_tv_ms": _milliseconds(own, repeats),
        "prox_tv_steps": int(cold.iterations),
        "prox_tv_gap": float(cold.gap),
        "prox_tv_excess": objective(cold.image) - bound,
        "warm_ms": _milliseconds(lambda: own(dual), repeats),
        "warm_steps": int(warm.iterations),
        "warm_gap": float(warm.gap),
        "bound_error": float(exact.gap),
    }
    if deepinv is None:
        return row

    def peer(criterion: float) -> torch.Tensor:
        denoiser = deepinv.models.TVDenoiser(crit=criterion, n_it_max=MOST_STEPS)
        result: torch.Tensor = denoiser(image, ths=weight)
        return result

    for criterion in CRITERIA:
        excess = objective(peer(criterion)) - bound
        if excess <= GAP:
            break
    found = _milliseconds(lambda: peer(criterion), min(repeats, PEER_REPEATS))
    row |= {"deepinv_ms": found, "deepinv_criterion": criterion, "deepinv_excess": excess}
    row["times_faster"] = found / row["prox_tv_ms"] if excess <= GAP else None
    return row


def _milliseconds(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)
