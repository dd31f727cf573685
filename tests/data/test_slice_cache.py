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
from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from monai_lipcar.data import slice_cache
from monai_lipcar.data.slice_cache import SliceCache, file_stats
from monai_lipcar.data.studies import Study
from monai_lipcar.errors import ConfigurationError

SLICES = np.arange(24, dtype=np.float16).reshape(3, 2, 2, 2)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "s" / "low").mkdir(parents=True)
    (tmp_path / "s" / "pre.nii").write_bytes(b"pre")
    (tmp_path / "s" / "low" / "1.dcm").write_bytes(b"one")
    return Study("s", {"pre": tmp_path / "s" / "pre.nii", "low": tmp_path / "s" / "low"})


def _store(cache: SliceCache, study: Study) -> None:
    cache.store(study, file_stats(study), SLICES, np.array([True, False, True]), np.array([0.0, 0.25, 1.0]))


def test_what_is_stored_is_found(tmp_path: Path, study: Study) -> None:
    cache = SliceCache(tmp_path / "a" / "cache", "recipe", ("pre", "low"))
    assert cache.find(study) is None
    _store(cache, study)
    entry = SliceCache(tmp_path / "a" / "cache", "recipe", ("pre", "low")).find(study)
    assert entry is not None
    np.testing.assert_array_equal(np.load(entry.file), SLICES)
    assert entry.usable.tolist() == [True, False, True]
    assert entry.foreground.tolist() == [0.0, 0.25, 1.0]
    assert len(list(cache.cache_dir.iterdir())) == 1


def test_other_recipe_keys_or_files_are_another_entry(tmp_path: Path, study: Study) -> None:
    _store(SliceCache(tmp_path / "cache", "recipe", ("pre", "low")), study)
    assert SliceCache(tmp_path / "cache", "other", ("pre", "low")).find(study) is None
    assert SliceCache(tmp_path / "cache", "recipe", ("low", "pre")).find(study) is None
    (tmp_path / "elsewhere.nii").write_bytes(b"pre")
    namesake = Study("s", {**study.members, "pre": tmp_path / "elsewhere.nii"})
    assert SliceCache(tmp_path / "cache", "recipe", ("pre", "low")).find(namesake) is None


def _newer(path: Path) -> None:
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize("change", ["size", "time", "added", "removed"])
def test_a_change_of_any_file_outdates_the_entry(change: str, tmp_path: Path, study: Study) -> None:
    cache = SliceCache(tmp_path / "cache", "recipe", ("pre", "low"))
    _store(cache, study)
    dicom = tmp_path / "s" / "low" / "1.dcm"
    if change == "size":
        stat = dicom.stat()
        dicom.write_bytes(b"three")
        os.utime(dicom, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        _newer(dicom)
    elif change == "added":
        (dicom.parent / "2.dcm").write_bytes(b"two")
    else:
        (tmp_path / "s" / "pre.nii").unlink()
    assert cache.find(study) is None
    if change != "removed":
        _store(cache, study)
        assert cache.find(study) is not None
        assert len(list(cache.cache_dir.iterdir())) == 1  # in place of the outdated one


def test_damaged_record_is_no_entry(tmp_path: Path, study: Study) -> None:
    cache = SliceCache(tmp_path / "cache", "recipe", ("pre", "low"))
    _store(cache, study)
    (record,) = cache.cache_dir.glob("*/record.json")
    record.write_text(record.read_text()[:20])
    assert cache.find(study) is None
    record.write_text(json.dumps({}))
    assert cache.find(study) is None
    _store(cache, study)
    assert cache.find(study) is not None


def test_the_slower_of_two_processes_uses_what_is_there(tmp_path: Path, study: Study) -> None:
    cache = SliceCache(tmp_path / "cache", "recipe", ("pre", "low"))
    _store(cache, study)
    entry = cache.store(study, file_stats(study), SLICES + 1, np.array([False] * 3), np.array([0.5] * 3))
    np.testing.assert_array_equal(np.load(entry.file), SLICES)
    assert entry.usable.tolist() == [True, False, True]
    assert len(list(cache.cache_dir.iterdir())) == 1


def test_full_disk_leaves_nothing_behind(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SliceCache(tmp_path / "cache", "recipe", ("pre", "low"))

    def fill(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slice_cache.np, "save", fill)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device; free space"):
        _store(cache, study)
    assert list(cache.cache_dir.iterdir()) == []
    assert cache.find(study) is None


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made: Not a directory"):
        SliceCache(tmp_path / "file" / "cache", "recipe", ("pre",))


def test_killed_half_way_there_is_no_entry(tmp_path: Path, study: Study) -> None:
    processes = multiprocessing.get_context("fork")
    writing = processes.Event()
    cache = SliceCache(tmp_path / "cache", "recipe", ("pre", "low"))

    def stall(file, array) -> None:
        file.write(b"half")
        file.flush()
        writing.set()
        time.sleep(60)

    def store_and_stall() -> None:
        slice_cache.np.save = stall
        _store(cache, study)

    process = processes.Process(target=store_and_stall, daemon=True)
    process.start()
    assert writing.wait(30)
    process.kill()
    process.join()
    assert cache.find(study) is None
    assert not list(cache.cache_dir.glob("s-*"))
    _store(cache, study)
    assert cache.find(study) is not None
