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
"""One alpha and one guess for a volume, from its own noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from monai_lipcar.errors import StudyError
from monai_lipcar.problem import AlphaRule, DiscrepancyPrinciple, GuessRule, LearnedInverseProblem
from monai_lipcar.transforms import EstimateNoise
from monai_lipcar.transforms.foreground import head_mask

__all__ = ["AlphaChoice", "GuessChoice", "ObservedNoise", "choose_alpha", "observed_noise"]

_FAR = 2.0
"""How many times the residual may be what noise and operator explain, or the noise alone may be the residual."""


@dataclass
class AlphaChoice:
    """The weight of the prior that was chosen for a volume, and why.

    Args:
        alpha: the weight.
        sigma: noise level of the observed volume, estimated from itself; where the guess is chosen too, that of
            the difference to the pre-dose volume, whose noise the operator passes on.
        rule: what alpha was chosen by.
        wanted: discrepancy that noise and operator explain: root mean square of the residual over the head, on the
            [0, 1] scale.
        status: ``"proportional"`` where alpha follows from the noise by a ratio, with a scale or without; otherwise how
            the search for it ended, see :class:`~monai_lipcar.problem.AlphaSearch`.
        solves: solutions that were computed to find it.
        network_evaluations: in all of them.
        slices: what it was searched for on, along the slice axis from 0; empty where the volume was solved as a whole,
            or nothing was searched for.
        reached: discrepancy over the head of the whole volume in the end; None before.
    """

    alpha: float
    sigma: float
    rule: AlphaRule
    wanted: float
    status: str
    solves: int = 0
    network_evaluations: int = 0
    slices: list[int] = field(default_factory=list)
    reached: float | None = None

    def describe(self) -> dict[str, Any]:
        """For the record of a result."""
        return asdict(self)

    @property
    def warning(self) -> str | None:
        """What the reader has to know, where noise and operator explain less than the residual, or noise alone more."""
        if self.reached is None:
            return None
        found = (
            f"alpha {self.alpha:.3g}: the residual is {self.reached:.4f}, noise and operator explain {self.wanted:.4f}"
        )
        if self.reached > _FAR * self.wanted:
            return f"{found}; check that dose fraction and sequence are those of the study"
        if self.status == "alpha_limit" and self.reached < self.wanted:
            return f"{found}, as much as the prior alone leaves; do not rely on the enhancement"
        if self.reached < self.sigma / _FAR:  # what the operator does wrong, the result may explain; not the noise
            return f"{found} ({self.sigma:.4f} the noise alone); the result shows noise of the low dose"
        return None


@dataclass
class GuessChoice:
    """The guess that was taken for a volume, and why.

    Args:
        end_to_end: weight of the end-to-end image in it.
        pre: weight of the pre-dose image.
        sigma: noise level of the observed volume, estimated from itself.
        sigma_pre: noise level of the pre-dose volume, likewise.
        rule: what the weights follow from.
    """

    end_to_end: float
    pre: float
    sigma: float
    sigma_pre: float
    rule: GuessRule

    @classmethod
    def by(cls, rule: GuessRule, sigma: float, sigma_pre: float) -> GuessChoice:
        """What a rule makes of the noise levels."""
        weight = rule.end_to_end(sigma, sigma_pre)
        return cls(weight, 1.0 - weight, sigma, sigma_pre, rule)

    def describe(self) -> dict[str, Any]:
        """For the record of a result."""
        return asdict(self)


@dataclass(frozen=True)
class ObservedNoise:
    """How noisy an observed volume is.

    Args:
        sigma: standard deviation on the [0, 1] scale.
        head: where alpha is judged, (S, 1, H, W), or (1, 1, X, Y, Z) of a volume that is solved as a whole.
    """

    sigma: float
    head: torch.Tensor


def observed_noise(batch: torch.Tensor, axis: int, member: str = "low") -> ObservedNoise:
    """Estimate the noise of a volume's observed image, or of its pre-dose image.

    Args:
        batch: the slices of one volume (S, C, H, W), or the volume (1, C, X, Y, Z); the last channel is observed.
        axis: slice axis of a volume that is solved as a whole.
        member: ``"low"``, the last channel, or ``"pre"``, the first of two.

    Raises:
        StudyError: the image does not tell how noisy it is, or shows no head.
    """
    whole = batch.ndim == 5
    axis = axis if whole else 0
    channel = -1 if member == "low" else 0
    image = (batch[0, channel] if whole else batch[:, channel]).cpu().numpy()
    head = head_mask(image, axis=axis)
    sigma = EstimateNoise(axis)(image[None])
    if not np.isfinite(sigma):
        raise StudyError(
            "the noise level cannot be estimated, which alpha is chosen by",
            member=member,
            advice="give --alpha a number, without --prior adaptive",
        )
    mask = torch.from_numpy(np.ascontiguousarray(head)).to(batch.device)
    return ObservedNoise(sigma, mask[None, None] if whole else mask[:, None])


def choose_alpha(
    batch: torch.Tensor,
    noise: ObservedNoise,
    rule: AlphaRule,
    make_problem: Callable[[torch.Tensor], LearnedInverseProblem],
    solver: Any,
    principle: DiscrepancyPrinciple,
    count: int,
    callback: Callable[[], None] | None = None,
) -> AlphaChoice:
    """Choose alpha for a volume.

    Args:
        batch: the slices of one volume (S, C, H, W), or the volume (1, C, X, Y, Z); the last channel is observed.
        noise: of the volume.
        rule: what alpha is chosen by.
        make_problem: the inverse problem of some samples of the batch.
        solver: solves it.
        principle: how alpha is searched for.
        count: slices to search for it on, those with the largest sum of the observed image over the head.
        callback: called after each iteration of the solver.
    """
    whole = batch.ndim == 5
    sigma, mask = noise.sigma, noise.head
    wanted, alpha = rule.discrepancy(sigma), rule.alpha(sigma)
    if alpha is not None:
        return AlphaChoice(alpha, sigma, rule, wanted, "proportional")
    chosen = [0]
    if not whole:
        signal = (batch[:, -1:] * mask).flatten(1).sum(dim=1)
        chosen = sorted(signal.argsort(descending=True)[:count].tolist())
    search = principle.choose(make_problem(batch[chosen].contiguous()), solver, wanted, mask[chosen], callback)
    return AlphaChoice(
        alpha=search.alpha,
        sigma=sigma,
        rule=rule,
        wanted=wanted,
        status=search.status,
        solves=search.solves,
        network_evaluations=search.network_evaluations,
        slices=[] if whole else chosen,
    )
