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
"""From curves, PSNR and discrepancy over alpha, to the rule for alpha that loses least, and what rules lose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_lipcar.problem import AlphaRule

Curve = dict[str, Any]
"""Of one head under one condition: ``"sigma"``, and ``"rows"`` of alpha, PSNR and discrepancy from large alphas on."""
KAPPAS = tuple(float(f"{kappa:.3g}") for kappa in [0.0, *np.geomspace(0.01, 10.0, 37)])
RATIOS = tuple(float(f"{ratio:.3g}") for ratio in np.geomspace(0.05, 2.0, 75))
SCALES = tuple(float(f"{scale:.3g}") for scale in np.geomspace(0.001, 0.05, 15))
KINDS: dict[str, tuple[Sequence[float], Sequence[float | None], Sequence[float]]] = {
    "proportional": (KAPPAS, RATIOS, (0.0,)),
    "proportional, with a scale": (KAPPAS, RATIOS, SCALES),
    "discrepancy": (KAPPAS, (None,), (0.0,)),
    "discrepancy, kappa 1": ((1.0,), (None,), (0.0,)),
    "discrepancy, kappa 0": ((0.0,), (None,), (0.0,)),
}
"""Kappas, ratios and scales that are tried."""


def at(curve: Curve, alpha: Any) -> Any:
    """PSNR for alphas between those of the grid; beyond it, that of its end."""
    rows = np.array(curve["rows"][::-1])
    return np.interp(np.log(alpha), np.log(rows[:, 0]), rows[:, 1])


def of_rule(curve: Curve, wanted: float) -> float:
    """The alpha whose solution leaves a discrepancy, between those of the grid."""
    rows = np.array(curve["rows"][::-1])
    left = np.maximum.accumulate(rows[:, 2])
    return float(np.exp(np.interp(math.log(wanted), np.log(left), np.log(rows[:, 0]))))


def best(curve: Curve) -> float:
    """PSNR of the best alpha."""
    return max(row[1] for row in curve["rows"])


def alpha_of(curve: Curve, rule: AlphaRule) -> float:
    """What a rule makes of the noise level of a curve."""
    alpha = rule.alpha(curve["sigma"])
    return of_rule(curve, rule.discrepancy(curve["sigma"])) if alpha is None else alpha


def losses(curves: Mapping[str, Curve], rules: Sequence[AlphaRule]) -> np.ndarray:
    """What rules lose on curves, in dB, (curves, rules)."""
    return np.array([best(curve) - at(curve, [alpha_of(curve, rule) for rule in rules]) for curve in curves.values()])


def study_of(label: str) -> str:
    """The head of a curve."""
    return label.split(", ", 1)[0]


def condition_of(label: str) -> str:
    """Under which it was measured."""
    return label.split(", ", 1)[1]


@dataclass(frozen=True)
class Fitted:
    """The best rule of a kind.

    Args:
        rule: with the least mean loss over all curves.
        lost: curve to what it loses, in dB.
        left_out: curve to what the rule loses that is fitted without its head.
    """

    rule: AlphaRule
    lost: dict[str, float]
    left_out: dict[str, float]


def fit(curves: Mapping[str, Curve], kind: str, operator_error: float) -> Fitted:
    """Fit a kind of rule, to all curves and to those of all heads but one."""
    kappas, ratios, scales = KINDS[kind]
    rules = [AlphaRule(operator_error, *numbers) for numbers in itertools.product(kappas, ratios, scales)]
    table = losses(curves, rules)
    chosen = int(table.mean(axis=0).argmin())
    heads = np.array([study_of(label) for label in curves])
    without = {head: int(table[heads != head].mean(axis=0).argmin()) for head in set(heads) if (heads != head).any()}
    left_out = [float(row[without.get(head, chosen)]) for head, row in zip(heads, table, strict=True)]
    lost = dict(zip(curves, table[:, chosen].tolist(), strict=True))
    return Fitted(rules[chosen], lost, dict(zip(curves, left_out, strict=True)))


def fit_all(curves: Mapping[str, Curve], operator_error: float) -> tuple[str, dict[str, Fitted]]:
    """The best rule of every kind, and the kind whose rules lose least on heads that they are not fitted to.

    A kind with more numbers always loses less where it was fitted.
    """
    fitted = {kind: fit(curves, kind, operator_error) for kind in KINDS}
    return min(fitted, key=lambda kind: mean(fitted[kind].left_out.values(), 6)), fitted


def summary(
    curves: Mapping[str, Curve],
    alphas: Mapping[str, float],
    default: float,
    schedule: Callable[[str], float],
    left_out: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """PSNR of the best alpha, and what the others lose against it, in the mean over curves.

    Args:
        curves: what was measured.
        alphas: of each curve, that ``--alpha auto`` chooses.
        default: alpha of the bundle.
        schedule: alpha of the paper's schedule, from the label of a curve.
        left_out: what the rule loses that is fitted without the head; None where it is fitted to none of these heads.
    """
    lost = {label: best(curve) - float(at(curve, alphas[label])) for label, curve in curves.items()}
    found = {
        "best_psnr_head": mean(best(curve) for curve in curves.values()),
        "auto": mean(lost.values()),
        "auto_worst": round(max(lost.values()), 3),
    }
    if left_out is not None:
        found["auto_left_out"] = mean(left_out[label] for label in curves)
    return {
        **found,
        "default": mean(best(curve) - at(curve, default) for curve in curves.values()),
        "schedule": mean(best(curve) - at(curve, schedule(label)) for label, curve in curves.items()),
    }


def mean(values: Iterable[Any], digits: int = 3) -> float:
    """Rounded mean."""
    return round(float(np.mean(list(values))), digits)
