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

Two sets of simulated heads, on neither of which anything else is trained or tested, with noise added:

1. small heads: images of PH2L-TV, PH2L-GenTV and physics_tv for a grid of alphas, of NN-PL2H, and of PH2L-GenTV around
   means of the end-to-end and the pre-dose image. The rule chosen is the one that in its worst condition falls short of
   the best of the four by least SSIM over the head; of those within ``CLOSE`` of that, the one with the highest PSNR.
   The signal equation stands in for PH2L, which differs little from it on these heads and costs ten times as much;
2. whole slices of other heads: the adaptive prior and the four as the bundles compute them.

The four have the alpha that is best for them under the condition, or the closest one, on the small heads; the adaptive
prior has nothing but the noise that it estimates. Writes ``benchmarks/results/adaptive.json``, with the entry
``adaptive_prior`` for the bundle's ``metadata.json``, and ``docs/images/adaptive.png``. The metrics of every image are
kept in the output folder as they are computed, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.bundle import bundle_root, checksum, find_weights
from monai_lipcar.data.atomic import write_json
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.metrics import study_metrics
from monai_lipcar.problem import AlphaRule, GuessRule, LearnedInverseProblem, TotalVariation, frozen
from monai_lipcar.transforms import EstimateNoise

from .alpha_auto import CLEAN, COHORTS, CONDITIONS, REPOSITORY, Calibration, Parts, mean, table

BUNDLE = "ph2l_gentv"
FOUR = {"nn_pl2h": "NN-PL2H", "ph2l_tv": "PH2L-TV", "ph2l_gentv": "PH2L-GenTV", "physics_tv": "physics_tv"}
CHECKED: dict[str, tuple[int, dict[str, Any]]] = {"mni152": (6303, {}), "rat": (6304, {})}
"""Seeds of the heads that the rule is checked on, as large as those that the operators are trained for."""
UNDER = tuple(name for name in CONDITIONS if name not in (CLEAN, "noise 0.055"))
"""Conditions: noise that is added to low, which has noise of 0.005 to 0.01 already; in the last one to pre as well."""
CALIBRATED = tuple(name for name in UNDER if name not in ("noise 0.011", "noise 0.033", "noise 0.044"))
"""Those that the rule is fitted to."""
RATIOS = (0.15, 0.2, 0.25, 0.3, 0.4)
"""Alpha over the noise level of low and pre together."""
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Of the end-to-end image in the guess; 1 is PH2L-GenTV."""
TITLES = {"small_heads": "small heads (calibration)", "whole_slices": "whole slices of other heads"}
METRICS = ("ssim_head", "psnr_head", "psnr_enhancing", "enhancement_recovery")
CLOSE = 0.001
KINDS: dict[str, Sequence[float | GuessRule]] = {
    "pre-dose image alone": (0.0,),
    "the same weight at every noise level": np.linspace(0.0, 1.0, 21).round(3).tolist(),
    "by the noise": [GuessRule(round(float(error), 4)) for error in np.geomspace(0.002, 0.05, 40)],
}
"""Guesses that are tried; the first two to see what the last one is worth."""
BY_THE_NOISE = "by the noise"

logger = logging.getLogger("adaptive")
Study = dict[str, torch.Tensor]
Row = dict[str, float]
Measured = dict[str, Any]
"""Of one head under one condition: noise levels, and approach or weight to metrics for each ratio."""
Rule = tuple[float | GuessRule, float]
"""Weight of the end-to-end image, or what it follows from, and the ratio of alpha to noise."""


class Comparison:
    """What is measured on the heads of some cohorts.

    Args:
        output: where heads and values are kept.
        studies: heads of each anatomy.
        cohorts: seed and size of these.
        options: of the bundles, where they are not their own.
    """

    def __init__(
        self,
        output: Path,
        studies: int,
        cohorts: Mapping[str, tuple[int, dict[str, Any]]],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.learned = Calibration(BUNDLE, output, studies, cohorts, options)
        self.physics = Calibration("physics_tv", output, studies, cohorts, options)
        self.inferer = self.learned.inferer
        self.weights = {
            "weights_sha256": self.learned.weights,
            "guess_weights_sha256": checksum(find_weights(bundle_root(BUNDLE), "pl2h", "guess_model.pt")),
        }
        key = {
            "version": monai_lipcar.__version__,
            **self.weights,
            "solver": self.inferer.solver.describe(),
            "preprocessing": fingerprint(self.learned.preprocessing),
            "cohorts": json.loads(json.dumps(cohorts)),
            "grid": [list(RATIOS), list(WEIGHTS)],
        }
        self.parts = Parts(output / "adaptive.json", key)

    @cached_property
    def studies(self) -> dict[str, Study]:
        """Study to its volumes."""
        return {
            name: study
            for anatomy in self.learned.cohorts
            for name, study in self.learned.volumes(anatomy, noise=True).items()
        }

    @property
    def names(self) -> list[str]:
        """The studies' names, as cohorts number them."""
        count = range(1, self.learned.studies + 1)
        return [f"{anatomy}-{number:04d}" for anatomy in self.learned.cohorts for number in count]

    def images(
        self, approach: str, inputs: torch.Tensor, alphas: Sequence[float], learned: bool = True
    ) -> list[torch.Tensor]:
        """Images of one of the four, or around a guess with this weight of the end-to-end image, for some alphas."""
        pre, low = inputs[:, :1], inputs[:, 1:]
        if approach == "physics_tv":
            guess = pre
        elif approach != "ph2l_tv":
            end_to_end = self.inferer.guess
            assert callable(end_to_end)
            with torch.no_grad(), frozen(end_to_end):
                guess = end_to_end(inputs)
            if approach == "nn_pl2h":
                return [guess]
            guess = pre + float(approach) * (guess - pre)
        count = len(alphas)
        prior = TotalVariation()
        if approach != "ph2l_tv":
            prior = prior.around(guess.repeat(count, 1, 1, 1))
        network = (self.learned if learned and approach != "physics_tv" else self.physics).network
        observed, before = low.repeat(count, 1, 1, 1), pre.repeat(count, 1, 1, 1)
        weights = torch.tensor(alphas).repeat_interleave(len(inputs))
        problem = LearnedInverseProblem(network, observed, prior, weights, before)
        return list(self.inferer.solver.solve(problem, observed).image.split(len(inputs)))

    def inputs(self, name: str, condition: str) -> tuple[torch.Tensor, float, float]:
        """Channels (pre, low) of the slices that are judged; noise of low and of pre, estimated from the volumes."""
        study = self.studies[name]
        inputs = self.learned.inputs(name, study, condition)
        pre, low = (EstimateNoise(0)(inputs[None, :, channel]) for channel in (0, 1))
        return inputs[study["chosen"]], low, pre

    def measure(
        self, name: str, condition: str, approach: str, ratios: Sequence[float], learned: bool = True
    ) -> Measured:
        """Noise levels, and metrics of the images for some ratios of alpha to them together."""
        inputs, low, pre = self.inputs(name, condition)
        images = self.images(approach, inputs, [ratio * math.hypot(low, pre) for ratio in ratios], learned)
        rows = [score(image, self.studies[name]) for image in images]
        return {"sigma": round(low, 6), "sigma_pre": round(pre, 6), "rows": rows}

    def adaptive(self, name: str, condition: str, alpha: AlphaRule, guess: GuessRule) -> Row:
        """Metrics of the adaptive prior."""
        inputs, low, pre = self.inputs(name, condition)
        weight = alpha.alpha(math.hypot(low, pre))
        assert weight is not None
        (image,) = self.images(str(guess.end_to_end(low, pre)), inputs, [weight])
        return score(image, self.studies[name])


