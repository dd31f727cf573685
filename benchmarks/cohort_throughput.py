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
"""How many studies an hour, and how much memory: ``run`` over phantom studies, and what that makes of a thousand.

    python -m benchmarks.cohort_throughput --output OUT [--studies 20] [--bundle physics_tv]

Runs ``python -m monai_lipcar run``, reports and all, with one and with two worker processes, over one study and over
all of them. The run over one study tells what a run costs whatever it does; the difference tells what a study costs.
From these the time and the files of a cohort of 1,000 are extrapolated, along straight lines. Memory is another matter:
what it takes is that of the studies in work, and whether it grows with those that are done is seen over many studies
only. So it is extrapolated from runs over ``MANY`` small studies. Writes
``benchmarks/results/cohort_throughput.json``, which ``benchmarks/publish.py`` shows in ``docs/outputs.md``. A run that
is finished is not made again.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import monai_lipcar
from monai_lipcar.data.atomic import read_json, write_json
from monai_lipcar.data.output import RESULT_FILE
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.data.workers import available_cores

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "cohort_throughput.json"
COHORT = 1000
WORKERS = (1, 2)
MANY = (20, 120)
"""Studies of the two runs that tell whether memory grows."""
SMALL = {"shape": (64, 64, 4)}
LEAST_DONE = 0.9
"""Share of the studies with a result: of the small ones, whose structures are coarse, some look misregistered."""
MIB = 2**20

logger = logging.getLogger(__name__)


def memory_of(root: int) -> int:
    """Resident bytes of a process and its descendants; what several of them share counts for each."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
            except (OSError, ValueError):  # it ended meanwhile
                continue
    family, more = {root}, True
    while more:
        children = {child for child, parent in parents.items() if parent in family} - family
        family |= children
        more = bool(children)
    pages = 0
    for process in family:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(dataset: Path, out: Path, bundle: str, workers: int) -> dict[str, float]:
    """Run once; seconds, peak memory and the size of what was written."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "monai_lipcar", "run", str(dataset), str(out), "--bundle", bundle]
    command += ["--workers", str(workers), "--device", "cpu"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    started, peak = time.perf_counter(), 0
    with open(out.with_suffix(".log"), "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.1)
    seconds = time.perf_counter() - started
    studies, done = (
        len(list(folder.glob(f"*/{name}"))) for folder, name in ((dataset, "low.nii.gz"), (out, RESULT_FILE))
    )
    if process.returncode and done < LEAST_DONE * studies:
        raise SystemExit(f"the run ended with exit status {process.returncode}, see {out.with_suffix('.log')}")
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"seconds": round(seconds, 2), "peak_mib": round(peak / MIB, 1), "written_mib": round(written / MIB, 2)}


def extrapolated(one: dict[str, float], all_of_them: dict[str, float], studies: int, growth: float) -> dict[str, float]:
    """A study's cost from the runs over one and over several, and a cohort's from both.

    Args:
        one: seconds, peak memory and size of the run over one study.
        all_of_them: the same of the run over all studies.
        studies: how many these are.
        growth: memory that a study leaves behind, MiB.
    """
    seconds, written = ((all_of_them[name] - one[name]) / (studies - 1) for name in ("seconds", "written_mib"))
    return {
        "seconds_one": one["seconds"],
        "seconds_all": all_of_them["seconds"],
        "seconds_each": round(seconds, 3),
        "studies_per_hour": round(3600 / seconds, 1),
        "hours_cohort": round((one["seconds"] + (COHORT - 1) * seconds) / 3600, 2),
        "peak_mib_one": one["peak_mib"],
        "peak_mib_all": all_of_them["peak_mib"],
        "peak_mib_cohort": round(all_of_them["peak_mib"] + (COHORT - studies) * max(growth, 0.0), 0),
        "written_mib_each": round(written, 2),
        "written_gib_cohort": round((one["written_mib"] + (COHORT - 1) * written) / 1024, 1),
    }


def main() -> None:
    """Measure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the cohort and the runs")
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--anatomy", default="rat")
    parser.add_argument("--bundle", default="physics_tv")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.studies < 2:
        parser.error("at least 2 studies tell what one costs")
    cohort = arguments.output / f"{arguments.anatomy}-{arguments.studies}"
    single = arguments.output / f"{arguments.anatomy}-1"
    for folder, studies in ((cohort, arguments.studies), (single, 1)):
        write_cohort(folder, arguments.anatomy, studies, seed=17)
    many = [arguments.output / f"small-{studies}" for studies in MANY]
    for folder, studies in zip(many, MANY, strict=True):
        write_cohort(folder, "random", studies, seed=18, anatomy_options=SMALL)
    content: dict[str, Any] = {
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "machine": {"cores": available_cores(), "processor": platform.machine()},
        "bundle": arguments.bundle,
        "anatomy": arguments.anatomy,
        "studies": arguments.studies,
        "cohort": COHORT,
        "many": {"studies": MANY, "voxels": SMALL["shape"]},
        "workers": {},
    }
    for workers in WORKERS:
        runs = {}
        for dataset in (single, cohort, *many):
            file = arguments.output / f"{dataset.name}-{arguments.bundle}-workers-{workers}.json"
            if not file.is_file():
                logger.info("%s studies, %d workers", dataset.name.rpartition("-")[2], workers)
                write_json(file, measure(dataset, file.with_suffix(""), arguments.bundle, workers))
            runs[dataset] = read_json(file)
        few_mib, many_mib = (runs[dataset]["peak_mib"] for dataset in many)
        growth = (many_mib - few_mib) / (MANY[1] - MANY[0])
        row = extrapolated(runs[single], runs[cohort], arguments.studies, growth)
        content["workers"][str(workers)] = {**row, "growth_mib_each": round(growth, 3)}
        logger.info("%d workers: %s", workers, content["workers"][str(workers)])
    write_json(arguments.results, content, indent=1)


if __name__ == "__main__":
    main()
