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
"""Does the simulated image explain the low dose? A verdict in plain language, from numbers anyone can repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from .enhancement import HIDDEN_ENHANCEMENT

__all__ = [
    "DARKER_LIMIT",
    "EXPLAINED",
    "HEAD_LIMIT",
    "LOOK",
    "MISMATCH_FACTOR",
    "NOT_JUDGED",
    "OUT_OF_DOMAIN",
    "RECOVERY_LIMITS",
    "SHARE_LIMIT",
    "UNTRUSTED_LIMIT",
    "WINDOW_LIMIT",
    "expected_residual",
    "judge",
    "not_judged",
    "with_findings",
]

EXPLAINED = "explained"
LOOK = "look"
OUT_OF_DOMAIN = "out_of_domain"
NOT_JUDGED = "not_judged"

WINDOW = 9
"""Side of the windows in pixels: 81 pixels give a root mean square to 8 %, and a mean to 0.11 standard deviations."""
HEAD_LIMIT = 1.5
"""Of the residual over the head, in units of the expected one. This and the next two limits are 1.5 times the worst of
ten simulated studies whose dose, sequence and agent were those of the computation (0.96, 1.80, 0.80; see
``docs/report.md``)."""
WINDOW_LIMIT = 2.7
"""Of the residual in a window, in units of the expected one."""
DARKER_LIMIT = 1.2
"""Of how far the low dose lies below the pre-dose image in a window, in noise levels."""
MISMATCH_FACTOR = 5.0
"""A place stands out of what the two volumes differ by where it exceeds this many times their mismatch. Like the next
limit a quarter beyond the worst of 27 simulated studies with motion, a field, blur and flow between the volumes (3.9,
0.44; see ``docs/report.md``)."""
MISMATCH_SHARE = 0.01
"""Share of the windows in the head that are darker than before by more than the mismatch."""
UNTRUSTED_LIMIT = 0.55
"""Of the enhancement that is not to be trusted, over the tissue's brightness, from which on the study is not one that
the operator describes."""
RECOVERY_LIMITS = (0.62, 1.6)
"""Of the enhancement recovery, where the acquired full dose is there: 1.5 times the worst of the same studies (0.73),
on a logarithmic scale and both ways."""
SHARE_LIMIT = 0.1
"""Share of the head beyond a limit from which on the study is not one that the operator describes."""
FEWEST_PIXELS = 500
"""Pixels of the head from which on there is something to judge."""
_MOST_PLACES = 20
_DIGITS = 4


def expected_residual(sigma: float, alpha: float, slope: float) -> float:
    r"""What noise and prior leave of the low dose by themselves: :math:`\sqrt{\sigma^2 + (\alpha / s)^2}`.

    A stationary image satisfies :math:`\Psi'(x)^T (\Psi(x) - y) = -\alpha\, p` with a subgradient :math:`p` of the
    prior, whose entries are of the order of 1 for total variation. So the prior alone leaves about :math:`\alpha / s`
    where the operator has the slope :math:`s`.

    Args:
        sigma: noise level of the low dose.
        alpha: weight of the prior.
        slope: change of the low dose per change of the full dose: the dose fraction for operators that know the
            pre-dose image, 1 for others, whose output has most of the head in common with their input.

    Example:
        >>> round(expected_residual(0.003, 0.0008, 0.2), 6)
        0.005
    """
    return math.hypot(sigma, alpha / slope)


def not_judged(reason: str) -> dict[str, Any]:
    """The verdict on a result that nothing can be said about, and why."""
    return {"level": NOT_JUDGED, "reasons": [reason], "measures": {}, "places": [], "slices": {}}


def with_findings(verdict: dict[str, Any], findings: Sequence[str]) -> dict[str, Any]:
    """The verdict on a study that is not of the kind that the operator was trained on.

    Args:
        verdict: what its residual says.
        findings: in what it differs, a sentence each; none leave the verdict as it is.

    Returns:
        The verdict ``"out_of_domain"``, with the findings as its first reasons.

    Example:
        >>> verdict = with_findings(not_judged("there is no residual"), ["more noise than the operator knows"])
        >>> verdict["level"], verdict["reasons"]
        ('out_of_domain', ['more noise than the operator knows', 'there is no residual'])
    """
    if not findings:
        return verdict
    return {**verdict, "level": OUT_OF_DOMAIN, "reasons": [*findings, *verdict["reasons"]]}


def judge(
    residual: np.ndarray,
    head: np.ndarray,
    sigma: float | None,
    alpha: float,
    *,
    pre: np.ndarray | None = None,
    low: np.ndarray | None = None,
    simulated: np.ndarray | None = None,
    dose_fraction: float = 0.2,
    recovery: float | None = None,
) -> dict[str, Any]:
    r"""Judge a simulated image by what it leaves unexplained, and by whether contrast agent could have made it.

    An operator that knows the pre-dose image explains nearly any low dose by some full dose: the prior alone bounds the
    residual of a stationary image. So three things are asked, over windows of 9x9 pixels in the head:

    - How much do the two volumes differ besides contrast agent? Tissue does not become darker than before, so what is
      darker tells: the mismatch is how far the low dose lies below the pre-dose image in the darkest 1 % of the
      windows, and the enhancement that is not to be trusted is how far the simulated image does.
    - Is the residual what noise and prior leave? Its root mean square in the head and in every window, in units of
      :func:`expected_residual`.
    - Is the image one that contrast agent could have made? No window is darker than before by more than 10 % of the
      tissue's brightness, in the low dose by more than 1.2 noise levels; and somewhere something enhances by 10 %, and
      by more than is not to be trusted.

    A place is over its limit where it is so against noise and prior, and stands out of what the volumes differ by as
    well: it exceeds five times the mismatch.

    What it cannot see without the acquired full dose: another dose fraction than the assumed one, or some contrast
    agent in the pre-dose image already, which make all enhancement too strong or too weak; and differences that only
    brighten, as a coil's field may, which look like enhancement.

    Args:
        residual: :math:`\Psi(x) - y`, (S, H, W), slices first, on the [0, 1] scale.
        head: boolean, same shape.
        sigma: noise level of the low dose on that scale, or None where it is not known.
        alpha: weight of the prior.
        pre: pre-dose image, same shape, where the operator knows it; then the next two as well.
        low: observed low dose, same shape.
        simulated: simulated full dose, same shape.
        dose_fraction: low dose over full dose.
        recovery: simulated over acquired enhancement, where there is an acquired full dose.

    Returns:
        ``"level"``: ``"explained"``, ``"look"``, ``"out_of_domain"`` or ``"not_judged"``; ``"reasons"``: sentences;
        ``"measures"``: the numbers; ``"places"``: connected places in a slice that exceed a limit, the worst first, at
        most 20, each with ``"kind"`` (``"residual"`` or ``"darker"``), ``"slice"``, ``"rows"`` and ``"columns"``
        (half-open, from 0) and ``"value"`` (over its limit); ``"slices"``: the residual slice by slice.

    Example:
        >>> noise = np.random.default_rng(0).normal(scale=0.01, size=(2, 64, 64))
        >>> head = np.ones((2, 64, 64), dtype=bool)
        >>> judge(noise, head, sigma=0.01, alpha=0.001)["level"]
        'explained'
        >>> noise[1, 20:30, 20:30] += 0.08
        >>> verdict = judge(noise, head, sigma=0.01, alpha=0.001)
        >>> verdict["level"], verdict["places"][0]["slice"]
        ('look', 1)
    """
    if sigma is None or not math.isfinite(sigma) or sigma <= 0:
        return not_judged("the noise level of the low dose is not known: there is nothing to compare the residual with")
    if int(head.sum()) < FEWEST_PIXELS or not np.isfinite(_window_means(head, head)).any():
        return not_judged("there is too little of a head to judge")
    expected = expected_residual(sigma, alpha, dose_fraction if pre is not None else 1.0)
    squares = np.square(residual, dtype=np.float64)
    # the filter's running sums may end a little below zero
    windows = np.sqrt(np.maximum(_window_means(squares, head), 0.0)) / expected
    measures: dict[str, float] = {
        "expected_residual": expected,
        "residual_head": math.sqrt(squares[head].mean()) / expected,
        "residual_window": float(np.nanmax(windows)),
    }
    limits = {"residual": WINDOW_LIMIT}
    over = {"residual": windows}
    reasons: list[str] = []
    untrusted = 0.0
    if pre is not None and low is not None and simulated is not None:
        brightness = max(float(np.median(pre[head])), sigma)
        change = _window_means((low - pre) / sigma, head)
        enhancement = _window_means((simulated - pre) / brightness, head)
        mismatch, untrusted = (_darkest(values, MISMATCH_SHARE) for values in (change, enhancement))
        # noise makes both ends alike: the difference is what is more than noise
        strongest = float(np.nanpercentile(enhancement, 99.5) + np.nanpercentile(enhancement, 0.5))
        measures |= {
            "darker_window": _darkest(change, 0.0),
            "mismatch": mismatch,
            "untrusted_enhancement": untrusted,
            "strongest_enhancement": strongest,
        }
        limits["residual"] = max(WINDOW_LIMIT, MISMATCH_FACTOR * mismatch * sigma / expected)
        limits["darker"] = max(DARKER_LIMIT, MISMATCH_FACTOR * mismatch)
        over["darker"] = np.where(enhancement < -HIDDEN_ENHANCEMENT, -change, 0.0)
        trusted = max(HIDDEN_ENHANCEMENT, untrusted)
        if strongest < trusted and not bool((over["darker"] > limits["darker"]).any()):
            reasons.append(
                f"nothing enhances by as much as {100 * trusted:.0f} % of the tissue's brightness"
                f"{' beyond what the volumes differ by anyway' if untrusted > HIDDEN_ENHANCEMENT else ''}: no "
                "contrast agent arrived, or it was there before the pre-dose image"
            )
    measures |= {f"{kind}_window_limit": limit for kind, limit in limits.items()}
    over = {kind: values / limits[kind] for kind, values in over.items()}
    if recovery is not None and math.isfinite(recovery):
        measures["enhancement_recovery"] = recovery
        if not RECOVERY_LIMITS[0] <= recovery <= RECOVERY_LIMITS[1]:
            reasons.append(
                f"the simulated enhancement is {recovery:.2f} times the acquired one (limits {RECOVERY_LIMITS[0]} and "
                f"{RECOVERY_LIMITS[1]}): another dose fraction than assumed, contrast agent in the pre-dose "
                "image, or an operator that does not fit"
            )
    # NaN, outside the head, is over nothing
    flagged = np.any([values > 1.0 for values in over.values()], axis=0)
    measures["flagged_share"] = float(flagged.sum()) / int(head.sum())
    places = sorted(
        (place for kind, values in over.items() for place in _places(kind, values)), key=lambda place: -place["value"]
    )
    reasons = [*_reasons(measures, places, limits), *reasons]
    level = EXPLAINED if not reasons else LOOK
    if (
        measures["flagged_share"] > SHARE_LIMIT
        or measures["residual_head"] > 2.0 * HEAD_LIMIT
        or untrusted > UNTRUSTED_LIMIT
    ):
        level = OUT_OF_DOMAIN
        reasons.insert(
            0,
            "the operator does not describe this study: another sequence, region, examination or coil in one of the "
            "volumes, or volumes in the wrong order",
        )
    if not reasons:
        reasons.append(
            "nowhere in the head does the image leave more of the low dose, or is it darker than before contrast, than "
            "noise, the prior and what the two volumes differ by make"
            if untrusted >= HIDDEN_ENHANCEMENT
            else "what the image leaves of the low dose is what noise and prior leave, everywhere in the head"
        )
    if untrusted >= HIDDEN_ENHANCEMENT:
        reasons.append(
            f"enhancement of less than {100 * untrusted:.0f} % of the tissue's brightness is not to be trusted (limit "
            f"{100 * UNTRUSTED_LIMIT:.0f} %): {100 * MISMATCH_SHARE:.0f} % of the simulated image is darker than the "
            "pre-dose image by at least as much, which contrast agent does not do: noise, movement or a coil's field "
            "between the two volumes does"
        )
    return {
        "level": level,
        "reasons": reasons,
        "measures": {name: _rounded(value) for name, value in measures.items()},
        "places": places[:_MOST_PLACES],
        "slices": _by_slice(squares, windows, head, expected),
    }


def _window_means(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Mean over the part of each window that lies in the head, if that is at least half of it; NaN elsewhere."""
    means = np.full(values.shape, np.nan)
    for index, (plane, mask) in enumerate(zip(values, head, strict=True)):
        share = ndimage.uniform_filter(mask.astype(np.float64), WINDOW, mode="constant")
        total = ndimage.uniform_filter(np.where(mask, plane, 0.0).astype(np.float64), WINDOW, mode="constant")
        judged = mask & (share >= 0.5)
        means[index][judged] = total[judged] / share[judged]
    return means


