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
"""Text files that are there whole or not at all."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data import atomic
from monai_lipcar.data.atomic import write_text


def test_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.json"
    write_text(file, "one")
    write_text(file, "zwei \u00fc")
    assert file.read_bytes() == "zwei \u00fc".encode()
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "file", "old")

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_several_processes_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")

    def write(letter: str) -> None:
        for _ in range(200):
            write_text(tmp_path / "file", 1000 * letter)
            content = (tmp_path / "file").read_text()
            assert len(content) == 1000
            assert len(set(content)) == 1

    pair = [processes.Process(target=write, args=(letter,)) for letter in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
