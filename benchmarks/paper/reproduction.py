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
"""The stages of a reproduction, from cohorts to the report."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import zlib
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from monai_lipcar.data.atomic import write_text
from monai_lipcar.errors import LipcarError

from . import cohort, figures, page, tables, theory
from .approaches import OPERATORS, Networks
from .cohort import Split
from .evaluation import ROWS, Evaluator
from .plan import Plan, Task
from .protocols import protocols
from .settings import RESULTS, Settings
from .slices import Slices, load_sections

__all__ = ["Reproduction", "place", "share_of", "to_json", "write_cohorts"]

logger = logging.getLogger(__name__)
PACKAGES = ("monai_lipcar", "torch", "monai", "numpy", "scikit-image", "bm3d")


def write_cohorts(settings: Settings) -> dict[str, Split]:
    """Write what is missing of all cohorts; returns their splits."""
    return {entry.anatomy: cohort.write(entry, settings) for entry in settings.cohorts}


def place(settings: Settings, denoiser: str) -> Settings:
    """The same settings, or those beside what is published where that has another denoiser: its page speaks of it."""
    if _published_denoiser(settings) in (None, denoiser):
        return settings
    logger.warning(
        "the published numbers have another denoiser and stay: results, page and figures of this run are in %s",
        settings.output,
    )
    return settings.beside()


def _published_denoiser(settings: Settings) -> str | None:
    file = settings.results / RESULTS
    return json.loads(file.read_text(encoding="utf-8"))["denoiser"] if file.is_file() else None


class Reproduction:
    """One reproduction with its slices, networks and plan.

    Args:
        settings: what is computed.
        splits: of the cohorts.
        denoiser: of the paper's protocol.
        hospital_denoiser: of the hospital's protocol.
    """

    def __init__(
        self, settings: Settings, splits: dict[str, Split], denoiser: str, hospital_denoiser: str | None = None
    ) -> None:
        self.settings = settings
        self.denoiser = denoiser
        self.slices: dict[str, dict[str, Slices]] = {
            entry.anatomy: load_sections(entry, splits[entry.anatomy], settings, denoiser) for entry in settings.cohorts
        }
        self.splits = splits
        self.networks = Networks(settings)
        self.evaluator = Evaluator(settings, self.networks, self.slices, denoiser)
        if settings.go_on:
            self.evaluator.check_published()
        self.plan = Plan(self.evaluator, protocols(denoiser, hospital_denoiser, settings.output / "denoised"))

    def evaluate(self, share: int = 0, shares: int = 1) -> None:
        """Compute what is missing, most important first.

        Args:
            share: which share of the work is done here, from 0.
            shares: how many processes there are; each job is in the share of one of them. Alphas are chosen from
                what all of them have finished: at the end, run once more.
        """
        for title, tasks in self.plan.steps():
            self._run(share_of(tasks, share, shares), title)

    def theory(self) -> None:
        """Compute what is missing of the theory."""
        theory.run(self.evaluator, *self._theory_slice())

    def report(self) -> None:
        """Write results, figures and page from what is finished.

        Raises:
            LipcarError: what is published there was made with another denoiser.
        """
        published = _published_denoiser(self.settings)
        if published not in (None, self.denoiser):
            raise LipcarError(
                f"{self.settings.results / RESULTS} was made with the denoiser {published}, this run has "
                f"{self.denoiser}: it would replace numbers that it cannot be compared with"
            )
        content = self.content()
        folder = self.settings.results
        write_text(folder / RESULTS, to_json(content))
        write_text(folder / "paper.csv", tables.to_csv(content))
        self.evaluator.parts.publish(folder / ROWS)
        drawn = figures.draw(self.plan, content)
        page.write(self.settings, content)
        cells = tables.cells(self.plan)
        measured = sum(cell["ours"] is not None for cell in cells)
        logger.info("%d of %d cells are measured: %s", measured, len(cells), folder / RESULTS)
        logger.info("%d figures: %s; page: %s", len(drawn), self.settings.images, self.settings.page)

    def content(self) -> dict[str, Any]:
        """What ``paper.json`` says."""
        settings = self.settings
        variants = [("none", OPERATORS)]
        if settings.weights == "paper":
            variants.append((self.denoiser, OPERATORS))
        return {
            "versions": {name: version for name in PACKAGES if (version := _version(name))},
            "seed": settings.seed,
            "weights": {
                "source": settings.weights,
                "sha256": {
                    f"{operator}-{variant}" if variant != "none" else operator: self.networks.sha256(operator, variant)
                    for variant, operators in variants
                    for operator in operators
                },
            },
            "denoiser": self.denoiser,
            "protocols": {name: protocol.key() for name, protocol in self.plan.protocols.items()},
            "noise_levels": list(settings.levels),
            "cohorts": {anatomy: self._cohort(anatomy) for anatomy in self.slices},
            "cells": [
                cell for cell in tables.cells(self.plan) if cell["ours"] is not None or cell["paper"] is not None
            ],
            "theory": theory.run(self.evaluator, *self._theory_slice(), compute=False),
        }

    def _cohort(self, anatomy: str) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for section, slices in self.slices[anatomy].items():
            split = self.splits[anatomy]
            studies = [*split.training, *split.validation] if section == "training" else getattr(split, section)
            content[section] = {
                "studies": len(studies),
                "slices_written": slices.written,
                "slices_usable": slices.kept,
                "slices_used": len(slices),
            }
        return content

    def _theory_slice(self) -> tuple[str, str]:
        anatomy = self.settings.cohorts[0].anatomy
        return figures.example(self.plan, anatomy, tumor=True), anatomy

    def _run(self, tasks: list[Task], title: str) -> None:
        missing = [(task, self.evaluator.missing(task.job, task.names)) for task in tasks]
        seen: set[tuple[Any, str]] = set()
        total = 0.0
        for task, names in missing:
            new = [name for name in names if (task.job, name) not in seen]
            seen |= {(task.job, name) for name in new}
            total += len(new) * task.job.cost
        with tqdm(total=total + 1e-6, desc=title, unit="unit", bar_format=BAR, disable=not total) as bar:
            for task, _ in missing:
                self.evaluator.run(task.job, task.names, bar.update)


def share_of(tasks: Sequence[Task], share: int, shares: int) -> list[Task]:
    """The tasks of one of several processes: a job is in the same share whenever and wherever this is asked."""
    return [task for task in tasks if zlib.crc32(repr(task.job).encode()) % shares == share]


BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} to go"


def to_json(content: dict[str, Any]) -> str:
    """The content of ``paper.json``: a cell a line, so that two versions can be compared."""
    cells = [json.dumps({key: value for key, value in cell.items() if _said(key, value)}) for cell in content["cells"]]
    head = json.dumps({**content, "cells": "CELLS"}, indent=1)
    return head.replace('"CELLS"', "[\n  " + ",\n  ".join(cells) + "\n ]") + "\n"


def _said(key: str, value: Any) -> bool:
    return value is not None or key in ("ours", "paper")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
