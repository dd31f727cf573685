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
"""Several processes that share the studies of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from monai_lipcar.bundle import run_workflow
from monai_lipcar.data.workers import available_cores, end_with_parent
from monai_lipcar.errors import LipcarError, StudyError
from monai_lipcar.log import log_file, log_to, quiet_libraries

__all__ = ["compute_share", "run_in_workers"]

logger = logging.getLogger(__name__)


@contextmanager
def run_in_workers(
    workers: int,
    name: str,
    dataset_dir: str | Path,
    output_dir: str | Path,
    config: str,
    overrides: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Let processes compute the studies of a run, each every n-th one; within, finish the run in this one.

    What is left to do is the run itself, told what the workers have done: it computes what a worker that died has left,
    and writes what concerns all studies.

    A worker has its share of the processor cores. So does this process, meanwhile: how many threads compute may decide
    the last digits.

    Args:
        workers: processes, at least 2.
        name, dataset_dir, output_dir, config, overrides: see :func:`~monai_lipcar.bundle.run_studies`.

    Yields:
        Further overrides for the run: which studies the workers have done, and why others failed.
    """
    import torch

    threads = max(available_cores() // workers, 1)
    context = get_context("spawn")  # not forked: a fork of a process with running torch threads can hang
    log = (logging.getLogger().getEffectiveLevel(), log_file())
    running = []
    finished: list[str] = []
    failed: list[StudyError] = []
    before = torch.get_num_threads()
    try:
        for number in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            run = ((number, workers), name, dataset_dir, output_dir, config, overrides)
            process = context.Process(target=_work, args=(theirs, threads, log, *run), daemon=True)
            process.start()
            theirs.close()
            running.append((process, ours))
        for process, ours in running:
            try:
                done, errors = ours.recv()
            except EOFError:  # it ended without a word
                process.join()
                message = "a worker ended before its work was done (exit status %s); what it left is done now"
                logger.warning(message, process.exitcode)
            else:
                finished += done
                failed += errors
                process.join()
        torch.set_num_threads(threads)
        yield {"writer::finished": finished, "writer::failed": failed}
    finally:
        torch.set_num_threads(before)
        for process, ours in running:
            process.kill()
            process.join()
            ours.close()


def compute_share(
    share: tuple[int, int],
    name: str,
    dataset_dir: str | Path,
    output_dir: str | Path,
    config: str,
    overrides: Mapping[str, Any],
) -> tuple[list[str], list[StudyError]]:
    """Compute, in this process, the studies of a run that are its share.

    Args:
        share: ``(k, n)``: every n-th study from the k-th on.
        name, dataset_dir, output_dir, config, overrides: see :func:`~monai_lipcar.bundle.run_studies`.

    Returns:
        Ids of the studies that have a result, and errors of those that failed. Nothing where the run is refused as a
        whole: whoever finishes it finds the same.
    """
    try:
        _, writer = run_workflow(name, dataset_dir, output_dir, config, **overrides, **{"writer::share": [*share]})
    except LipcarError as error:
        logger.debug("share %d of %d: %s", *share, error)
        return [], []
    return ([], []) if writer is None else ([*writer.finished, *writer.skipped], writer.failures)


def _work(connection: Connection, threads: int, log: tuple[int, Path | None], *run: Any) -> None:
    import torch

    end_with_parent()
    level, file = log
    logging.basicConfig(level=level, format="%(message)s")
    if file is not None:
        log_to(file)
    quiet_libraries()
    torch.set_num_threads(threads)
    connection.send(compute_share(*run))