def _darkest(values: np.ndarray, share: float) -> float:
    """How far this share of the windows, or the darkest of them, lies below 0 at least."""
    return max(-float(np.nanquantile(values, share)), 0.0)


def _places(kind: str, over: np.ndarray) -> list[dict[str, Any]]:
    """Connected places in each slice that are over 1, as boxes."""
    places = []
    for index, plane in enumerate(over):
        labels, _ = ndimage.label(plane > 1.0, structure=np.ones((3, 3)))
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[rows, columns] == label
            places.append(
                {
                    "kind": kind,
                    "slice": index,
                    "rows": [rows.start, rows.stop],
                    "columns": [columns.start, columns.stop],
                    "value": _rounded(float(plane[rows, columns][inside].max())),
                }
            )
    return places


def _reasons(measures: dict[str, float], places: list[dict[str, Any]], limits: dict[str, float]) -> list[str]:
    reasons = []
    if measures["residual_head"] > HEAD_LIMIT:
        reasons.append(
            f"over the whole head the residual is {measures['residual_head']:.1f} times what noise and prior leave "
            f"(limit {HEAD_LIMIT})"
        )
    for kind, text in (
        ("residual", "the low dose is not explained: the residual is up to {:.1f} times what noise and prior leave"),
        ("darker", "tissue becomes darker, which contrast agent does not do: up to {:.1f} noise levels below pre-dose"),
    ):
        own = [place for place in places if place["kind"] == kind]
        if own:
            limit = limits[kind]
            worst = own[0]["value"] * limit
            count = f"in {len(own)} places" if len(own) > 1 else "in one place"
            reasons.append(
                f"{count}, the worst in slice {own[0]['slice'] + 1}, {text.format(worst)} (limit {limit:.1f})"
            )
    return reasons


def _by_slice(
    squares: np.ndarray, windows: np.ndarray, head: np.ndarray, expected: float
) -> dict[str, list[float | None]]:
    """Residual over the expected one in each slice: in its head, and in its worst window; None where there is none."""
    over_head: list[float | None] = []
    worst: list[float | None] = []
    for plane, window, mask in zip(squares, windows, head, strict=True):
        over_head.append(_rounded(math.sqrt(plane[mask].mean()) / expected) if mask.any() else None)
        worst.append(_rounded(float(np.nanmax(window))) if np.isfinite(window).any() else None)
    return {"residual_head": over_head, "residual_window": worst}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
