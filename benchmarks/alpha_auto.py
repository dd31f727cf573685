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
  grid, and what the rules of the other kinds lose;
- the loss of ``--alpha auto`` (searched for as by the bundle, noise estimated from the data), of the bundle's default
  alpha, and of the paper's schedule of alpha over the noise level.

Writes ``benchmarks/results/alpha_auto.json``, with the entry ``alpha_rule`` for the bundle's ``metadata.json``. Every
curve is kept in the output folder, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.bundle import bundle_root, checksum, reported
from monai_lipcar.data import Study, find_studies, slice_axis
from monai_lipcar.data.atomic import write_json
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.engines import prepare_study
from monai_lipcar.inferers import LIPInferer
from monai_lipcar.inferers.automatic import choose_alpha, observed_noise
from monai_lipcar.metrics import psnr
from monai_lipcar.physics import add_gaussian_noise
from monai_lipcar.problem import AlphaRule, DiscrepancyPrinciple, LearnedInverseProblem, discrepancy
from monai_lipcar.transforms import EstimateNoise
from monai_lipcar.transforms.foreground import head_mask

from .paper.alphas import scheduled

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLES = ("physics_tv", "h2l_tv", "ph2l_tv", "ph2l_gentv")
LEVELS = (0.0, 0.011, 0.022, 0.033, 0.044, 0.055, 0.066)
CLEAN = "no noise at all"
CONDITIONS = {
    CLEAN: (0.0, 0.0),
    **{f"noise {level}": (level, 0.0) for level in LEVELS},
    "noise 0.022 in pre too": (0.022, 0.022),
}
"""Noise that is added to low and to pre, which have noise of 0.005 to 0.01 already, but for the first."""
ALPHAS = tuple(float(f"{alpha:.3g}") for alpha in np.geomspace(2.4e-2, 4e-4, 12))
"""Large ones first: each solution is the start of the next."""
COHORTS: dict[str, tuple[int, dict[str, Any]]] = {
    "mni152": (6301, {"shape": (96, 112, 4), "spacing": (2.0, 2.0, 25.0)}),
    "random": (6302, {"shape": (96, 96, 4)}),
}
"""Seed and size of the heads of each anatomy."""
SLICES = 2
KAPPAS = tuple(float(f"{kappa:.3g}") for kappa in [0.0, *np.geomspace(0.01, 10.0, 37)])
RATIOS = tuple(float(f"{ratio:.3g}") for ratio in np.geomspace(0.05, 2.0, 75))

logger = logging.getLogger("alpha_auto")
Curve = dict[str, Any]


