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
"""Calibrate ``--prior adaptive`` of ``ph2l_gentv``, and compare it with the four approaches that it chooses between.

    python -m benchmarks.adaptive --output runs/adaptive

Simulated heads on which nothing else is trained or tested (``benchmarks/adaptive_heads.py``), with noise added:

1. small heads: images of PH2L-TV, PH2L-GenTV and physics_tv for a grid of alphas, of NN-PL2H, and of PH2L-GenTV around
   means of the end-to-end and the pre-dose image. Half of them are like those of the training, the others have another
   signal model. The rule chosen is the one that in its worst condition falls short of the best of the four by least
   SSIM over the head; of those within ``CLOSE`` of that, the one with the highest PSNR. The signal equation stands in
   for PH2L, which differs little from it on these heads and costs ten times as much;
2. whole slices of other heads: the adaptive prior and the four as the bundles compute them.

The four have the alpha over noise, of the grid, that is best for them under each condition: on whole slices it is
searched for on these, from that of the closest condition on the small heads on. The adaptive prior has nothing but the
noise that it estimates. Writes ``benchmarks/results/adaptive.json``, with the entry
``adaptive_prior`` for the bundle's ``metadata.json``, and ``docs/images/adaptive.png``. The metrics of every image are
kept in the output folder as they are computed, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.data.atomic import write_json
from monai_lipcar.problem import AlphaRule, GuessRule

from .adaptive_heads import METRICS, RATIOS, WEIGHTS, Comparison, Measured, OtherModel, Row, average
from .alpha_auto import REPOSITORY, table
from .alpha_heads import CLEAN, COHORTS, CONDITIONS
from .alpha_rules import mean

FOUR = {"nn_pl2h": "NN-PL2H", "ph2l_tv": "PH2L-TV", "ph2l_gentv": "PH2L-GenTV", "physics_tv": "physics_tv"}
CHECKED: dict[str, tuple[int, dict[str, Any]]] = {"mni152": (6303, {}), "rat": (6304, {})}
"""Seeds of the heads that the rule is checked on, as large as those that the operators are trained for."""
UNDER = tuple(name for name in CONDITIONS if name not in (CLEAN, "noise 0.055"))
"""Conditions: noise that is added to low, which has noise of 0.005 to 0.01 already; in the last one to pre as well."""
CALIBRATED = tuple(name for name in UNDER if name not in ("noise 0.011", "noise 0.033", "noise 0.044"))
"""Those that the rule is fitted to."""
TITLES = {
    "small_heads": "small heads (calibration)",
    "other_model": "small heads, other signal model (calibration)",
    "whole_slices": "whole slices of other heads",
}
CLOSE = 0.001
GUESSES = [GuessRule(round(float(error), 4)) for error in np.geomspace(0.002, 0.05, 40)]
SCALES = (0.0, *(round(float(scale), 4) for scale in np.geomspace(0.002, 0.05, 15)))
LARGEST_RATIOS = tuple(round(float(ratio), 2) for ratio in np.arange(0.1, 1.0, 0.02))
KINDS: dict[str, tuple[Sequence[float | GuessRule], Sequence[float]]] = {
    "pre-dose image alone": ((0.0,), SCALES),
    "the same weight at every noise level": (np.linspace(0.0, 1.0, 21).round(3).tolist(), SCALES),
    "by the noise, alpha in proportion to it": (GUESSES, (0.0,)),
    "by the noise": (GUESSES, SCALES),
}
"""Guesses and scales of alpha that are tried; the first ones to see what the last one is worth."""
BY_THE_NOISE = "by the noise"

logger = logging.getLogger("adaptive")
Rule = tuple[float | GuessRule, AlphaRule]
"""Weight of the end-to-end image, or what it follows from, and what alpha follows from."""


def best_of_four(curves: Mapping[str, Measured], condition: str) -> dict[str, Row]:
    """Of each of the four the metrics with the ratio that has the highest mean SSIM over heads, and that ratio."""
    some = [curve for label, curve in curves.items() if label.split(", ", 1)[1] == condition]
    found = {}
    for approach in FOUR:
        rows = [average(curve[approach][index] for curve in some) for index in range(len(some[0][approach]))]
        index = max(range(len(rows)), key=lambda index, rows=rows: rows[index]["ssim_head"])  # type: ignore[misc]
        found[approach] = {**rows[index], "ratio": RATIOS[index]} if len(rows) > 1 else rows[index]
    return found


def end_to_end(guess: float | GuessRule, curve: Measured) -> float:
    """Weight of the end-to-end image for the noise of one head."""
    return guess if isinstance(guess, float) else guess.end_to_end(curve["sigma"], curve["sigma_pre"])


def mixtures(curve: Measured, rules: Sequence[Rule], metric: str) -> np.ndarray:
    """A metric of one head with each rule, between the weights and the ratios that were measured; NaN beyond them."""
    from scipy.interpolate import PchipInterpolator

    noise = math.hypot(curve["sigma"], curve["sigma_pre"])
    table = np.array([[row.get(metric, math.nan) for row in curve[str(weight)]] for weight in WEIGHTS])
    weights, row = np.unique([end_to_end(guess, curve) for guess, _ in rules], return_inverse=True)
    # the error of PH2L is small against any noise, and does not count
    ratios, column = np.unique([(alpha.alpha(noise) or 0.0) / noise for _, alpha in rules], return_inverse=True)
    by_weight = PchipInterpolator(WEIGHTS, table, axis=0)(weights)
    values: np.ndarray = PchipInterpolator(np.log(RATIOS), by_weight, axis=1, extrapolate=False)(np.log(ratios))
    return values[row, column]


def shortfalls(curves: Mapping[str, Measured], rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """For each condition, by how much SSIM over the head each rule falls short of the best of the four."""
    found = {}
    for condition in dict.fromkeys(label.split(", ", 1)[1] for label in curves):
        best = max(row["ssim_head"] for row in best_of_four(curves, condition).values())
        some = [curve for label, curve in curves.items() if label.split(", ", 1)[1] == condition]
        found[condition] = best - np.mean([mixtures(curve, rules, "ssim_head") for curve in some], axis=0)
    return found


def fit(curves: Mapping[str, Measured], kind: str) -> tuple[Rule, float]:
    """The best rule of a kind, and by how much it falls short in the worst condition."""
    guesses, scales = KINDS[kind]
    alphas = [AlphaRule(0.0, 0.0, ratio, scale) for ratio, scale in itertools.product(LARGEST_RATIOS, scales)]
    rules: list[Rule] = list(itertools.product(guesses, alphas))
    worst = np.nan_to_num(np.max(list(shortfalls(curves, rules).values()), axis=0), nan=math.inf)
    psnr = np.mean([mixtures(curve, rules, "psnr_head") for curve in curves.values()], axis=0)
    chosen = int(np.argmax(np.where(worst <= worst.min() + CLOSE, psnr, -np.inf)))
    return rules[chosen], round(float(worst[chosen]), 4)


def measure(comparison: Comparison, title: str) -> dict[str, Measured]:
    """What the rule is fitted to, for each head under each condition."""
    approaches = {
        **dict.fromkeys(map(str, WEIGHTS), RATIOS),
        "ph2l_tv": RATIOS,
        "nn_pl2h": (0.0,),
    }
    curves: dict[str, Measured] = {}
    for condition, name in tqdm(list(itertools.product(CALIBRATED, comparison.names)), desc=title):
        curve: Measured = {}
        for approach, ratios in approaches.items():
            measured = comparison.measured(name, condition, approach, ratios, learned=False)
            curve |= {name: measured[name] for name in ("sigma", "sigma_pre")} | {approach: measured["rows"]}
        curve["ph2l_gentv"], curve["physics_tv"] = curve["1.0"], curve["0.0"]
        curves[f"{name}, {condition}"] = curve
    return curves


def with_rule(curves: Mapping[str, Measured], rule: Rule) -> dict[str, Any]:
    """Condition to metrics of the four and of the adaptive prior."""
    of_rule = shortfalls(curves, [rule])
    conditions = {}
    for condition in CALIBRATED:
        some = [curve for label, curve in curves.items() if label.split(", ", 1)[1] == condition]
        values = [{name: float(mixtures(curve, [rule], name)[0]) for name in METRICS} for curve in some]
        rows = {**best_of_four(curves, condition), "adaptive": average(values)}
        weights = [end_to_end(rule[0], curve) for curve in some]
        short = round(float(of_rule[condition][0]), 4)
        conditions[condition] = {**rows, "shortfall": short, "end_to_end": mean(weights)}
    return conditions


def calibrate(output: Path, studies: int) -> dict[str, Any]:
    """The first part; see the head of this file."""
    comparisons = {
        "small_heads": Comparison(output / "small", studies, COHORTS),
        "other_model": OtherModel(output / "other", studies),
    }
    curves = {part: measure(comparison, TITLES[part]) for part, comparison in comparisons.items()}
    together = {f"{label}, {part}": curve for part, some in curves.items() for label, curve in some.items()}
    fitted = {kind: fit(together, kind) for kind in KINDS}
    rule, _ = fitted[BY_THE_NOISE]
    guess, alpha = rule
    assert isinstance(guess, GuessRule)
    return {
        "adaptive_prior": {
            "alpha_rule": asdict(alpha),
            "guess_rule": asdict(guess),
            "dose_fraction": comparisons["small_heads"].learned.dose_fraction,
            **comparisons["small_heads"].weights,
        },
        "kinds": {
            kind: {
                "guess": guess if isinstance(guess, float) else asdict(guess),
                "ratio": alpha.ratio,
                "scale": alpha.scale,
                "shortfall": worst,
            }
            for kind, ((guess, alpha), worst) in fitted.items()
        },
        **{part: with_rule(some, rule) for part, some in curves.items()},
    }


def check(output: Path, studies: int, calibrated: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The second part; see the head of this file."""
    comparison = Comparison(output / "whole", studies, CHECKED, precision=precision)
    found: dict[str, Any] = {}
    for condition in tqdm(UNDER, desc="whole slices"):
        means = {
            approach: best_of_grid(
                partial(on_heads, comparison, condition, approach), start_ratio(calibrated, condition, approach)
            )
            for approach in FOUR
        }
        means["adaptive"] = average(adaptive(comparison, name, condition, calibrated) for name in comparison.names)
        best = max(means[approach]["ssim_head"] for approach in FOUR)
        found[condition] = {**means, "shortfall": round(best - means["adaptive"]["ssim_head"], 4)}
    return found


