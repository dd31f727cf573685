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
"""Calibrate ``--alpha auto``, and compare it with the best, the default and the scheduled alpha.

    python -m benchmarks.alpha_auto --output runs/alpha_auto --bundles physics_tv

Simulates small heads of its own (never those that anything is tested on), adds noise, solves each for a grid of alphas,
and measures the error of the operator on the same heads without any noise. From this follow

- the rule (:class:`monai_lipcar.problem.AlphaRule`) that loses least PSNR over the head against the best alpha of the
  grid. Of the kinds of rules, the one is taken that loses least on heads that its numbers are fitted without;
- the loss of ``--alpha auto`` (noise estimated from the data; where alpha is searched for, as by the bundle), of the
  bundle's default alpha, and of the paper's schedule of alpha over the noise level.

The same losses follow on whole slices of other studies, which no rule was fitted to. Writes
``benchmarks/results/alpha_auto.json``, with the entry ``alpha_rule`` for the bundle's ``metadata.json``
(``benchmarks/publish.py`` puts it there). Every curve is kept in the output folder, so that an interrupted run
continues. ``--refit`` fits the rules to the curves in the results file and computes nothing else.

Learned operators compute in bfloat16 where the device is faster in it and the output changes little (``--precision``);
every curve says what it was computed in. The error of the operator is measured in the same way.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.data.atomic import write_json
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.problem import AlphaRule

from .alpha_heads import ALPHAS, CLEAN, CONDITIONS, LEVELS, SLICES, Calibration, Parts
from .alpha_rules import Curve, condition_of, fit_all, mean, summary
from .paper.alphas import scheduled

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLES = ("physics_tv", "h2l_tv", "ph2l_tv", "ph2l_gentv")
CHECKED: dict[str, tuple[int, dict[str, Any]]] = {"mni152": (6305, {}), "rat": (6306, {})}
"""Seeds of the studies that the rule is checked on, as large as those that the operators are trained for."""
CHECKED_UNDER = ("noise 0.0", "noise 0.033", "noise 0.066")

Search = Callable[[AlphaRule, str], dict[str, Any]]
"""Finds alpha on a head, given by the label of its curve, for a rule that does not give it."""
logger = logging.getLogger("alpha_auto")


def measured(calibration: Calibration, under: Sequence[str]) -> tuple[dict[str, Curve], Parts, Search]:
    """Curves of all heads under some conditions, where what is measured is kept, and what searches for alpha."""
    key = {
        "version": monai_lipcar.__version__,
        "weights": calibration.weights,
        "solver": calibration.inferer.solver.describe(),
        "preprocessing": fingerprint(calibration.preprocessing),
        "cohorts": json.loads(json.dumps(calibration.cohorts)),
        "grid": [list(ALPHAS), SLICES],
        "precision": calibration.precision,
    }
    parts = Parts(calibration.output / f"{calibration.bundle}.json", key)
    volumes = {
        noise: {
            name: study
            for anatomy in calibration.cohorts
            for name, study in calibration.volumes(anatomy, noise=noise).items()
        }
        for noise in ((False, True) if CLEAN in under else (True,))
    }
    studies = {
        f"{name}, {condition}": (name, study, condition)
        for condition in under
        for name, study in volumes[condition != CLEAN].items()
    }
    curves: dict[str, Curve] = {}
    for label, arguments in tqdm(studies.items(), desc=f"{calibration.bundle}: curves"):
        curves[label] = parts.get(label, partial(calibration.curve, *arguments))

    def search(rule: AlphaRule, label: str) -> dict[str, Any]:
        found: dict[str, Any] = parts.get(f"{rule}, {label}", partial(calibration.automatic, *studies[label], rule))
        return found

    return curves, parts, search


def calibrate(bundle: str, output: Path, studies: int, precision: str) -> dict[str, Any]:
    """Measure one bundle; see the head of this file."""
    calibration = Calibration(bundle, output, studies, precision=precision)
    curves, parts, search = measured(calibration, tuple(CONDITIONS))
    error = round(parts.get("operator_error", calibration.operator_error), 5)
    entry = {"dose_fraction": calibration.dose_fraction, "weights_sha256": calibration.weights}
    return concluded(curves, error, calibration.default, entry, search)


def concluded(
    curves: Mapping[str, Curve], operator_error: float, default: float, entry: Mapping[str, Any], search: Search
) -> dict[str, Any]:
    """Rules that fit the curves, and what they lose.

    Args:
        curves: head and condition to what was measured.
        operator_error: rho.
        default: alpha of the bundle.
        entry: what else belongs to the rule, where it is known.
        search: finds alpha where the rule does not give it.
    """
    kind, fitted = fit_all(curves, operator_error)
    rule = fitted[kind].rule
    chosen = {label: chosen_by(rule, label, curve, search) for label, curve in curves.items()}
    alphas = {label: row["alpha"] for label, row in chosen.items()}

    def summarized(condition: str | None) -> dict[str, float]:
        some = {label: curve for label, curve in curves.items() if condition in (None, condition_of(label))}
        return summary(some, alphas, default, partial(by_schedule, default), fitted[kind].left_out)

    added = {f"noise {level}" for level in LEVELS}
    numbers = {**asdict(rule), **(entry if rule.ratio is not None else {**entry, "dose_fraction": None})}
    return {
        "alpha_rule": {name: value for name, value in numbers.items() if value is not None},
        "kind": kind,
        "default_alpha": default,
        "conditions": {name: summarized(name) for name in map(condition_of, curves)} | {"all": summarized(None)},
        "rules": {
            name: {
                **asdict(one.rule),
                "loss": mean(one.lost.values()),
                "worst": round(max(one.lost.values()), 3),
                "loss_noise_added": mean(loss for label, loss in one.lost.items() if condition_of(label) in added),
                "left_out": mean(one.left_out.values()),
            }
            for name, one in fitted.items()
        },
        "solves": mean((row["solves"] for row in chosen.values()), 2),
        "curves": curves,
        "chosen": chosen,
    }


def chosen_by(rule: AlphaRule, label: str, curve: Curve, search: Search) -> dict[str, Any]:
    """What ``--alpha auto`` chooses on a head, by a rule: it follows from the noise, or is searched for."""
    alpha = rule.alpha(curve["sigma"])
    return search(rule, label) if alpha is None else {"alpha": alpha, "status": "proportional", "solves": 0}


def by_schedule(default: float, label: str) -> float:
    """The paper's alpha for the noise that was added."""
    return scheduled(default, CONDITIONS[condition_of(label)][0])