def score(image: torch.Tensor, study: Study) -> Row:
    """Metrics of some slices (S, 1, H, W), as of one volume."""
    metrics = study_metrics({"image": image[:, 0]}, study["high"][:, 0], study["head"][:, 0], pre=study["pre"][:, 0])
    return {name: round(float(metrics["image"][name]), 5) for name in METRICS if name in metrics["image"]}


def average(rows: Iterable[Row]) -> Row:
    """Mean over heads; a metric that only some have (none enhances) is the mean of those."""
    rows = list(rows)
    found = {name: [row[name] for row in rows if name in row] for name in METRICS}
    return {name: mean(values, 4) for name, values in found.items() if values}


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
    """A metric of one head with each rule, between the weights and the ratios that were measured."""
    from scipy.interpolate import PchipInterpolator

    table = np.array([[row.get(metric, math.nan) for row in curve[str(weight)]] for weight in WEIGHTS])
    ratios, places = np.unique([ratio for _, ratio in rules], return_inverse=True)
    by_ratio = PchipInterpolator(np.log(RATIOS), table, axis=1)(np.log(ratios))
    weights = [end_to_end(guess, curve) for guess, _ in rules]
    values: np.ndarray = PchipInterpolator(WEIGHTS, by_ratio, axis=0)(weights)[np.arange(len(rules)), places]
    return values


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
    ratios = [round(float(ratio), 3) for ratio in np.arange(RATIOS[0], RATIOS[-1], 0.01)]
    rules: list[Rule] = list(itertools.product(KINDS[kind], ratios))
    worst = np.max(list(shortfalls(curves, rules).values()), axis=0)
    psnr = np.mean([mixtures(curve, rules, "psnr_head") for curve in curves.values()], axis=0)
    chosen = int(np.argmax(np.where(worst <= worst.min() + CLOSE, psnr, -np.inf)))
    return rules[chosen], round(float(worst[chosen]), 4)


