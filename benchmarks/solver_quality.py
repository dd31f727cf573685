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
"""Are the proximal solver's images as good as those of the published solver? At an alpha validated for the purpose.

    python benchmarks/solver_quality.py --output runs/solver

On the slices of the race (``benchmarks/solver.py``; the folder of a race can be used again): for each noise level, the
alpha whose images have the highest PSNR over the head on slices of validation studies, each solver its own: the best of
some multiples of the scheduled one with the proximal solver, from there in steps of the square root of 2 to the maximum
of the solver, and between these to that of the parabola through the best three; then both solvers, with these, on the
test slices. Writes
``benchmarks/results/solver_quality.json``, which ``docs/solvers.md`` shows after ``benchmarks/publish.py``, as soon as
there is something to show and again after every step. Some slices are done for all bundles and levels before the next
ones, so that a run that is stopped has fewer slices, not fewer levels; started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # run as a script, too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, which reads it when it is loaded

import torch  # noqa: E402

import monai_lipcar  # noqa: E402
from benchmarks.paper.parts import Parts  # noqa: E402
from benchmarks.race.command import command_line  # noqa: E402
from benchmarks.race.problems import Problems  # noqa: E402
from benchmarks.race.racers import Racer, own_racers  # noqa: E402
from benchmarks.race.run import Race, Row  # noqa: E402
from benchmarks.race.summary import BATCHED, PROXIMAL  # noqa: E402
from benchmarks.solver import rounded  # noqa: E402
from monai_lipcar.data.atomic import write_json  # noqa: E402

FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Of the scheduled alpha, to choose from."""
FINE = 2**0.5
"""Factor between the alphas that each solver tries around the best of these."""
FURTHEST = 4
"""Of these steps, from there."""
LEVELS = (0.0, 0.033, 0.066)
METRICS = ("psnr_head", "ssim_head")
KEYS = {"adam": BATCHED, "proximal": PROXIMAL}
logger = logging.getLogger(__name__)


def validated(
    problems: Problems, bundle: str, level: float, racers: Mapping[str, Racer], names: Sequence[str], parts: Parts
) -> Any:
    """The best alpha of each solver on some slices, and the PSNR of each that was tried."""

    def psnr(racer: Racer, alpha: float) -> float:
        race = Race(problems, bundle, [(racer, len(names))], parts, names, alpha)
        race.run(level)
        return statistics.fmean(row["psnr_head"] for row in race.rows(racer, len(names), level).values())

    scheduled = problems.alpha(bundle, level)
    coarse = {factor * scheduled: psnr(racers[PROXIMAL], factor * scheduled) for factor in FACTORS}
    middle = max(coarse, key=coarse.__getitem__)
    found: dict[str, Any] = {}
    for key, name in KEYS.items():
        position, tried = maximum(lambda step, racer=racers[name]: psnr(racer, middle * FINE**step))  # type: ignore[misc]
        found[f"alpha_{key}"] = middle * FINE**position
        values = {middle * FINE**step: value for step, value in tried.items()}
        found[f"validation_psnr_head_{key}"] = {f"{alpha:.3g}": values[alpha] for alpha in sorted(values)}
    return found


def maximum(function: Callable[[int], float]) -> tuple[float, dict[int, float]]:
    """Where a function on the integers around 0 has its maximum, between them by a parabola; and what was looked at.

    Example:
        >>> place, tried = maximum(lambda step: -((step - 1.25) ** 2))
        >>> place, sorted(tried)
        (1.25, [-1, 0, 1, 2])
    """
    tried = {step: function(step) for step in (0, -1, 1)}  # of equals, the middle
    while abs(best := max(tried, key=tried.__getitem__)) < FURTHEST and not {best - 1, best + 1} <= tried.keys():
        step = best - 1 if best - 1 not in tried else best + 1
        tried[step] = function(step)
    left, top, right = tried.get(best - 1, -math.inf), tried[best], tried.get(best + 1, -math.inf)
    bend = 2 * top - left - right
    return best + (0.5 * (right - left) / bend if 0 < bend < math.inf else 0.0), tried


def compare(adam: Mapping[str, Row], proximal: Mapping[str, Row]) -> dict[str, Any]:
    """Means of both over the slices that both have, and their differences: proximal less Adam, mean and least."""
    names = [name for name in adam if name in proximal]
    result: dict[str, Any] = {"slices": names}
    for metric in METRICS:
        for key, rows in (("adam", adam), ("proximal", proximal)):
            result[f"{metric}_{key}"] = statistics.fmean(rows[name][metric] for name in names)
        differences = [proximal[name][metric] - adam[name][metric] for name in names]
        result |= {f"{metric}_difference": statistics.fmean(differences), f"{metric}_least": min(differences)}
    result["objective_over_adam"] = statistics.median(
        proximal[name]["objective"][-1] / adam[name]["objective"][-1] for name in names
    )
    result["evaluations"] = statistics.median(proximal[name]["steps"] for name in names)
    result["converged"] = sum(proximal[name]["status"] == "converged" for name in names) / len(names)
    return result


def run(chosen: argparse.Namespace, problems: Problems) -> dict[str, Any]:
    """Choose, solve and compare, and write what was found beside what the file has of other bundles."""
    parts = Parts(chosen.output / "parts")
    racers = {racer.name: racer for racer in own_racers(chosen.batch_size) if racer.name in (BATCHED, PROXIMAL)}
    validation = problems.validation_names[: chosen.validation_slices]
    rows: dict[tuple[str, float, str], dict[str, Row]] = {}
    content = json.loads(chosen.results.read_text(encoding="utf-8")) if chosen.results.is_file() else {}
    content["versions"] = {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__}
    found: dict[str, dict[str, Any]] = {
        bundle: {"weights": problems.weights(bundle), "validation_slices": validation, "levels": {}}
        for bundle in chosen.bundles
    }
    for start in range(0, len(problems.names), chosen.batch_size):
        names = problems.names[start : start + chosen.batch_size]
        for bundle, level in itertools.product(chosen.bundles, chosen.levels):
            entry = found[bundle]["levels"].setdefault(f"{level:g}", {})
            if not entry:
                entry |= validated(problems, bundle, level, racers, validation, parts)
            for key, name in KEYS.items():
                race = Race(problems, bundle, [(racers[name], len(names))], parts, names, entry[f"alpha_{key}"])
                race.run(level)
                rows.setdefault((bundle, level, name), {}).update(race.rows(racers[name], len(names), level))
            entry |= compare(rows[bundle, level, BATCHED], rows[bundle, level, PROXIMAL])
            content.setdefault("bundles", {})[bundle] = found[bundle]
            write_json(chosen.results, rounded(content))
            logger.info("%s, noise %g: %s", bundle, level, json.dumps(rounded(entry)))
    return content


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = command_line(__doc__, logger, 8, ["physics_tv", "ph2l_tv", "ph2l_gentv"], LEVELS)
    parser.add_argument("--validation-slices", type=int, default=4, help="that alpha is chosen on")
    results = REPOSITORY / "benchmarks" / "results" / "solver_quality.json"
    parser.add_argument("--results", type=Path, default=results)
    chosen = parser.parse_args(arguments)
    run(chosen, Problems(chosen.output.resolve(), chosen.slices))


if __name__ == "__main__":
    main()
