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
"""What is kept from the terminal, and what is not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.log import _JsonLines, log_file, log_to, quiet_readers


def test_readers_do_not_advertise_a_decoder(caplog: pytest.LogCaptureFixture) -> None:
    from monai.transforms import LoadImage

    with warnings.catch_warnings():
        quiet_readers()
        warnings.filterwarnings("error", message=".*nvImageCodec")
        quiet_readers()
        LoadImage()
    assert "nvImageCodec" not in caplog.text


def test_standard_output_is_left_to_the_results() -> None:
    program = (
        "import logging, sys\n"
        "from monai_lipcar.log import quiet_libraries\n"
        "quiet_libraries()\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "from monai.bundle import ConfigWorkflow\n"  # sets up MONAI's loggers
        "ConfigWorkflow(config_file=None, logging_file=False)\n"
        "logging.getLogger('ignite.engine').info('started')\n"
        "logging.getLogger('monai.bundle.workflows').error('an error')\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    assert "Logging file" not in process.stdout + process.stderr
    assert "started" not in process.stderr
    assert "an error" in process.stdout + process.stderr
    assert logging.getLogger("monai_lipcar").level == logging.NOTSET  # this package's own is not touched


def test_a_log_for_programs(tmp_path: Path) -> None:
    assert log_file() is None
    root = logging.getLogger()
    before = [*root.handlers]
    try:
        for _ in range(2):  # as two processes would
            log_to(tmp_path / "logs" / "run.jsonl")
            assert log_file() == tmp_path / "logs" / "run.jsonl"
            logging.getLogger("a.b").warning("study %s:\nnot good", "x", extra={"study": "x"})
            root.handlers = [*before]
        with pytest.raises(ConfigurationError, match="the log file .* cannot be written .*; choose another"):
            log_to(tmp_path / "logs")
    finally:
        root.handlers = before
    lines = (tmp_path / "logs" / "run.jsonl").read_text().splitlines()
    assert len(lines) == 2
    record = json.loads(lines[1])
    assert record.pop("time").endswith("+00:00")
    assert record == {"level": "warning", "logger": "a.b", "study": "x", "message": "study x:\nnot good"}


@pytest.mark.parametrize(
    ("message", "arguments", "study"),
    [
        ("study %s: %s is %s", ("a", "low", "series 3"), "a"),
        ("%d of %d studies", (1, 2), None),
        ("study %s: no slice", ("-",), None),
        ("study %s is named in the text", (), None),
    ],
)
def test_the_study_of_a_message(message: str, arguments: tuple[object, ...], study: str | None) -> None:
    record = logging.LogRecord("a.b", logging.INFO, __file__, 1, message, arguments, None)
    assert json.loads(_JsonLines().format(record)).get("study") == study
