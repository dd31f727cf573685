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
"""The proximal map of total variation against deepinv's, on one thread and at equal accuracy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from monai_lipcar.problem import TotalVariation, prox_tv

__all__ = ["GAP", "WEIGHTS", "compare"]

WEIGHTS = (0.006, 0.05, 0.3)
GAP = 1e-3
"""Above the minimum that an objective may be."""
CRITERIA = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8)
"""deepinv's stopping criterion, loose to tight; the last is the default of its prior."""


def compare(image: torch.Tensor, deepinv: Any | None, repeats: int = 15) -> list[dict[str, Any]]:
    """Milliseconds of both for some weights, from a cold start, on one thread.

    deepinv has no gap to stop by; it gets the loosest of its criteria that brings it as near to the minimum. How near
    is measured for both alike: the objective, less the lower bound that an almost exact dual of ``prox_tv`` proves.

    Args:
        image: (1, 1, H, W).
        deepinv: the module, or None.
        repeats: of which the median counts.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(image, weight, deepinv, repeats) for weight in WEIGHTS]
    finally:
        torch.set_num_threads(threads)


def _row(image: torch.Tensor, weight: float, deepinv: Any | None, repeats: int) -> dict[str, Any]:
    prior = TotalVariation()

    def objective(result: torch.Tensor) -> float:
        fidelity = 0.5 * (result - image).double().square().sum()
        return float(fidelity + weight * prior.exact(result).double().sum())

    exact = prox_tv(image, weight, tolerance=1e-6, max_iterations=20000)
    bound = objective(exact.image) - float(exact.gap)
    own = prox_tv(image, weight, tolerance=GAP)
    row: dict[str, Any] = {
        "weight": weight,
        "prox_tv_ms": _milliseconds(lambda: prox_tv(image, weight, tolerance=GAP), repeats),
        "prox_tv_steps": int(own.iterations),
        "prox_tv_excess": objective(own.image) - bound,
        "bound_error": float(exact.gap),
    }
    if deepinv is None:
        return row

    def peer(criterion: float) -> torch.Tensor:
        denoiser = deepinv.models.TVDenoiser(crit=criterion, n_it_max=1000)
        result: torch.Tensor = denoiser(image, ths=weight)
        return result

    for criterion in CRITERIA:
        excess = objective(peer(criterion)) - bound
        if excess <= GAP or criterion == CRITERIA[-1]:
            found = _milliseconds(lambda chosen=criterion: peer(chosen), repeats)  # type: ignore[misc]
            row |= {"deepinv_ms": found, "deepinv_criterion": criterion, "deepinv_excess": excess}
            row["times_faster"] = found / row["prox_tv_ms"]
            break
    return row


def _milliseconds(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)
