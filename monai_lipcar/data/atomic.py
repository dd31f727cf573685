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
"""Small text files: written whole or not at all, and read without trust."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path
from typing import Any

__all__ = ["read_json", "write_json", "write_text"]


def read_json(file: Path) -> Any:
    """Read a JSON file, whatever it is.

    Args:
        file: where to read.

    Returns:
        Its content.

    Raises:
        OSError: there is none, or it is no file: reading from a named pipe would never end.
        ValueError: it is not JSON, not text, or nested too deeply.
    """
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(file))
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(file: Path, content: Any, indent: int = 2) -> None:
    """Write content as JSON, as :func:`write_text` writes text."""
    write_text(file, json.dumps(content, indent=indent) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a file, in place of an older one, in one step; its folder is made when missing.

    Several processes may write the same file: none sees half of it, and the last one stays.

    Args:
        file: where to write.
        text: what to write, encoded as UTF-8.

    Raises:
        OSError: when it cannot be written; an older file is then still there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
