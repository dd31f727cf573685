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
"""What is computed, in which order: the parts that every table needs first, the refinements last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monai_lipcar.problem import AlphaRule

from .alphas import best_alpha, scheduled
from .approaches import APPROACHES, BASELINES, OPERATORS
from .evaluation import Evaluator, Job, OperatorJob, Rows
from .protocols import COMPARED, Protocol

__all__ = ["Plan", "Task"]


@dataclass(frozen=True)
class Task:
    """A job and the slices that it is needed for."""

    job: Job | OperatorJob
    names: tuple[str, ...]


class Plan:
    """The jobs of a reproduction.

    Args:
        evaluator: knows slices, networks, and what is finished.
        protocols: by name.
    """

    def __init__(self, evaluator: Evaluator, protocols: dict[str, Protocol]) -> None:
        self.evaluator = evaluator
        self.settings = evaluator.settings
        self.protocols = protocols
        self.anatomies = tuple(evaluator.slices)

    def names(self, anatomy: str, section: str = "test", count: int | None = None) -> tuple[str, ...]:
        """Slices of a section, or the first ``count`` of their random order."""
        return self.evaluator.slices[anatomy][section].names[:count]

    def steps(self) -> Iterator[tuple[str, list[Task]]]:
        """Titles and groups of tasks, most important first; later ones may need the alphas that earlier ones found.

        What no alpha is known for yet is left out. Between a validation and what needs it is what does not, so that
        several processes hardly wait for each other's part of the validation.
        """
        main = self.settings.main_levels
        yield "operators", self._operator_tasks()
        yield "baselines", self._baseline_tasks()
        groups: list[tuple[str, tuple[float, ...], tuple[str, ...]]] = [("main levels", main, COMPARED)]
        groups += [(f"other levels, {protocol}", self.settings.levels, (protocol,)) for protocol in COMPARED]
        for title, levels, protocols in groups:
            known = [level for level in levels if level in self.settings.alpha_levels]
            yield f"validation, {title}", self._validation(known, protocols)
            for rule in ("schedule", "validation"):
                yield f"sweep, {rule}, {title}", self._tasks(rule, levels, self.settings.sweep_slices, protocols)
        yield "validation, denoised", self._validation(self.noisy_levels, ("denoised",))
        yield "denoised", self._denoised_tasks()
        for protocol in COMPARED:
            tasks = self._tasks("auto", self.settings.levels, self.settings.sweep_slices, (protocol,))
            yield f"sweep, auto, {protocol}", tasks
        yield "lesions", self._lesion_tasks()
        for rule in ("validation", "schedule"):
            for protocol in COMPARED:
                yield f"test set, {rule}, {protocol}", self._tasks(rule, main, None, (protocol,))

    def job(
        self, anatomy: str, protocol: str, level: float, approach: str, rule: str = "schedule", section: str = "test"
    ) -> Job | None:
        """The job of one table cell; None where its alpha is not known yet."""
        alpha = None
        if APPROACHES[approach].bundle is not None:
            alpha = self.alpha(approach, protocol, level, rule)
            if alpha is None:
                return None
        return Job(anatomy, section, self.protocols[protocol], level, approach, alpha)

    def alpha(self, approach: str, protocol: str, level: float, rule: str) -> float | AlphaRule | None:
        """Alpha of an inverse problem by one of the rules; None while the validation is not finished.

        By validation, alpha between two levels that it was chosen at is interpolated linearly in the noise level. With
        ``"auto"`` it follows from each slice, by a rule that not every bundle has.
        """
        if rule == "auto":
            return self.evaluator.networks.alpha_rule(approach)
        if rule == "schedule":
            return self._scheduled(approach, level)
        levels = self.settings.alpha_levels
        if level not in levels:
            chosen = [self._validated(approach, protocol, known) for known in levels]
            return None if None in chosen else float(np.interp(level, levels, chosen))  # type: ignore[arg-type]
        return self._validated(approach, protocol, level)

    def _scheduled(self, approach: str, level: float) -> float:
        bundle = APPROACHES[approach].bundle
        assert bundle is not None
        return scheduled(self.evaluator.networks.default_alpha(bundle), level)

    def on_test_set(self, job: Job) -> Job:
        """The job of the whole test set: in bfloat16 where that is asked for, or where only that is finished.

        Rows in float32 are taken where they are finished. What has no network in its inverse problem has no other.
        """
        details = APPROACHES[job.approach]
        names = self.names(job.anatomy)
        if details.bundle is None or not details.networks or self.evaluator.rows(job, names):
            return job
        lower = replace(job, precision="bfloat16")
        wanted = self.settings.test_set_precision == lower.precision or self.evaluator.rows(lower, names)
        return lower if wanted else job

    def comparison(
        self, anatomy: str, protocol: str, level: float, rule: str
    ) -> tuple[dict[str, Job | None], tuple[str, ...]]:
        """The jobs of all approaches at one noise level, and slices that can be compared.

        These are the whole test set where every approach is finished on it, else the slices of the sweep.
        """
        jobs = {name: self.job(anatomy, protocol, level, name, rule) for name in APPROACHES}
        everywhere = {name: None if job is None else self.on_test_set(job) for name, job in jobs.items()}
        names = self.names(anatomy)
        if all(job is not None and self.evaluator.rows(job, names) for job in everywhere.values()):
            return everywhere, names
        return jobs, self.names(anatomy, count=self.settings.sweep_slices)

    def lesion_jobs(self, anatomy: str) -> tuple[dict[str, Job | None], tuple[str, ...]]:
        """The jobs of all approaches on the slices with a tumor: first protocol, no noise added, alpha by validation.

        There are no slices while those of the low dose are not finished, which say where a tumor is.
        """
        protocol = next(iter(self.protocols))
        jobs = {name: self.job(anatomy, protocol, 0.0, name, "validation") for name in APPROACHES}
        low = jobs["low"]
        rows = {} if low is None else self.evaluator.rows(low, self.names(anatomy))
        names = tuple(name for name, row in rows.items() if row["tumor"])
        return {name: None if job is None else replace(job, lesions=True) for name, job in jobs.items()}, names

    @property
    def noisy_levels(self) -> tuple[float, ...]:
        """Where a denoiser after the noise is looked at: without noise it would be the paper's protocol."""
        return tuple(level for level in self.settings.alpha_levels if level > 0)

    def denoised_jobs(self, anatomy: str, level: float) -> dict[str, Job | None]:
        """The jobs of all approaches on a low dose that is denoised after the noise, alpha by validation."""
        return {name: self.job(anatomy, "denoised", level, name, "validation") for name in APPROACHES}

    def _denoised_tasks(self) -> list[Task]:
        return [
            Task(job, self.names(anatomy, count=self.settings.sweep_slices))
            for anatomy in self.anatomies
            for level in self.noisy_levels
            for job in self.denoised_jobs(anatomy, level).values()
            if job is not None
        ]

    def _lesion_tasks(self) -> list[Task]:
        tasks = []
        for anatomy in self.anatomies:
            jobs, names = self.lesion_jobs(anatomy)
            tasks += [Task(job, names) for job in jobs.values() if job is not None and names]
        return tasks

    def _validated(self, approach: str, protocol: str, level: float) -> float | None:
        start = self._scheduled(approach, level)
        rows = {}
        for factor in self.settings.alpha_factors:
            together: Rows = {}
            for anatomy in self.anatomies:
                names = self._validation_names(anatomy)
                job = Job(anatomy, "validation", self.protocols[protocol], level, approach, factor * start)
                found = self.evaluator.rows(job, names)
                if not found:
                    return None
                together |= {f"{anatomy} {name}": row for name, row in found.items()}
            rows[factor * start] = together
        return best_alpha(rows)

    def operator_job(self, anatomy: str, operator: str, member: str, section: str, level: float) -> OperatorJob:
        """The job of one cell of Tables 1 and 2."""
        trained = self.settings.weights == "paper" and member == "denoised"
        variant = self.evaluator.denoiser if trained else "none"
        return OperatorJob(anatomy, section, operator, member, variant, level)

    def training_names(self, anatomy: str) -> tuple[str, ...]:
        """Slices of the training set that Table 2 looks at: as many as of the test set."""
        return self.names(anatomy, "training", len(self.names(anatomy)))

    def _operator_tasks(self) -> list[Task]:
        tasks = []
        for anatomy in self.anatomies:
            for operator in OPERATORS:
                for member in ("low", "denoised"):
                    tasks.append(Task(self.operator_job(anatomy, operator, member, "test", 0.0), self.names(anatomy)))
                noisy = self.operator_job(anatomy, operator, "low", "test", self.settings.operator_level)
                tasks.append(Task(noisy, self.names(anatomy)))
                if "training" in self.evaluator.slices[anatomy]:
                    for level in (0.0, self.settings.operator_level):
                        job = self.operator_job(anatomy, operator, "low", "training", level)
                        tasks.append(Task(job, self.training_names(anatomy)))
        return tasks

    def _baseline_tasks(self) -> list[Task]:
        """What has no network, beside the operators: both low doses of Table 1, training set and noise of Table 2."""
        tasks = []
        for anatomy in self.anatomies:
            places = [("test", self.names(anatomy))]
            if "training" in self.evaluator.slices[anatomy]:
                places.append(("training", self.training_names(anatomy)))
            for row in BASELINES:
                jobs = [(self.job(anatomy, "paper", 0.0, row), self.names(anatomy))]
                for section, names in places:
                    for level in (0.0, self.settings.operator_level):
                        jobs.append((self.job(anatomy, "hospital", level, row, section=section), names))
                tasks += [Task(job, names) for job, names in jobs if job is not None]
        return tasks

    def _tasks(self, rule: str, levels: Sequence[float], count: int | None, protocols: Sequence[str]) -> list[Task]:
        tasks = []
        for anatomy in self.anatomies:
            for level in levels:
                for protocol in protocols:
                    for approach in APPROACHES:
                        if rule != "schedule" and APPROACHES[approach].bundle is None:
                            continue
                        job = self.job(anatomy, protocol, level, approach, rule)
                        if job is not None and count is None:
                            job = self.on_test_set(job)
                        if job is not None:
                            tasks.append(Task(job, self.names(anatomy, count=count)))
        return tasks

    def _validation_names(self, anatomy: str) -> tuple[str, ...]:
        return self.names(anatomy, "validation", self.settings.alpha_slices)

    def _validation(self, levels: Sequence[float], protocols: Sequence[str]) -> list[Task]:
        tasks = []
        for level in levels:
            for protocol in protocols:
                for approach, details in APPROACHES.items():
                    if details.bundle is None:
                        continue
                    start = self._scheduled(approach, level)
                    for factor in self.settings.alpha_factors:
                        for anatomy in self.anatomies:
                            job = Job(anatomy, "validation", self.protocols[protocol], level, approach, factor * start)
                            tasks.append(Task(job, self._validation_names(anatomy)))
        return tasks
