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
"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.data import atomic
from monai_lipcar.data.atomic import new_folder, replacing, write_text


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


@pytest.mark.parametrize("shared", [False, True])
def test_the_hidden_file_ends_like_the_other_one(tmp_path: Path, shared: bool) -> None:
    file = tmp_path / "volume.nii.gz"
    file.write_text("old")
    with replacing(file, shared) as partial:
        assert partial.parent == tmp_path
        assert partial.name.startswith(".partial-")
        assert partial.name.endswith("volume.nii.gz")
        partial.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_an_error_while_writing_keeps_the_older_file(tmp_path: Path, failure: BaseException) -> None:
    (tmp_path / "file").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "file") as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "file"):
            pass

    with pytest.raises(FileNotFoundError):
        write()


@pytest.mark.parametrize("make", [replacing, new_folder])
@pytest.mark.parametrize("leads_to", ["file", "folder"])
def test_links_are_not_followed(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[Path]], leads_to: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    (tmp_path / ".partial-new").symlink_to(victim if leads_to == "folder" else victim / "file")
    with make(tmp_path / "new") as partial:
        (partial / "file" if make is new_folder else partial).write_text("mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "victim"]
    assert not (tmp_path / "new").is_symlink()
    assert (victim / "file").read_text() == "precious"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "study"
    (tmp_path / "data" / ".partial-study").mkdir(parents=True)
    (tmp_path / "data" / ".partial-study" / "half").write_text("of a killed run")
    with new_folder(folder) as partial:
        (partial / "one").write_text("1")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_made_leaves_what_is_there(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "study"
    if there:
        folder.mkdir()
        (folder / "file").write_text("old")

    def write() -> None:
        with new_folder(folder) as partial:
            (partial / "file").write_text("new")
            if not there:
                raise KeyboardInterrupt

    with pytest.raises(OSError if there else KeyboardInterrupt):
        write()
    assert [path.name for path in tmp_path.iterdir()] == (["study"] if there else [])
    assert not there or (folder / "file").read_text() == "old"
