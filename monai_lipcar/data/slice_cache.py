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
"""Preprocessed studies on disk: a memory-mapped array of slices each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_lipcar.data.studies import Study
from monai_lipcar.errors import ConfigurationError

__all__ = ["CachedStudy", "SliceCache", "file_stats"]

FORMAT = 2
"""Raise when what is stored changes meaning: older entries are then preprocessed again."""
_ARRAY, _RECORD = "slices.npy", "record.json"
_DIGITS = 16


@dataclass(frozen=True, eq=False)
class CachedStudy:
    """What is known of a cached study without reading its slices.

    Args:
        study_id: the study.
        file: ``.npy`` file of shape (slices, keys, H, W), float16.
        usable: whether each slice may be used: (slices,) bool.
        foreground: fraction of foreground in each slice, 0 to 1: (slices,).
    """

    study_id: str
    file: Path
    usable: np.ndarray
    foreground: np.ndarray


class SliceCache:
    """Stores the slices of preprocessed studies under one folder.

    An entry is a folder with an array and a small JSON file. It is written under a name of its own and renamed, so that
    a killed process leaves no half entry, and of several processes that preprocess a study at the same time one puts
    its entry in place and all of them use that one: they see the same slices even if the preprocessing is not the same
    to the last bit. An entry is valid for the same files (path, size, time of last change), the same keys and the same
    preprocessing, all of which its name stands for.

    Args:
        cache_dir: the folder; made when missing.
        preprocessing_fingerprint: see :func:`~monai_lipcar.data.fingerprint.fingerprint`.
        keys: the volumes stored, in this order.

    Raises:
        ConfigurationError: when the folder cannot be made.
    """

    def __init__(self, cache_dir: str | Path, preprocessing_fingerprint: str, keys: Sequence[str]) -> None:
        self.cache_dir = Path(cache_dir).expanduser()
        self.recipe = [FORMAT, preprocessing_fingerprint, list(keys)]
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cache folder {self.cache_dir} cannot be made: {error.strerror}") from error

    def find(self, study: Study) -> CachedStudy | None:
        """The entry of a study, or None when there is none, or the study's files have changed since."""
        try:
            return _read(self._folder(study, file_stats(study)), study)
        except OSError:  # a file of the study is gone
            return None

    def store(
        self, study: Study, stats: list[list[Any]], slices: np.ndarray, usable: np.ndarray, foreground: np.ndarray
    ) -> CachedStudy:
        """Write an entry, in place of an outdated one.

        Args:
            study: the study.
            stats: what :func:`file_stats` said, taken before its files were read.
            slices: shape (slices, keys, H, W), float16.
            usable: whether each slice may be used.
            foreground: fraction of foreground in each slice.

        Returns:
            The entry that is in place: this one, or that of another process that was faster.

        Raises:
            ConfigurationError: when it cannot be written: no permission, or the disk is full.
        """
        folder = self._folder(study, stats)
        record = {"usable": usable.tolist(), "foreground": foreground.tolist()}
        try:
            partial = self.cache_dir / f".{uuid.uuid4().hex}.partial"
            try:
                partial.mkdir()
                with open(partial / _ARRAY, "wb") as file:
                    np.save(file, slices)
                (partial / _RECORD).write_text(json.dumps(record), encoding="utf-8")
                entry = self._put_in_place(partial, folder, study)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            for other in self.cache_dir.iterdir():
                if other.name.startswith(folder.name[:-_DIGITS]) and other != folder:
                    shutil.rmtree(other, ignore_errors=True)  # of the files as they were before
        except OSError as error:
            raise ConfigurationError(
                f"the cache {self.cache_dir} cannot be written: {error.strerror or error}; "
                "free space there, or give another cache_dir"
            ) from error
        return entry

    def _put_in_place(self, partial: Path, folder: Path, study: Study) -> CachedStudy:
        try:
            partial.rename(folder)
        except OSError:
            # taken by another process: a folder that is not empty is never replaced
            entry = _read(folder, study)
            if entry is not None:
                return entry
            shutil.rmtree(folder, ignore_errors=True)  # damaged from outside
            partial.rename(folder)
        entry = _read(folder, study)
        if entry is None:
            raise OSError(f"{folder} cannot be read back")
        return entry

    def _folder(self, study: Study, stats: list[list[Any]]) -> Path:
        # the paths tell apart studies of the same id in two data sets that share a cache
        members = {name: str(path.resolve()) for name, path in study.members.items()}
        return self.cache_dir / f"{study.study_id}-{_hash([self.recipe, members])}-{_hash(stats)}"


def _read(folder: Path, study: Study) -> CachedStudy | None:
    array_file = folder / _ARRAY
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if not array_file.is_file():
            return None
        return CachedStudy(
            study.study_id, array_file, np.asarray(record["usable"], dtype=bool), np.asarray(record["foreground"])
        )
    except (OSError, ValueError, KeyError):
        return None


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def file_stats(study: Study) -> list[list[Any]]:
    """Member, name, size in bytes and time of last change in nanoseconds of every file of a study.

    Args:
        study: the study; the files of a DICOM folder count one by one.
    """
    stats: list[list[Any]] = []
    for member, path in sorted(study.members.items()):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_dir():
                stat = file.stat()
                stats.append([member, file.relative_to(path.parent).as_posix(), stat.st_size, stat.st_mtime_ns])
    return stats
