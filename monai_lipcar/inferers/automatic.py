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
"""One alpha for a volume, from its own noise: the discrepancy principle on a few slices with much signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from monai_lipcar.errors import StudyError
from monai_lipcar.problem import AlphaRule, DiscrepancyPrinciple, LearnedInverseProblem
from monai_lipcar.transforms import EstimateNoise
from monai_lipcar.transforms.foreground import head_mask

__all__ = ["AlphaChoice", "choose_alpha"]


@dataclass
class AlphaChoice:
    """The weight of the prior that was chosen for a volume, and why.

    Args:
        alpha: the weight.
        sigma: noise level of the observed volume, estimated from itself.
        rule: what the wanted discrepancy was made from.
        wanted: discrepancy to be reached: root mean square of the residual over the head, on the [0, 1] scale.
        reached: that of the representative slices with ``alpha``.
        status: ``"met"``, or why the two differ; see :class:`~monai_lipcar.problem.AlphaSearch`.
        solves: solutions of the representative slices that were computed.
        network_evaluations: in all of them.
        slices: the representative ones, along the slice axis from 0; empty where the volume was solved as a whole.
        reached_in_volume: discrepancy over the head of the whole volume in the end.
    """

    alpha: float
    sigma: float
    rule: AlphaRule
    wanted: float
    reached: float
    status: str
    solves: int
    network_evaluations: int
    slices: list[int]
    reached_in_volume: float | None = None

    def describe(self) -> dict[str, Any]:
        """For the record of a result."""
        return asdict(self)

    @property
    def warning(self) -> str | None:
        """What the reader of the result has to know, where no alpha leaves the wanted residual."""
        if self.status == "met":
            return None
        found = (
            f"alpha {self.alpha:.3g} leaves a residual of {self.reached:.4f} instead of the {self.wanted:.4f} wanted"
        )
        if self.status != "alpha_limit":
            return f"{found}, the nearest of {self.solves} tries"
        if self.reached < self.wanted:
            return f"{found}: the prior alone explains the low dose to its noise level; do not rely on the enhancement"
        return (
            f"{found}: the operator does not explain the low dose to its noise level; check the dose and sequence given"
        )


def choose_alpha(
    batch: torch.Tensor,
    axis: int,
    rule: AlphaRule,
    make_problem: Callable[[torch.Tensor], LearnedInverseProblem],
    solver: Any,
    principle: DiscrepancyPrinciple,
    count: int,
    callback: Callable[[], None] | None = None,
) -> tuple[AlphaChoice, torch.Tensor]:
    """Choose alpha for a volume.

    Args:
        batch: the slices of one volume (S, C, H, W), or the volume (1, C, X, Y, Z); the last channel is observed.
        axis: slice axis of a volume that is solved as a whole.
        rule: what the residual should be.
        make_problem: the inverse problem of some samples of the batch.
        solver: solves it.
        principle: how alpha is searched for.
        count: slices to choose it on, those with the largest sum of the observed image over the head.
        callback: called after each iteration of the solver.

    Returns:
        The choice, and the head (S, 1, H, W) or (1, 1, X, Y, Z).

    Raises:
        StudyError: the image does not tell how noisy it is, or shows no head.
    """
    whole = batch.ndim == 5
    axis = axis if whole else 0
    observed = (batch[0, -1] if whole else batch[:, -1]).cpu().numpy()
    head = head_mask(observed, axis=axis)
    sigma = EstimateNoise(axis)(observed[None]) if head.any() else float("nan")
    if not np.isfinite(sigma):
        raise StudyError(
            "the noise level cannot be estimated, which alpha is chosen by",
            member="low",
            advice="give --alpha a number",
        )
    mask = torch.from_numpy(np.ascontiguousarray(head)).to(batch.device)
    mask = mask[None, None] if whole else mask[:, None]
    chosen = [0]
    if not whole:
        signal = (batch[:, -1:] * mask).flatten(1).sum(dim=1)
        chosen = sorted(signal.argsort(descending=True)[:count].tolist())
    wanted = rule.wanted(sigma)
    search = principle.choose(make_problem(batch[chosen].contiguous()), solver, wanted, mask[chosen], callback)
    choice = AlphaChoice(
        alpha=search.alpha,
        sigma=sigma,
        rule=rule,
        wanted=wanted,
        reached=search.reached,
        status=search.status,
        solves=search.solves,
        network_evaluations=search.network_evaluations,
        slices=[] if whole else chosen,
    )
    return choice, mask
