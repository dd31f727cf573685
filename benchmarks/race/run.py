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
"""The race itself: every racer on every slice, in turns, each part kept as soon as it is finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.metrics import study_metrics

from ..paper.parts import Parts
from .machine import passes_gflop
from .problems import Problems
from .racers import Racer, Trace

__all__ = ["LEVELS", "Race", "Row"]

LEVELS = (0.0, 0.033)
FORMAT = 1
"""Raise when what a row holds changes meaning."""
METRICS = ("psnr_head", "ssim_head", "enhancement_recovery")
Row = dict[str, Any]
"""What one racer did on one slice."""


@dataclass(frozen=True)
class Race:
    """A race on one bundle's inverse problem.

    Args:
        problems: slices and problems.
        bundle: which problem.
        racers: who takes part, and on how many of the slices (a multiple of its batch size, or all).
        parts: where what is finished is kept.
        names: of the slices; by default all test slices.
        weight: alpha; by default that of the problems.
    """

    problems: Problems
    bundle: str
    racers: Sequence[tuple[Racer, int]]
    parts: Parts
    names: Sequence[str] | None = None
    weight: float | None = None

    @property
    def slices(self) -> Sequence[str]:
        """Names of the slices that are raced on."""
        return self.problems.names if self.names is None else self.names

    def alpha(self, level: float) -> float:
        """Weight of the prior."""
        return self.problems.alpha(self.bundle, level) if self.weight is None else self.weight

    def run(self, level: float) -> None:
        """Compute what is missing at a noise level. The racers take turns, so that none has the machine's good hour."""
        groups = [(racer, names) for racer, count in self.racers for names in self.groups(racer, count)]
        groups.sort(key=lambda group: self.slices.index(group[1][-1]))
        for racer, names in tqdm(groups, desc=f"{self.bundle}, noise {level:g}", unit="solve"):
            if not self.parts.find(self.key(racer, names, level)):
                self.parts.store(self.key(racer, names, level), self._solve(racer, names, level))

    def rows(self, racer: Racer, count: int, level: float) -> dict[str, Row]:
        """Slice to what the racer did on it, of those that are finished."""
        rows: dict[str, Row] = {}
        for names in self.groups(racer, count):
            rows |= self.parts.find(self.key(racer, names, level))
        return rows

    def groups(self, racer: Racer, count: int) -> Iterator[list[str]]:
        """The slices that a racer gets at a time."""
        chosen = list(self.slices[:count])
        for start in range(0, len(chosen), racer.batch_size):
            yield chosen[start : start + racer.batch_size]

    def key(self, racer: Racer, names: Sequence[str], level: float) -> dict[str, Any]:
        """All that a part depends on, but the machine and the code: a new folder for another of these."""
        return {
            "format": FORMAT,
            "version": monai_lipcar.__version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "bundle": self.bundle,
            "weights": self.problems.weights(self.bundle),
            "alpha": self.alpha(level),
            "racer": racer.describe(),
            "level": level,
            "slices": list(names),
        }

    def _solve(self, racer: Racer, names: Sequence[str], level: float) -> dict[str, Row]:
        samples = self.problems.samples(names)
        problem = self.problems.problem(self.bundle, samples, level, self.alpha(level))
        trace = racer.solve(problem)
        gflop = passes_gflop(problem, trace.meter)
        rows: dict[str, Row] = {}
        for index, (name, sample) in enumerate(zip(names, samples, strict=True)):
            target, head = sample["high"], sample["head"] > 0.5
            metrics = study_metrics({"image": trace.image[index].cpu()}, target, head, pre=sample["pre"])["image"]
            rows[name] = {**row(trace, index), "gflop": gflop / len(names)}
            rows[name] |= {metric: float(metrics[metric]) for metric in METRICS if metric in metrics}
        return rows


def row(trace: Trace, index: int) -> Row:
    """What is known of one slice of a solve; times and passes of a batch are shared out evenly among its slices."""
    meter, size = trace.meter, len(trace.image)
    return {
        "objective": trace.objective[index],
        "evaluations": trace.evaluations,
        "seconds": [value / size for value in trace.seconds],
        "status": trace.status[index],
        "steps": trace.steps[index],
        "total_seconds": meter.seconds / size,
        "inside_seconds": meter.inside / size,
        "cpu_seconds": meter.cpu_seconds / size,
        "forwards": meter.forward_slices / size,
        "backwards": meter.backward_slices / size,
    }
