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
"""Where the log goes, and what the libraries underneath say that is of no use to the user."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import datetime, timezone
from pathlib import Path

from monai_lipcar.errors import ConfigurationError

__all__ = ["log_file", "log_to", "quiet_libraries", "quiet_readers"]


class _JsonLines(logging.Formatter):
    """A JSON object a line: time (UTC), level, logger, message, and the study where the record is about one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        content = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        if (study := _study_of(record)) is not None:
            content["study"] = study
        return json.dumps({**content, "message": record.getMessage()})


def _study_of(record: logging.LogRecord) -> str | None:
    """The study that a record is about: as it says itself, or as its message begins."""
    study = getattr(record, "study", None)
    if study is None and str(record.msg).startswith("study %s") and isinstance(record.args, tuple) and record.args:
        study = record.args[0]
    return None if study in (None, "-") else str(study)


def log_to(file: Path) -> None:
    """Append all that is logged from now on to a file, a JSON object a line; several processes may.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the log file {file} cannot be written ({error.strerror}); choose another") from error
    handler.setFormatter(_JsonLines())
    logging.getLogger().addHandler(handler)


def log_file() -> Path | None:
    """Where :func:`log_to` sends the log of this process, or None."""
    handlers = logging.getLogger().handlers
    ours = [one for one in handlers if isinstance(one, logging.FileHandler) and isinstance(one.formatter, _JsonLines)]
    return Path(ours[-1].baseFilename) if ours else None


def quiet_readers() -> None:
    """Leave out what readers of DICOM say beside their errors.

    MONAI warns, for every file that cannot be read, that its GPU decoder is not installed. pydicom quotes values that
    are not as the standard wants them, and a value may be a patient's name.
    """
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*nvImageCodec decoder plugin")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def quiet_libraries() -> None:
    """Leave the terminal to this package: no start and end of ignite's engines, no notes of MONAI's bundle reader."""
    quiet_readers()
    logging.getLogger("ignite").setLevel(logging.WARNING)
    # a filter, because MONAI sets the level of its loggers, whose handler writes to standard output, on import
    logging.getLogger("monai.bundle.workflows").addFilter(lambda record: record.levelno >= logging.ERROR)