class Calibration:
    """What is measured for one bundle.

    Args:
        bundle: an inverse problem.
        output: where cohorts and curves are kept.
        studies: heads of each anatomy.
        cohorts: seed and size of these heads.
        options: of the bundle, where they are not its own.
    """

    def __init__(
        self,
        bundle: str,
        output: Path,
        studies: int,
        cohorts: Mapping[str, tuple[int, dict[str, Any]]] = COHORTS,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundle, self.output, self.studies, self.cohorts = bundle, output, studies, cohorts
        config = ConfigParser.load_config_file(f"{bundle_root(bundle)}/configs/inference.json")
        self.default, self.dose_fraction = float(config["alpha"]), float(config["dose_fraction"])
        with reported():
            # the rule that is to be measured must not be asked for
            parser = ConfigParser({**config, "alpha_rule": None, "device": "$torch.device('cpu')", **(options or {})})
            self.network = parser.get_parsed_content("network")
            self.inferer: LIPInferer = parser.get_parsed_content("inferer")
            self.preprocessing = parser.get_parsed_content("preprocessing")
            weights = parser.get_parsed_content("checkpoint") if "checkpoint" in config else None
        self.inferer.progress = False
        self.weights = None if weights is None else checksum(weights)

    def volumes(self, anatomy: str, noise: bool) -> dict[str, dict[str, torch.Tensor]]:
        """Study to member to preprocessed volume (S, H, W), with ``"head"``."""
        seed, options = self.cohorts[anatomy]
        folder = self.output / "cohorts" / f"{anatomy}-{'noisy' if noise else 'clean'}"
        acquisition = {} if noise else {"noise_level": 0.0}
        write_cohort(folder, anatomy, self.studies, seed=seed, anatomy_options=options, acquisition=acquisition)
        studies = find_studies(folder, ("pre", "low", "high"))[: self.studies]
        return {study.study_id: self.prepared(study) for study in studies}

    def prepared(self, study: Study) -> dict[str, torch.Tensor]:
        """Member to preprocessed volume (S, H, W), the slices with most signal of each, and their ``"head"``."""
        prepared = prepare_study(study, self.preprocessing, ("pre", "low", "high"))
        axis = slice_axis(np.asarray(prepared["low"].affine), tuple(prepared["low"].shape[1:]))
        members = {name: prepared[name].as_tensor()[0].movedim(axis, 0).float() for name in ("pre", "low", "high")}
        head = torch.from_numpy(np.ascontiguousarray(head_mask(members["low"].numpy(), axis=0)))
        signal = (members["low"] * head).flatten(1).sum(dim=1)
        chosen = signal.argsort(descending=True)[:SLICES].sort().values
        whole = {f"all_{name}": volume for name, volume in members.items()}
        chosen_members = {name: volume[chosen][:, None].contiguous() for name, volume in members.items()}
        return {**whole, **chosen_members, "head": head[chosen][:, None], "chosen": chosen}

    def problem(self, pre: torch.Tensor, observed: torch.Tensor) -> LearnedInverseProblem:
        """The bundle's inverse problem for some slices."""
        inputs = observed if self.bundle == "h2l_tv" else torch.cat([pre, observed], dim=1)
        return self.inferer.problem(inputs, self.network, 0.0)

    def operator_error(self) -> float:
        """Rho: root mean square over heads of Psi(x_H) - x_L without noise."""
        squares = [
            discrepancy(self.problem(study["pre"], study["low"]), study["high"], study["head"]) ** 2
            for anatomy in self.cohorts
            for study in self.volumes(anatomy, noise=False).values()
        ]
        return math.sqrt(float(np.mean(squares)))

    def inputs(self, name: str, study: dict[str, torch.Tensor], condition: str) -> torch.Tensor:
        """Channels (pre, low) of all slices with added noise: at every level the same, times the level."""
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        low_level, pre_level = CONDITIONS[condition]
        low = add_gaussian_noise(study["all_low"], low_level, generator)
        pre = add_gaussian_noise(study["all_pre"], pre_level, generator)
        return torch.stack([pre, low], dim=1)

    def curve(self, name: str, study: dict[str, torch.Tensor], condition: str) -> Curve:
        """PSNR and discrepancy of the solutions for every alpha."""
        inputs = self.inputs(name, study, condition)
        sigma = EstimateNoise(0)(inputs[None, :, 1])
        chosen = inputs[study["chosen"]]
        problem = self.problem(chosen[:, :1], chosen[:, 1:])
        image, rows = problem.observed, []
        for alpha in ALPHAS:
            image = self.inferer.solver.solve(problem.at_alpha(alpha), image).image
            left = discrepancy(problem, image, study["head"])
            rows.append([alpha, round(psnr(image, study["high"], study["head"]), 4), round(left, 6)])
            if left < 0.6 * sigma:
                break  # all noise from here on
        return {"sigma": round(sigma, 6), "rows": rows}

    def automatic(self, name: str, study: dict[str, torch.Tensor], condition: str, rule: AlphaRule) -> dict[str, Any]:
        """What ``--alpha auto`` chooses: noise, head and slices are those that the inferer sees."""
        inputs = self.inputs(name, study, condition)
        batch = inputs[:, 1:] if self.bundle == "h2l_tv" else inputs
        choice = choose_alpha(
            batch,
            observed_noise(batch, axis=0),
            rule=rule,
            make_problem=lambda samples: self.inferer.problem(samples, self.network, 0.0),
            solver=self.inferer.solver,
            principle=DiscrepancyPrinciple(),
            count=SLICES,
        )
        return choice.describe()


def at(curve: Curve, alpha: float) -> float:
    """PSNR for an alpha between those of the grid; beyond it, that of its end."""
    rows = np.array(curve["rows"][::-1])
    return float(np.interp(math.log(alpha), np.log(rows[:, 0]), rows[:, 1]))


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


def losses(curves: dict[str, Curve], rule: AlphaRule) -> dict[str, float]:
    """What a rule loses on every curve, in dB."""
    return {key: best(curve) - at(curve, alpha_of(curve, rule)) for key, curve in curves.items()}


def fit(curves: dict[str, Curve], start: AlphaRule, ratios: Sequence[float | None]) -> AlphaRule:
    """The kappa, and the ratio of these, with the least mean loss; the other numbers of the rule are given."""
    rules = [replace(start, kappa=kappa, ratio=ratio) for kappa in KAPPAS for ratio in ratios]
    return min(rules, key=lambda rule: float(np.mean(list(losses(curves, rule).values()))))


def fit_all(curves: dict[str, Curve], start: AlphaRule) -> dict[str, AlphaRule]:
    """The best rule of every kind."""
    return {
        "proportional": fit(curves, start, RATIOS),
        "discrepancy": fit(curves, start, (None,)),
        "discrepancy, kappa 1": replace(start, kappa=1.0, ratio=None),
        "discrepancy, kappa 0": replace(start, kappa=0.0, ratio=None),
    }


class Parts:
    """Results of one bundle on disk, one JSON file for all; stored after each.

    Args:
        file: where.
        key: what they depend on; other results there are not used.
    """

    def __init__(self, file: Path, key: dict[str, Any]) -> None:
        self.file, self.key = file, key
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.values: dict[str, Any] = content["values"] if content.get("key") == key else {}

    def get(self, name: str, compute: Any) -> Any:
        """The value of this name, computed if it is not there."""
        if name not in self.values:
            self.values[name] = compute()
            self.file.write_text(json.dumps({"key": self.key, "values": self.values}), encoding="utf-8")
        return self.values[name]


def calibrate(bundle: str, output: Path, studies: int) -> dict[str, Any]:
    """Measure one bundle; see the head of this file."""
    calibration = Calibration(bundle, output, studies)
    key = {
        "version": monai_lipcar.__version__,
        "weights": calibration.weights,
        "solver": calibration.inferer.solver.describe(),
        "preprocessing": fingerprint(calibration.preprocessing),
        "cohorts": json.loads(json.dumps(COHORTS)),
        "grid": [list(ALPHAS), SLICES],
    }
    parts = Parts(output / f"{bundle}.json", key)
    start = AlphaRule(round(parts.get("operator_error", calibration.operator_error), 5), 1.0)
    clean, noisy = (
        {name: study for anatomy in COHORTS for name, study in calibration.volumes(anatomy, noise=noise).items()}
        for noise in (False, True)
    )
    jobs = [(name, condition) for condition in CONDITIONS for name in noisy]
    curves: dict[str, Curve] = {}
    for name, condition in tqdm(jobs, desc=f"{bundle}: curves"):
        study = (clean if condition == CLEAN else noisy)[name]
        label = f"{name}, {condition}"
        curves[label] = parts.get(label, partial(calibration.curve, name, study, condition))
    rules = fit_all(curves, start)
    lost = {name: losses(curves, rule) for name, rule in rules.items()}
    kind = min(rules, key=lambda name: mean(lost[name].values()))
    chosen: dict[str, Any] = {}
    for name, condition in tqdm(jobs, desc=f"{bundle}: auto"):
        study = (clean if condition == CLEAN else noisy)[name]
        label = f"{name}, {condition}"
        compute = partial(calibration.automatic, name, study, condition, rules[kind])
        chosen[label] = parts.get(f"{rules[kind]}, {label}", compute)
    entry = {name: value for name, value in asdict(rules[kind]).items() if value is not None}
    if rules[kind].ratio is not None:
        entry["dose_fraction"] = calibration.dose_fraction
    if calibration.weights is not None:
        entry["weights_sha256"] = calibration.weights
    held_out = hold_out(curves, rules[kind])
    conditions = {name: summary(name, curves, chosen, held_out, calibration.default) for name in CONDITIONS}
    added = {f"noise {level}" for level in LEVELS}
    return {
        "alpha_rule": entry,
        "default_alpha": calibration.default,
        "conditions": {**conditions, "all": summary(None, curves, chosen, held_out, calibration.default)},
        "rules": {
            name: {
                **asdict(rule),
                "loss": mean(lost[name].values()),
                "worst": round(max(lost[name].values()), 3),
                "loss_noise_added": mean(value for label, value in lost[name].items() if label.split(", ")[1] in added),
            }
            for name, rule in rules.items()
        },
        "solves": mean((row["solves"] for row in chosen.values()), 2),
        "curves": curves,
        "chosen": chosen,
    }


def mean(values: Any, digits: int = 3) -> float:
    """Rounded mean."""
    return round(float(np.mean(list(values))), digits)


def study_of(label: str) -> str:
    """The head of a curve."""
    return label.split(", ")[0]


def hold_out(curves: dict[str, Curve], rule: AlphaRule) -> dict[str, AlphaRule]:
    """For every study, the rule of this kind that is fitted without it."""
    ratios = (None,) if rule.ratio is None else RATIOS
    return {
        study: fit({label: curve for label, curve in curves.items() if study_of(label) != study}, rule, ratios)
        for study in {study_of(label) for label in curves}
    }


def summary(
    condition: str | None,
    curves: dict[str, Curve],
    chosen: dict[str, Any],
    held_out: dict[str, AlphaRule],
    default: float,
) -> dict[str, float]:
    """PSNR of the best alpha, and what the others lose, in the mean over studies under one condition or all."""
    some = {label: curve for label, curve in curves.items() if condition in (None, label.split(", ", 1)[1])}

    def by_schedule(label: str) -> float:
        return scheduled(default, CONDITIONS[label.split(", ", 1)[1]][0])

    lost = {label: best(curve) - at(curve, chosen[label]["alpha"]) for label, curve in some.items()}
    left_out = [
        value for label, curve in some.items() for value in losses({label: curve}, held_out[study_of(label)]).values()
    ]
    return {
        "best_psnr_head": mean(best(curve) for curve in some.values()),
        "auto": mean(lost.values()),
        "auto_worst": round(max(lost.values()), 3),
        "auto_left_out": mean(left_out),
        "default": mean(best(curve) - at(curve, default) for curve in some.values()),
        "schedule": mean(best(curve) - at(curve, by_schedule(label)) for label, curve in some.items()),
    }


def table(rows: dict[str, dict[str, float | None]]) -> str:
    """Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for title, row in rows.items():
        lines.append(
            f"| {title} | " + " | ".join("" if row[name] is None else f"{row[name]:.3g}" for name in names) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the calibration."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="cohorts and curves")
    parser.add_argument("--bundles", nargs="+", choices=BUNDLES, default=list(BUNDLES))
    parser.add_argument("--studies", type=int, default=3, help="heads of each anatomy")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "alpha_auto.json")
    arguments = parser.parse_args()

    arguments.output.mkdir(parents=True, exist_ok=True)
    content = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
    content["versions"] = {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__}
    for bundle in arguments.bundles:
        result = calibrate(bundle, arguments.output, arguments.studies)
        content.setdefault("bundles", {})[bundle] = {"studies_per_anatomy": arguments.studies, **result}
        write_json(arguments.results, content, indent=1)
        logger.info("\n%s: %s\n\n%s", bundle, json.dumps(result["alpha_rule"]), table(result["conditions"]))
        logger.info("\n%s", table(result["rules"]))


if __name__ == "__main__":
    main()
