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
"""The race of the solvers: the published one, the proximal one, and deepinv's, on the shipped operators.

    python benchmarks/solver.py --output runs/solver

Simulates six studies that no training has seen, takes 24 of their slices (256x256) with no noise and with noise 0.033
added to the low dose, and lets every solver minimize the same objective from the same start: the first bundle's on all
slices, others' and with deepinv on the first few. Evaluations of the network and the time in it are measured at the
network; the proximal map alone is timed with what solves ask it for. What is finished is kept in the output folder, so
that an interrupted run goes on where it was; a new folder starts anew. Writes ``benchmarks/results/solver.json`` and
``docs/images/solver.png``, which ``docs/solvers.md`` shows after ``benchmarks/publish.py``. deepinv takes part where it
is installed; that page says how.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # run as a script, too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, which reads it when it is loaded

import torch  # noqa: E402

import monai_lipcar  # noqa: E402
from benchmarks.paper.parts import Parts  # noqa: E402
from benchmarks.race import figure, machine, maps, memory  # noqa: E402
from benchmarks.race.command import command_line  # noqa: E402
from benchmarks.race.peer import load_deepinv, peer_racers  # noqa: E402
from benchmarks.race.problems import Problems  # noqa: E402
from benchmarks.race.racers import Racer, own_racers  # noqa: E402
from benchmarks.race.run import LEVELS, Race, Row  # noqa: E402
from benchmarks.race.summary import ADAM, FREE, against_adam, summarize  # noqa: E402
from monai_lipcar.data.atomic import write_json  # noqa: E402
from monai_lipcar.problem import ProximalSolver  # noqa: E402

MAP_SIDE = 128
logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = command_line(__doc__, logger, 24, ["ph2l_tv", "ph2l_gentv"], LEVELS)
    parser.add_argument("--further-slices", type=int, default=4, help="for each bundle but the first: Adam takes long")
    parser.add_argument("--peer-slices", type=int, default=2, help="that deepinv gets, which takes longer")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results" / "solver.json")
    parser.add_argument("--image", type=Path, default=REPOSITORY / "docs" / "images" / "solver.png")
    chosen = parser.parse_args(arguments)
    run(chosen, Problems(chosen.output.resolve(), chosen.slices))


def run(chosen: argparse.Namespace, problems: Problems) -> dict[str, Any]:
    """Race on these problems, and write what was found."""
    deepinv = load_deepinv()
    if deepinv is None:
        logger.warning("deepinv is not installed: the race is without it (docs/solvers.md says how to install it)")
    rate = machine.matrix_product_rate()
    content: dict[str, Any] = {
        "machine": {**machine.describe(), "matrix_product_gflops": rate},
        "version": monai_lipcar.__version__,
        "deepinv": None if deepinv is None else deepinv.__version__,
        "slices": problems.names,
        "batch_size": chosen.batch_size,
        "weights": {},
        "alpha": {},
        "problems": {},
        "against_adam": {},
        "peak_mib": {},
        "proximal_map": [],
    }
    races: dict[str, dict[str, dict[str, Row]]] = {}
    for bundle in chosen.bundles:
        slices = len(problems.names) if bundle == chosen.bundles[0] else chosen.further_slices
        racers: list[tuple[Racer, int]] = [(racer, slices) for racer in own_racers(chosen.batch_size)]
        if deepinv is not None and not bundle.endswith("gentv"):  # it has no generalized total variation
            peers = peer_racers(deepinv, problems.gain(bundle))
            racers += [(racer, min(chosen.peer_slices, slices)) for racer in peers]
        race = Race(problems, bundle, racers, Parts(chosen.output / "parts"))
        sample = problems.problem(bundle, problems.samples(problems.names[: chosen.batch_size]), 0.0)
        content["weights"] |= problems.weights(bundle)
        content["peak_mib"][bundle] = memory.measure(bundle, sample, [racer for racer, _ in racers])
        for level in chosen.levels:
            first = problems.problem(bundle, problems.samples(problems.names[:1]), level)
            calls = maps.maps_of_solve(f"`{bundle}`, noise {level:g}", first, MAP_SIDE, ProximalSolver())
            content["proximal_map"] += maps.compare(calls, deepinv)
            race.run(level)
            rows = {racer.name: race.rows(racer, count, level) for racer, count in racers}
            races[f"{bundle}, noise {level:g}"] = rows
            threads = torch.get_num_threads()
            content["alpha"].setdefault(bundle, {})[f"{level:g}"] = problems.alpha(bundle, level)
            content["problems"].setdefault(bundle, {})[f"{level:g}"] = {
                name: summarize(done, rows[ADAM], threads, rate, name in FREE) for name, done in rows.items()
            }
            content["against_adam"].setdefault(bundle, {})[f"{level:g}"] = against_adam(rows)
            chosen.results.parent.mkdir(parents=True, exist_ok=True)
            write_json(chosen.results, rounded(content))
            figure.draw(races, chosen.image)
            show(bundle, level, content)
    for row in content["proximal_map"]:
        logger.info("proximal map: %s", rounded(row))
    return content


def show(bundle: str, level: float, content: Mapping[str, Any]) -> None:
    """Log what was found at one noise level."""
    for racer, row in content["problems"][bundle][f"{level:g}"].items():
        logger.info("%s, noise %g, %s: %s", bundle, level, racer, json.dumps(rounded(row)))
    found = rounded(content["against_adam"][bundle][f"{level:g}"])
    logger.info("%s, noise %g, against Adam: %s", bundle, level, json.dumps(found))


def rounded(content: Any) -> Any:
    """The same with numbers of four digits."""
    if isinstance(content, dict):
        return {name: rounded(value) for name, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return float(f"{content:.4g}") if isinstance(content, float) else content


if __name__ == "__main__":
    main()
