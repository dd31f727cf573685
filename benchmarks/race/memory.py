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
"""Peak memory of one racer's solve, in a process of its own: ``python -m benchmarks.race.memory BUNDLE FILE RACER``.

FILE holds the tensors ``pre`` and ``observed`` (B, 1, H, W). Memory does not grow with the iterations, so few are done.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from monai_lipcar.problem import LearnedInverseProblem, TotalVariation

from ..paper.approaches import Networks
from ..paper.settings import full
from .machine import own_peak, peak_memory
from .peer import load_deepinv, peer_racers
from .problems import BUNDLES, forward_operator
from .racers import Racer, own_racers

__all__ = ["measure"]

STEPS = 3


def measure(bundle: str, problem: LearnedInverseProblem, racers: Sequence[Racer]) -> dict[str, float]:
    """MiB that a process had at most until a solve began (``"start"``), and until the end of each racer's.

    Args:
        bundle: whose operator it is.
        problem: with at least as many slices as a racer takes at a time.
        racers: who solves it.
    """
    with TemporaryDirectory() as folder:

        def peak(racer: Racer, *more: str) -> float:
            file, count = Path(folder) / "problem.pt", racer.batch_size
            pre = problem.observed if problem.pre is None else problem.pre
            torch.save({"pre": pre[:count].cpu(), "observed": problem.observed[:count].cpu()}, file)
            return peak_memory(["-m", "benchmarks.race.memory", bundle, str(file), racer.name, *more])

        return {"start": peak(racers[0], "--start"), **{racer.name: peak(racer) for racer in racers}}


def main() -> None:
    """Run it."""
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", choices=list(BUNDLES))
    parser.add_argument("file", type=Path)
    parser.add_argument("racer")
    parser.add_argument("--start", action="store_true", help="do not solve")
    arguments = parser.parse_args()
    tensors = torch.load(arguments.file, weights_only=True)
    pre, observed = tensors["pre"], tensors["observed"]
    networks = Networks(full(arguments.file.parent))
    forward = forward_operator(arguments.bundle)
    problem = LearnedInverseProblem(
        networks.operator(forward), observed, TotalVariation(), 1e-3, None if forward == "h2l" else pre
    )
    deepinv = load_deepinv()
    own = own_racers(len(observed))
    for candidate in own:
        candidate.solver.max_iterations = STEPS
    racers: list[Racer] = [*own, *([] if deepinv is None else peer_racers(deepinv, 1.0, STEPS))]
    racer = next(racer for racer in racers if racer.name == arguments.racer)
    if not arguments.start:
        racer.solve(problem)
    sys.stdout.write(json.dumps({"peak_mib": own_peak()}) + "\n")


if __name__ == "__main__":
    main()
