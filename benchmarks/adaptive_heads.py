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
"""The heads that the adaptive prior is calibrated on and checked with, and what is measured on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, LoadImaged

import monai_lipcar
from monai_lipcar.bundle import bundle_root, checksum, find_weights
from monai_lipcar.data import find_studies
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.data.output import write_volume
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.metrics import study_metrics
from monai_lipcar.physics import CONVENTIONAL, DoseProtocol, SpinEcho, SpoiledGradientEcho
from monai_lipcar.problem import AlphaRule, GuessRule, LearnedInverseProblem, TotalVariation, frozen
from monai_lipcar.simulate import Simulation
from monai_lipcar.transforms import EstimateNoise, MatchContrastd, MatchIntensityd

from .alpha_heads import COHORTS, Calibration, Parts
from .alpha_rules import mean
from .real_examinations import DONE_ON_WHOLE_VOLUMES

BUNDLE = "ph2l_gentv"
RATIOS = (0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.55, 0.75)
"""Alpha over the noise level of low and pre together."""
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Of the end-to-end image in the guess; 1 is PH2L-GenTV."""
METRICS = ("ssim_head", "psnr_head", "psnr_enhancing", "enhancement_recovery")
OTHER_COHORTS = {anatomy: (seed + 200, options) for anatomy, (seed, options) in COHORTS.items()}
"""Heads whose low dose has another signal model than that of the training."""
FULL_DOSE = SpoiledGradientEcho(repetition_time_ms=6.0, echo_time_ms=2.5, flip_angle_deg=15.0)
BEFORE = SpinEcho(repetition_time_ms=600.0, echo_time_ms=12.0)
OTHER_MODEL = Simulation(FULL_DOSE, t1_range_ms=(700.0, 3500.0), own_noise=True)

Study = dict[str, torch.Tensor]
Row = dict[str, float]
Measured = dict[str, Any]
"""Of one head under one condition: noise levels, and approach or weight to metrics for each ratio."""


class Comparison:
    """What is measured on the heads of some cohorts.

    Args:
        output: where heads and values are kept.
        studies: heads of each anatomy.
        cohorts: seed and size of these.
        options: of the bundles, where they are not their own.
        precision: of the learned operator's convolutions, as for :class:`~monai_lipcar.inferers.LIPInferer`.
    """

    def __init__(
        self,
        output: Path,
        studies: int,
        cohorts: Mapping[str, tuple[int, dict[str, Any]]],
        options: Mapping[str, Any] | None = None,
        precision: str = "float32",
    ) -> None:
        self.learned = Calibration(BUNDLE, output, studies, cohorts, options, precision)
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
            "precision": precision,
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
        network = (self.learned if learned and approach != "physics_tv" else self.physics).operator(inputs)
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

    def measured(
        self, name: str, condition: str, approach: str, ratios: Sequence[float], learned: bool = True
    ) -> Measured:
        """:meth:`measure`, each ratio computed once: further ones may be asked for later."""
        labels = {ratio: f"{name}, {condition}, {approach}, {ratio}" for ratio in ratios}
        missing = [ratio for ratio in ratios if labels[ratio] not in self.parts.values]
        if missing:
            found = self.measure(name, condition, approach, missing, learned)
            rows = zip(missing, found["rows"], strict=True)
            self.parts.put({labels[ratio]: {**found, "rows": [row]} for ratio, row in rows})
        parts = [self.parts.values[label] for label in labels.values()]
        return {**parts[0], "rows": [row for part in parts for row in part["rows"]]}

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


class OtherModel(Comparison):
    """Heads that are to the networks what real pairs are: the signal model is none that they were trained on.

    Pre and full dose have two sequences, which are matched as those of real pairs are, and the full dose is as noisy as
    pre. The low dose is made of the pair with a gradient echo, a native T1 of its own in every voxel, and noise of its
    own. Times, flip angle and range of T1 are others than those that real pairs are judged with.

    Args:
        output: where heads and values are kept.
        studies: heads of each anatomy.
    """

    def __init__(self, output: Path, studies: int) -> None:
        super().__init__(output, studies, OTHER_COHORTS, {**OTHER_MODEL.options(0.2), **DONE_ON_WHOLE_VOLUMES})

    @cached_property
    def studies(self) -> dict[str, Study]:
        """Study to its volumes."""
        known: dict[str, Study] = {}
        for anatomy, (seed, options) in self.learned.cohorts.items():
            folder = self.learned.output / "cohorts" / anatomy
            for member, sequence in (("high", FULL_DOSE), ("pre", BEFORE)):
                write_cohort(
                    folder / member,
                    anatomy,
                    self.learned.studies,
                    seed=seed,
                    anatomy_options=options,
                    signal_model=sequence,
                    agent=CONVENTIONAL,
                    protocol=DoseProtocol(0.02, 0.1),
                    acquisition={"high_noise_factor": 1.0, "noise_level": 0.01, "motion_voxels": 0.2},
                )
            for study in find_studies(folder / "high", ("high",))[: self.learned.studies]:
                _write_pair(folder, study.study_id)
            found = find_studies(folder / "data", ("pre", "low", "high"))[: self.learned.studies]
            known |= {study.study_id: self.learned.prepared(study) for study in found}
        return known


def _write_pair(folder: Path, name: str) -> None:
    """A head's pre and full dose, matched, and the low dose made of them."""
    place = folder / "data" / name
    if (place / "low.nii.gz").is_file():
        return
    match = Compose(
        [
            LoadImaged(keys=("pre", "high"), image_only=True, ensure_channel_first=True),
            MatchIntensityd(keys="pre", reference_key="high", field_mm=20.0),
            MatchContrastd("pre", "high", field_mm=8.0),
        ]
    )
    files = {member: str(folder / member / name / f"{member}.nii.gz") for member in ("pre", "high")}
    pair = match({"study_id": name, **files})
    place.mkdir(parents=True, exist_ok=True)
    for member in ("pre", "high"):
        write_volume(pair[member], place / f"{member}.nii.gz")
    # last: says that all is there
    write_volume(OTHER_MODEL.low_dose(OTHER_MODEL.clean(pair), 0.2, 0.01), place / "low.nii.gz")