def check(bundle: str, output: Path, studies: int, precision: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    """The losses on other studies, which no rule was fitted to."""
    calibration = Calibration(bundle, output, studies, CHECKED, precision=precision)
    curves, _, search = measured(calibration, CHECKED_UNDER)
    chosen = {label: chosen_by(rule_of(rule), label, curve, search) for label, curve in curves.items()}
    alphas = {label: row["alpha"] for label, row in chosen.items()}
    schedule = partial(by_schedule, calibration.default)
    conditions = {}
    for condition in CHECKED_UNDER:
        some = {label: curve for label, curve in curves.items() if condition_of(label) == condition}
        conditions[condition] = summary(some, alphas, calibration.default, schedule)
    conditions["all"] = summary(curves, alphas, calibration.default, schedule)
    return {"studies_per_anatomy": studies, "conditions": conditions, "curves": curves, "chosen": chosen}


def refit(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured for a bundle, with rules that are fitted to its curves anew."""
    former = entry["alpha_rule"]

    def search(rule: AlphaRule, label: str) -> dict[str, Any]:
        if rule != rule_of(former):
            raise SystemExit(f"{rule} does not give alpha: run it without --refit, to search for it")
        found: dict[str, Any] = entry["chosen"][label]
        return found

    kept = {name: former[name] for name in ("dose_fraction", "weights_sha256") if name in former}
    return {**entry, **concluded(entry["curves"], former["operator_error"], entry["default_alpha"], kept, search)}


def rule_of(entry: Mapping[str, Any]) -> AlphaRule:
    """The rule in an entry of metadata."""
    return AlphaRule(**{one.name: entry[one.name] for one in fields(AlphaRule) if one.name in entry})


def table(rows: dict[str, dict[str, float | None]]) -> str:
    """Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for title, row in rows.items():
        lines.append(
            f"| {title} | " + " | ".join("" if row[name] is None else f"{row[name]:.3g}" for name in names) + " |"
        )
    return "\n".join(lines)


def main(command_line: Sequence[str] | None = None) -> None:
    """Run the calibration."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "runs" / "alpha_auto", help="cohorts and curves")
    parser.add_argument("--bundles", nargs="+", choices=BUNDLES, default=list(BUNDLES))
    parser.add_argument("--studies", type=int, default=2, help="heads of each anatomy")
    parser.add_argument("--checked-studies", type=int, default=1, help="other studies of each anatomy; 0 for none")
    parser.add_argument("--precision", choices=["float32", "auto"], default="auto", help="of learned operators")
    parser.add_argument("--refit", action="store_true", help="only fit rules to the curves of the results file")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "alpha_auto.json")
    arguments = parser.parse_args(command_line)

    content = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
    bundles = content.setdefault("bundles", {})
    for bundle in arguments.bundles:
        if arguments.refit:
            if bundle not in bundles:
                continue
            bundles[bundle] = refit(bundles[bundle])
        else:
            content["versions"] = {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__}
            found = calibrate(bundle, arguments.output / "calibrated", arguments.studies, arguments.precision)
            bundles[bundle] = {"studies_per_anatomy": arguments.studies, **found}
            if arguments.checked_studies:
                place, rule = arguments.output / "checked", found["alpha_rule"]
                write_json(arguments.results, content, indent=1)
                checked = check(bundle, place, arguments.checked_studies, arguments.precision, rule)
                bundles[bundle]["checked"] = checked
                logger.info("\n%s, other studies\n\n%s", bundle, table(checked["conditions"]))
        write_json(arguments.results, content, indent=1)
        found = bundles[bundle]
        logger.info("\n%s: %s\n\n%s", bundle, json.dumps(found["alpha_rule"]), table(found["conditions"]))
        logger.info("\n%s", table({name: dict(row) for name, row in found["rules"].items()}))


if __name__ == "__main__":
    main()
