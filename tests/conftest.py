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
"""What the tests of the command line share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from monai_lipcar import cli
from monai_lipcar.data.phantom import write_cohort

REPOSITORY = Path(__file__).resolve().parents[1]

# imports once, and forks a process for each run: it is a new one as far as the package is concerned
PARENT = """
import ctypes, json, os, signal, sys, time
import itk, matplotlib, monai.bundle, monai.engines
import monai_lipcar.bundle, monai_lipcar.dicom, monai_lipcar.engines, monai_lipcar.handlers, monai_lipcar.report
from monai_lipcar import cli

def may_not_read_everything():
    libc, header, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what root has in addition
    libc.capset(header, data)

for line in sys.stdin:
    order = json.loads(line)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        log, code = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1
        os.dup2(log, 1), os.dup2(log, 2)
        if order["humble"]:
            may_not_read_everything()
        sys.argv = ["monai_lipcar", *order["arguments"]]
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    status = None
    while status is None:
        ended, value = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(value)
        elif order["kill_after"] is not None and time.monotonic() - started > order["kill_after"]:
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            time.sleep(0.001)
    print(json.dumps([status, time.monotonic() - started]), flush=True)
"""
Run = Callable[..., tuple[int, float, str]]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """``python -m monai_lipcar``, in this process, from a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["monai_lipcar", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one small study."""
    folder = tmp_path_factory.mktemp("cohort")
    options = {"shape": (64, 64, 4)}
    write_cohort(folder, "random", 1, seed=5, tumor_free_fraction=0.0, anatomy_options=options, progress=False)
    return folder


@pytest.fixture
def dataset(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the dataset."""
    return Path(shutil.copytree(cohort, tmp_path / "data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """``python -m monai_lipcar ARGUMENTS``; its exit status, seconds and log."""
    log = tmp_path_factory.mktemp("log") / "log"
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def start(*arguments: object, kill_after: float | None = None, humble: bool = False) -> tuple[int, float, str]:
        assert parent.stdin is not None
        assert parent.stdout is not None
        log.unlink(missing_ok=True)
        order: dict[str, Any] = {"arguments": [*map(str, arguments)], "log": str(log)}
        parent.stdin.write(json.dumps(order | {"kill_after": kill_after, "humble": humble}) + "\n")
        parent.stdin.flush()
        status, seconds = json.loads(parent.stdout.readline())
        return status, seconds, log.read_text()

    yield start
    parent.communicate()
