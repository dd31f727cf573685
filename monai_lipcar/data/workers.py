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
"""Processes that share work: how many cores there are for them, and what each has to do first."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process

__all__ = ["available_cores", "end_with_parent"]


def available_cores() -> int:
    """Processor cores that this process may use: in a job of a cluster, say, fewer than the machine has.

    Example:
        >>> available_cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this worker end when the process that started it is gone, however that ended.

    A killed process cannot tell its workers, which would go on writing into a folder that is thought to be free.
    """
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)  # what is half written is under its partial name, which the next run removes

    threading.Thread(target=wait, daemon=True).start()