def best_of_grid(measure: Callable[[Sequence[float]], list[Row]], start: float | None) -> Row:
    """Metrics with the ratio of the grid that has the highest SSIM, and that ratio.

    Args:
        measure: metrics for some ratios.
        start: ratio to begin with; the search goes on until both neighbors of the best are known. None where there is
            no ratio.
    """
    if start is None:
        return measure([0.0])[0]
    rows: dict[int, Row] = {}
    best = RATIOS.index(start)
    while missing := [one for one in (best - 1, best, best + 1) if 0 <= one < len(RATIOS) and one not in rows]:
        rows |= dict(zip(missing, measure([RATIOS[one] for one in missing]), strict=True))
        best = max(rows, key=lambda one: rows[one]["ssim_head"])
    return {**rows[best], "ratio": RATIOS[best]}


def on_heads(comparison: Comparison, condition: str, approach: str, ratios: Sequence[float]) -> list[Row]:
    """Means over the heads of one of the four, for some ratios."""
    solved = "1.0" if approach == "ph2l_gentv" else approach
    heads = [comparison.measured(name, condition, solved, ratios)["rows"] for name in comparison.names]
    return [average(rows) for rows in zip(*heads, strict=True)]


def start_ratio(calibrated: Mapping[str, Any], condition: str, approach: str) -> float | None:
    """The ratio that was best for one of the four on the small heads, under the closest condition; None without one."""
    ratio: float | None = calibrated["small_heads"][nearest(condition)][approach].get("ratio")
    return ratio


