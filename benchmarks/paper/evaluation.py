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
"""Metrics of every slice, approach, noise level and alpha, computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import monai_lipcar
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.errors import LipcarError
from monai_lipcar.metrics import study_metrics
from monai_lipcar.networks import file_sha256
from monai_lipcar.problem import AlphaRule
from monai_lipcar.transforms import EstimateNoise

from .approaches import APPROACHES, Networks
from .parts import Parts
from .protocols import Protocol, noise_generator, protocols
from .settings import Cohort, Settings
from .slices import Sample, Slices, preprocessing

__all__ = ["ROWS", "Evaluator", "Job", "OperatorJob", "Rows"]

Rows = dict[str, dict[str, float]]
"""Slice to metric to value."""
ROWS = "paper_rows.jsonl"
"""Published rows, beside ``paper.json``."""
FORMAT = 1
"""Raise when what a row holds changes meaning."""


@dataclass(frozen=True)
class Job:
    """One approach on the slices of one section at one noise level.

    Args:
        anatomy, section: of the slices.
        protocol: how the data come about.
        level: noise level.
        approach: key of :data:`APPROACHES`.
        alpha: weight of the prior, or what it follows from in each slice; None where there is no prior.
        precision: that the operator of the inverse problem computes in.
        lesions: with the metrics that depend on sizes, and those of the acquired image, which begin with ``high_``.
    """

    anatomy: str
    section: str
    protocol: Protocol
    level: float
    approach: str
    alpha: float | AlphaRule | None = None
    precision: str = "float32"
    lesions: bool = False

    @property
    def cost(self) -> float:
        """Rough time of a slice, for the progress bar."""
        if self.approach in ("low", "linear_extrapolation"):
            return 0.03
        return 0.3 if APPROACHES[self.approach].bundle is None else 0.5 if self.approach == "physics_tv" else 2.0


@dataclass(frozen=True)
class OperatorJob:
    """One operator on the slices of one section: Tables 1 and 2.

    Args:
        anatomy, section: of the slices.
        operator: one of the four.
        member: which low dose is its input or target: ``"low"`` or ``"denoised"``.
        variant: which training its weights come from.
        level: noise that is added to its input.
    """

    anatomy: str
    section: str
    operator: str
    member: str
    variant: str = "none"
    level: float = 0.0
    cost: float = 0.3


class Evaluator:
    """Computes rows that are missing, batch by batch, and finds those that are not.

    Args:
        settings: of the reproduction.
        networks: the operators.
        slices: anatomy to section to slices.
        denoiser: of the denoised low dose.
    """

    def __init__(
        self, settings: Settings, networks: Networks, slices: dict[str, dict[str, Slices]], denoiser: str
    ) -> None:
        self.settings = settings
        self.networks = networks
        self.slices = slices
        self.denoiser = denoiser
        self.parts = Parts(
            settings.output / "rows", (settings.published or settings.results) / ROWS if settings.go_on else None
        )
        self._recipes = {cohort.anatomy: self._recipe(cohort) for cohort in settings.cohorts}

    def check_published(self) -> None:
        """Recompute a published row of each cohort, the cheapest one.

        The keys of published rows have the configuration of the preprocessing, not its code, so that a row outlives a
        version of it. This is what notices code that prepares other slices.

        Raises:
            LipcarError: it came out differently.
        """
        for anatomy, sections in self.slices.items():
            job = Job(anatomy, "test", protocols(self.denoiser)["hospital"], 0.0, "low")
            for name in [name for name in sections["test"].names if name in self.rows(job)][:1]:
                published = self.rows(job)[name]
                found = self._compute(job, sections["test"].load([name]), [name])[name]
                other = {key for key in published if abs(found.get(key, math.nan) - published[key]) > 1e-3}
                if other or found.keys() != published.keys():
                    raise LipcarError(
                        f"{name}, {anatomy}: the published metrics of the low dose ({published}) are not those of the "
                        f"slices here ({found}): the data are prepared differently now; run without --go-on"
                    )

    def data(self, anatomy: str) -> list[str]:
        """What the slices of a cohort are made from, and how."""
        return self._recipes[anatomy]

    def rows(self, job: Job | OperatorJob, names: Sequence[str] | None = None) -> Rows:
        """Finished rows; with ``names`` those of these slices, or none where one of them is missing."""
        key = self.key(job)
        found: Rows = {**self._of_former_solver(key), **self.parts.find(key)}
        if names is None:
            return found
        return {name: found[name] for name in names} if all(name in found for name in names) else {}

    def missing(self, job: Job | OperatorJob, names: Sequence[str]) -> list[str]:
        """Slices that have no row yet."""
        found = self.rows(job)
        return [name for name in names if name not in found]

    def run(self, job: Job | OperatorJob, names: Sequence[str], advance: Callable[[float], None] | None = None) -> None:
        """Compute the rows that are missing; after every batch they are on disk."""
        slices = self.slices[job.anatomy][job.section]
        key, missing = self.key(job), self.missing(job, names)
        rows: Rows = self.parts.find(key)
        denoised = (job.member if isinstance(job, OperatorJob) else job.protocol.member) == "denoised"
        for start in range(0, len(missing), self.settings.batch_size):
            batch = missing[start : start + self.settings.batch_size]
            rows |= self._compute(job, slices.load(batch, denoised), batch)
            self.parts.store(key, rows)
            if advance is not None:
                advance(len(batch) * job.cost)

    def key(self, job: Job | OperatorJob) -> dict[str, Any]:
        """Everything that the rows of a job depend on, but the slices themselves, which they name."""
        key: dict[str, Any] = {
            "format": FORMAT,
            "version": monai_lipcar.__version__,
            "data": self.data(job.anatomy),
            "seed": self.settings.seed,
            "level": job.level,
        }
        if isinstance(job, OperatorJob):
            weights = {job.operator: self.networks.sha256(job.operator, job.variant)}
            low = [job.member, self.denoiser if job.member == "denoised" else None]
            return {**key, "operator": job.operator, "low": low, "weights": weights}
        approach = APPROACHES[job.approach]
        weights = {
            name: self.networks.sha256(name, self.networks.variant(name, job.protocol)) for name in approach.networks
        }
        solver = None if approach.bundle is None else self.networks.solver(approach.bundle).describe()
        if job.precision != "float32":
            key["precision"] = job.precision
        if job.lesions:
            key["lesions"] = True
        return {
            **key,
            "protocol": job.protocol.key(),
            "approach": job.approach,
            "guess": approach.guess,
            "alpha": asdict(job.alpha) if isinstance(job.alpha, AlphaRule) else job.alpha,
            "solver": solver,
            "weights": weights,
        }

    def _of_former_solver(self, key: dict[str, Any]) -> Rows:
        """Published rows of the solver before it kept the curvature, which ``go_on`` takes: the page says how near."""
        solver = key.get("solver") or {}
        if not self.settings.go_on or "curvature_kept" not in solver:
            return {}
        former = {name: value for name, value in solver.items() if name != "curvature_kept"}
        return self.parts.find({**key, "solver": former})

    def images(self, job: Job, samples: Sequence[Sample]) -> torch.Tensor:
        """The approach's images of some slices, (B, 1, H, W)."""
        observed = torch.stack([job.protocol.observe(sample, job.level, self.settings.seed) for sample in samples])
        pre = torch.stack([sample["pre"] for sample in samples])
        rule = job.alpha
        alpha = torch.tensor([alpha_of(rule, image) for image in observed]) if isinstance(rule, AlphaRule) else rule
        return self.networks.image(job.approach, pre, observed, job.protocol, alpha, job.precision)

    def _compute(self, job: Job | OperatorJob, samples: list[Sample], names: list[str]) -> Rows:
        if isinstance(job, OperatorJob):
            images, targets = self._operator_images(job, samples)
        else:
            images, targets = self.images(job, samples), [sample["high"] for sample in samples]
        rows: Rows = {}
        for name, sample, image, target in zip(names, samples, images, targets, strict=True):
            known: dict[str, Any] = {}
            if isinstance(job, Job):
                known = {"pre": sample["pre"], "lesion": sample["lesion"] > 0.5}
                if job.lesions:
                    known["spacing"] = self.slices[job.anatomy][job.section].spacing(name)
            table = study_metrics({"image": image}, target, sample["head"] > 0.5, **known)
            acquired = {f"high_{metric}": value for metric, value in table.get("high", {}).items()}
            metrics = {**table["image"], **acquired}
            rows[name] = {metric: round(float(value), 6) for metric, value in metrics.items() if math.isfinite(value)}
            rows[name]["tumor"] = float((sample["lesion"] > 0.5).any())
        return rows

    def _operator_images(self, job: OperatorJob, samples: list[Sample]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        forward = job.operator.endswith("h2l")
        source, target = ("high", job.member) if forward else (job.member, "high")
        inputs = []
        for sample in samples:
            dose = sample[source]
            if job.level > 0:
                noise = torch.randn(dose.shape, generator=noise_generator(sample, self.settings.seed))
                dose = dose + job.level * noise
            inputs.append(torch.cat([sample["pre"], dose]) if job.operator.startswith("p") else dose)
        network = self.networks.operator(job.operator, job.variant)
        with torch.no_grad():
            images = network(torch.stack(inputs).to(self.settings.device)).cpu()
        return images, [sample[target] for sample in samples]

    def _recipe(self, cohort: Cohort) -> list[str]:
        record = self.settings.output / "cohorts" / cohort.anatomy / "cohort.json"
        return [file_sha256(record), fingerprint(preprocessing(), source=False)]


def alpha_of(rule: AlphaRule, image: torch.Tensor) -> float:
    """Alpha of a slice (1, H, W) by its noise, which is estimated from nothing but the slice."""
    alpha = rule.alpha(EstimateNoise(0)(image[None]))
    assert alpha is not None
    return alpha