def calibrate(output: Path, studies: int) -> dict[str, Any]:
    """The first part; see the head of this file."""
    comparison = Comparison(output / "small", studies, COHORTS)
    jobs = list(itertools.product(CALIBRATED, comparison.names))
    approaches = {
        **dict.fromkeys(map(str, WEIGHTS), RATIOS),
        "ph2l_tv": RATIOS,
        "nn_pl2h": (0.0,),
    }
    curves: dict[str, Measured] = {}
    for condition, name in tqdm(jobs, desc="small heads"):
        curve: Measured = {}
        for approach, ratios in approaches.items():
            compute = partial(comparison.measure, name, condition, approach, ratios, learned=False)
            measured = comparison.parts.get(f"{name}, {condition}, {approach}", compute)
            curve |= {name: measured[name] for name in ("sigma", "sigma_pre")} | {approach: measured["rows"]}
        curve["ph2l_gentv"], curve["physics_tv"] = curve["1.0"], curve["0.0"]
        curves[f"{name}, {condition}"] = curve
    fitted = {kind: fit(curves, kind) for kind in KINDS}
    (guess, ratio), _ = fitted[BY_THE_NOISE]
    assert isinstance(guess, GuessRule)
    of_rule = shortfalls(curves, [(guess, ratio)])
    conditions = {}
    for condition in CALIBRATED:
        some = [curve for label, curve in curves.items() if label.split(", ", 1)[1] == condition]
        values = [{name: float(mixtures(curve, [(guess, ratio)], name)[0]) for name in METRICS} for curve in some]
        rows = {**best_of_four(curves, condition), "adaptive": average(values)}
        weights = [end_to_end(guess, curve) for curve in some]
        short = round(float(of_rule[condition][0]), 4)
        conditions[condition] = {**rows, "shortfall": short, "end_to_end": mean(weights)}
    # the error of PH2L is small against any noise, and does not count
    return {
        "adaptive_prior": {
            "alpha_rule": {"operator_error": 0.0, "kappa": 0.0, "ratio": ratio},
            "guess_rule": asdict(guess),
            "dose_fraction": comparison.learned.dose_fraction,
            **comparison.weights,
        },
        "kinds": {
            kind: {"guess": guess if isinstance(guess, float) else asdict(guess), "ratio": ratio, "shortfall": worst}
            for kind, ((guess, ratio), worst) in fitted.items()
        },
        "small_heads": conditions,
    }


def check(output: Path, studies: int, calibrated: Mapping[str, Any]) -> dict[str, Any]:
    """The second part; see the head of this file."""
    comparison = Comparison(output / "whole", studies, CHECKED)
    rows: dict[str, dict[str, list[Row]]] = {condition: {} for condition in UNDER}
    for condition, name in tqdm(list(itertools.product(UNDER, comparison.names)), desc="whole slices"):
        for approach, row in five(comparison, name, condition, calibrated).items():
            rows[condition].setdefault(approach, []).append(row)
    found: dict[str, Any] = {}
    for condition, measured in rows.items():
        means = {approach: average(values) for approach, values in measured.items()}
        best = max(row["ssim_head"] for approach, row in means.items() if approach in FOUR)
        found[condition] = {**means, "shortfall": round(best - means["adaptive"]["ssim_head"], 4)}
    return found


def five(comparison: Comparison, name: str, condition: str, calibrated: Mapping[str, Any]) -> dict[str, Row]:
    """Metrics of the four, with the alpha that was best for them on the small heads, and of the adaptive prior."""
    entry = calibrated["adaptive_prior"]
    alpha, guess = AlphaRule(**entry["alpha_rule"]), GuessRule(**entry["guess_rule"])
    rows = {}
    for approach in FOUR:
        ratio = calibrated["small_heads"][nearest(condition)][approach].get("ratio", 0.0)
        solved = "1.0" if approach == "ph2l_gentv" else approach
        compute = partial(comparison.measure, name, condition, solved, [ratio])
        rows[approach] = comparison.parts.get(f"{name}, {condition}, {approach}, {ratio}", compute)["rows"][0]
    compute_adaptive = partial(comparison.adaptive, name, condition, alpha, guess)
    rows["adaptive"] = comparison.parts.get(f"{name}, {condition}, {alpha}, {guess}", compute_adaptive)
    return rows


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
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "adaptive.json")
    parser.add_argument("--image", type=Path, default=REPOSITORY / "docs" / "images" / "adaptive.png")
    arguments = parser.parse_args()

    content: dict[str, Any] = {
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "studies_per_anatomy": arguments.studies,
        **calibrate(arguments.output, arguments.studies),
    }
    for part in TITLES:
        if part == "whole_slices":
            content[part] = check(arguments.output, arguments.studies, content)
        write_json(arguments.results, content, indent=1)
        draw({title: content[one] for one, title in TITLES.items() if one in content}, arguments.image)
        logger.info("\n%s: %s\n\n%s", part, json.dumps(content["adaptive_prior"]), table(shown(content[part])))


if __name__ == "__main__":
    main()