def adaptive(comparison: Comparison, name: str, condition: str, calibrated: Mapping[str, Any]) -> Row:
    """Metrics of the adaptive prior."""
    entry = calibrated["adaptive_prior"]
    alpha, guess = AlphaRule(**entry["alpha_rule"]), GuessRule(**entry["guess_rule"])
    compute = partial(comparison.adaptive, name, condition, alpha, guess)
    row: Row = comparison.parts.get(f"{name}, {condition}, {alpha}, {guess}", compute)
    return row


def five(comparison: Comparison, name: str, condition: str, calibrated: Mapping[str, Any]) -> dict[str, Row]:
    """Metrics of the four, with the alpha that was best for them on the small heads, and of the adaptive prior."""
    rows = {}
    for approach in FOUR:
        solved = "1.0" if approach == "ph2l_gentv" else approach
        ratio = start_ratio(calibrated, condition, approach) or 0.0
        rows[approach] = comparison.measured(name, condition, solved, [ratio])["rows"][0]
    return {**rows, "adaptive": adaptive(comparison, name, condition, calibrated)}


def nearest(condition: str) -> str:
    """The condition with the closest noise of those that the rule is fitted to."""
    return min(CALIBRATED, key=lambda other: math.dist(CONDITIONS[condition], CONDITIONS[other]))


