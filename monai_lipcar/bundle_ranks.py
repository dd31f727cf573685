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
"""Processes that ``torchrun`` starts, on one machine or on several, which share the studies of a run.

The first one does what the command line says. The others wait for it, and compute their share of its studies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from monai_lipcar.errors import LipcarError

__all__ = ["process_group", "processes", "run_in_ranks", "work_for_the_first"]

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=7)
"""How long a process waits for another, which may have the larger studies; one that is gone is noticed at once."""

_joined = False


@contextmanager
def process_group() -> Iterator[int]:
    """Join the other processes that ``torchrun`` has started, where it has.

    The first process ends the others' :func:`work_for_the_first` when it leaves, also by a known error or an exit.

    Yields:
        Rank of this process; 0 where it is the only one.
    """
    global _joined
    if any(name not in os.environ for name in _ENVIRONMENT) or os.environ["WORLD_SIZE"] == "1":
        yield 0
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():  # which of them "cuda" is
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # gloo on GPUs too: what is exchanged are orders and names
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    _joined = True
    try:
        yield distributed.get_rank()
    except (LipcarError, SystemExit):
        _leave()
        raise
    else:
        _leave()
    finally:
        _joined = False
        distributed.destroy_process_group()


def processes() -> int:
    """How many processes share the studies of a run: those of :func:`process_group`, or this one alone."""
    from torch import distributed

    return distributed.get_world_size() if _joined else 1


@contextmanager
def run_in_ranks(
    name: str, dataset_dir: str | Path, output_dir: str | Path, config: str, overrides: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """In the first process: let all compute the studies of a run; within, finish the run in this one.

    Like :func:`~monai_lipcar.bundle_workers.run_in_workers`, with the processes of :func:`process_group`.

    Args:
        name, dataset_dir, output_dir, config, overrides: see :func:`~monai_lipcar.bundle.run_studies`; paths are the
            same for all.

    Yields:
        Further overrides for the run: which studies are done, and why others failed.
    """
    from torch import distributed

    from monai_lipcar.bundle_workers import compute_share
    from monai_lipcar.log import log_file

    order = (log_file(), name, dataset_dir, output_dir, config, overrides)
    distributed.broadcast_object_list([order], src=0)
    share = compute_share((0, processes()), *order[1:])
    shares: list[Any] = [None] * processes()
    distributed.gather_object(share, shares, dst=0)
    yield {
        "writer::finished": [study for finished, _ in shares for study in finished],
        "writer::failed": [error for _, failed in shares for error in failed],
    }


def work_for_the_first() -> None:
    """In every other process: compute the share of each run that the first one begins, until it leaves."""
    from torch import distributed

    from monai_lipcar.bundle_workers import compute_share
    from monai_lipcar.log import log_file, log_to

    while True:
        received: list[Any] = [None]
        distributed.broadcast_object_list(received, src=0)
        if received[0] is None:
            return
        file, *run = received[0]
        if file is not None and log_file() is None:
            log_to(file)
        share = compute_share((distributed.get_rank(), processes()), *run)
        distributed.gather_object(share, dst=0)


def _leave() -> None:
    from torch import distributed

    if distributed.get_rank() == 0:
        distributed.broadcast_object_list([None], src=0)
    distributed.barrier()  # nobody hangs up on another
