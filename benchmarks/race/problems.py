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
"""What is raced on: the inverse problems of the shipped bundles, on slices that no training has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch

from monai_lipcar.problem import LearnedInverseProblem, TotalVariation, operator_gain

from ..paper import cohort as cohorts
from ..paper.alphas import scheduled
from ..paper.approaches import APPROACHES, Networks
from ..paper.protocols import FREE_DENOISER, Protocol
from ..paper.settings import Cohort, Settings, full
from ..paper.slices import Sample, Slices, load_sections

__all__ = ["BUNDLES", "Problems", "forward_operator"]

BUNDLES = {APPROACHES[name].bundle: name for name in ("lip_ph2l_tv", "lip_h2l_tv", "lip_ph2l_gentv", "physics_tv")}
"""Bundle to the approach's name in the reproduction of the paper."""
PLAIN = Protocol("hospital", "low")
"""Noise on the low dose as it is."""


def forward_operator(bundle: str) -> str:
    """Name of the operator that a bundle inverts: of a network, or the bundle's own where nothing is learned."""
    approach = APPROACHES[BUNDLES[bundle]]
    return approach.networks[0] if approach.networks else bundle


class Problems:
    """Slices of simulated studies (256x256; half rats, half human heads), and the inverse problems on them.

    Args:
        output: folder of the cohorts and of the preprocessed slices.
        slices: how many.
        device: torch device.
        anatomy_options: by anatomy, for smaller cohorts.
    """

    def __init__(
        self,
        output: Path,
        slices: int,
        device: str = "cpu",
        anatomy_options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        options = {"rat": {}, "mni152": {"shape": (256, 256, 24)}} if anatomy_options is None else anatomy_options
        share, rest = divmod(slices, len(options))
        made = tuple(
            Cohort(anatomy, 3, 2, 1, share + (index < rest), anatomy_options=given)
            for index, (anatomy, given) in enumerate(options.items())
        )
        # the seed is the paper's test cohort's: no training of the shipped weights used it
        self.settings: Settings = replace(full(output, device=device), cohorts=made)
        self.networks = Networks(self.settings)
        sections = [
            load_sections(cohort, cohorts.write(cohort, self.settings), self.settings, FREE_DENOISER) for cohort in made
        ]
        self.sources: list[Slices] = [some[name] for some in sections for name in ("test", "validation")]
        # in turns, so that the first few are of every anatomy
        self.names = _in_turns(some["test"].names for some in sections)
        self.validation_names = _in_turns(some["validation"].names for some in sections)

    def samples(self, names: Sequence[str]) -> list[Sample]:
        """Some of the slices."""
        found: dict[str, Sample] = {}
        for source in self.sources:
            own = [name for name in names if name in source.names]
            found |= dict(zip(own, source.load(own), strict=True))
        return [found[name] for name in names]

    def alpha(self, bundle: str, level: float) -> float:
        """The bundle's default, which was chosen on validation studies, raised with the added noise as in the paper."""
        return scheduled(self.networks.default_alpha(bundle), level)

    def problem(
        self, bundle: str, samples: Sequence[Sample], level: float, alpha: float | None = None
    ) -> LearnedInverseProblem:
        """The bundle's inverse problem of some slices, at a level of added noise; with :meth:`alpha` by default."""
        approach = APPROACHES[BUNDLES[bundle]]
        device = torch.device(self.settings.device)
        observed = torch.stack([PLAIN.observe(sample, level, self.settings.seed) for sample in samples]).to(device)
        pre = torch.stack([sample["pre"] for sample in samples]).to(device)
        prior = TotalVariation()
        if approach.guess == "pre":
            prior = prior.around(pre)
        elif approach.guess is not None:
            with torch.no_grad():
                prior = prior.around(self.networks.operator(approach.guess)(torch.cat([pre, observed], dim=1)))
        forward = forward_operator(bundle)
        operator = self.networks.operator(forward)
        chosen = self.alpha(bundle, level) if alpha is None else alpha
        return LearnedInverseProblem(operator, observed, prior, chosen, None if forward == "h2l" else pre)

    def gain(self, bundle: str) -> float:
        """Largest eigenvalue of J^T J of the bundle's operator, at the first slice's full dose."""
        sample = self.samples(self.names[:1])[0]
        forward = forward_operator(bundle)
        members = ("high",) if forward == "h2l" else ("pre", "high")
        inputs = torch.cat([sample[member] for member in members])[None].to(self.settings.device)
        return float(operator_gain(self.networks.operator(forward), inputs))

    def weights(self, bundle: str) -> dict[str, str]:
        """Checksums of the networks of a bundle."""
        return {name: self.networks.sha256(name) for name in APPROACHES[BUNDLES[bundle]].networks}


def _in_turns(names: Iterable[Sequence[str]]) -> list[str]:
    return [name for name in chain.from_iterable(zip_longest(*names)) if name is not None]