def draw(parts: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """SSIM and PSNR over the head by the noise that was added to the low dose: the four, and the adaptive prior.

    Args:
        parts: title of a column to condition to what was measured.
        file: PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(parts), 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(parts), sharex=True, squeeze=False)
    for column, (title, part) in enumerate(parts.items()):
        for place, metric, label in zip(axes[:, column], METRICS, ("SSIM, head", "PSNR, head (dB)"), strict=False):
            for approach, name in {**FOUR, "adaptive": "adaptive"}.items():
                style = {"color": "black", "linewidth": 2.0} if approach == "adaptive" else {"linewidth": 1.0}
                levels = [condition for condition in part if CONDITIONS[condition][1] == 0]
                values = [part[condition][approach][metric] for condition in levels]
                place.plot([CONDITIONS[condition][0] for condition in levels], values, marker=".", label=name, **style)
            place.set_ylabel(label)
        axes[0, column].set_title(title)
        axes[-1, column].set_xlabel("noise added to the low dose")
    axes[0, 0].legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def shown(part: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """SSIM over the head by condition, as the log shows it."""
    return {
        condition: {
            **{name: row[approach]["ssim_head"] for approach, name in {**FOUR, "adaptive": "adaptive"}.items()},
            "shortfall": row["shortfall"],
        }
        for condition, row in part.items()
    }


def main() -> None:
    """Run it."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="heads and values")
    parser.add_argument("--studies", type=int, default=2, help="heads of each anatomy")
    parser.add_argument("--precision", choices=["float32", "auto"], default="float32", help="of PH2L on whole slices")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "adaptive.json")
    parser.add_argument("--image", type=Path, default=REPOSITORY / "docs" / "images" / "adaptive.png")
    arguments = parser.parse_args()

    content: dict[str, Any] = {
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "studies_per_anatomy": arguments.studies,
        "precision": arguments.precision,
        **calibrate(arguments.output, arguments.studies),
    }
    for part in TITLES:
        if part == "whole_slices":
            content[part] = check(arguments.output, arguments.studies, content, arguments.precision)
        write_json(arguments.results, content, indent=1)
        draw({title: content[one] for one, title in TITLES.items() if one in content}, arguments.image)
        logger.info("\n%s: %s\n\n%s", part, json.dumps(content["adaptive_prior"]), table(shown(content[part])))


if __name__ == "__main__":
    main()
