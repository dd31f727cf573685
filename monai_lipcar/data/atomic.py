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
"""Files and folders that are there whole or not at all, and small files that are read without trust."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["new_folder", "read_json", "replacing", "write_json", "write_text"]


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
    with replacing(file, shared=True) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


@contextmanager
def replacing(file: Path, shared: bool = False) -> Iterator[Path]:
    """A hidden file beside another one, to write to: at the end it takes the other one's place, in one step.

    On the way out of the context by an error the hidden file goes, and an older file stays. The hidden file's name
    ends like the other one's, since endings decide how volumes, figures and arrays are encoded. A link of its name is
    removed, not followed, and so is what a killed run left there.

    Args:
        file: what is to be written, in a folder that is there.
        shared: several processes may write the same file: each writes to a hidden file of its own, and the last one
            stays. What a killed process leaves of it is then not removed by the next.

    Yields:
        The hidden file; it is not there yet.

    Raises:
        OSError: the folder is not there, or its files cannot be replaced.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "report.txt") as partial:
        ...         _ = partial.write_text("all is well")
        ...         print(partial.name)
        ...     print(*os.listdir(folder))
        .partial-report.txt
        report.txt
    """
    own = f"{uuid.uuid4().hex}-" if shared else ""
    partial = file.with_name(f".partial-{own}{file.name}")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        os.replace(partial, file)
    finally:
        with suppress(OSError):  # what happened before matters more
            partial.unlink()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the place of a new one, to write to: at the end it goes there, in one step.

    On the way out of the context by an error the hidden folder goes. A link of its name is removed, not followed, and
    so is what a killed run left there.

    Args:
        folder: the new folder. One that is there already and is not empty is not replaced: remove it within.

    Yields:
        The hidden folder, which is there and empty.

    Raises:
        OSError: the folder cannot be made.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    with suppress(OSError):
        partial.unlink()
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
