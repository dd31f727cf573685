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
"""Datalists: the studies of a cohort and which of them are trained on, as a MONAI datalist (JSON)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_lipcar.data.acquisition import parse_acquisition
from monai_lipcar.data.atomic import read_json, write_json
from monai_lipcar.data.studies import MEMBERS, Study, find_studies, missing_member
from monai_lipcar.errors import ConfigurationError, StudyError

__all__ = ["SECTIONS", "list_studies", "load_datalist", "write_datalist"]

SECTIONS = ("training", "validation", "test")
"""The keys of a datalist."""

logger = logging.getLogger(__name__)


def list_studies(
    source: str | Path, required: Sequence[str] = ("pre", "low"), section: str | None = None
) -> list[Study]:
    """The studies of a dataset folder, or of a datalist where ``source`` is a file.

    Args:
        source: see :func:`~monai_lipcar.data.studies.find_studies` and :func:`load_datalist`.
        required: members without which a study cannot be used.
        section: of the datalist; by default all of them.

    Raises:
        ConfigurationError: there is no such dataset, or it has no study.
    """
    file = Path(source).expanduser()
    if not file.is_file():
        return find_studies(source, required)
    sections = [section] if section else [name for name, entries in _read_sections(file).items() if entries]
    studies = [study for name in sections for study in load_datalist(file, name, required=required)]
    return studies or load_datalist(file, SECTIONS[-1], required=required)  # which says what there is


def load_datalist(
    datalist_file: str | Path,
    section: str,
    dataset_dir: str | Path | None = None,
    required: Sequence[str] = ("pre", "low"),
) -> list[Study]:
    """Read the studies of one section of a datalist.

    The file is ``{"training": [entry, ...], "validation": [...], "test": [...]}``, an entry
    ``{"study_id": ..., "pre": path, "low": path, "high": path, "lesion": path}``, and
    ``"acquisition": {"dose_fraction": 0.1, ...}`` where it is not the same for all. Without ``study_id`` a study is
    called like the folder that its first member is in. Other keys of an entry are ignored, with a warning.
    (``monai.data.load_decathlon_datalist`` would resolve paths under the keys "image" and "label" only.)

    Args:
        datalist_file: the JSON file.
        section: ``"training"``, ``"validation"`` or ``"test"``; another key of the file will do too.
        dataset_dir: folder that relative paths start from. Default: the folder of the datalist.
        required: members without which a study cannot be used; it is listed all the same, and
            :meth:`Study.check` says so.

    Returns:
        The studies, in the file's order.

    Raises:
        ConfigurationError: when the file is not such a datalist, the section is missing or empty, or two entries
            of the file, in whatever sections, are the same study.
    """
    file = Path(datalist_file).expanduser()
    base = Path(dataset_dir).expanduser() if dataset_dir else file.parent
    studies = {
        name: [_read_entry(f"{name}[{number}]", file, entry, base, required) for number, entry in enumerate(entries)]
        for name, entries in _read_sections(file).items()
    }
    if not studies.get(section):
        there = ", ".join(f"{name}: {len(entries)}" for name, entries in studies.items())
        raise ConfigurationError(f"datalist {file} has no studies under {section!r}; it has {there or 'no section'}")
    seen: dict[str, str] = {}
    for name, entries in studies.items():
        for study in entries:
            if study.study_id in seen:
                places = (
                    f"twice in {name}" if seen[study.study_id] == name else f"in {seen[study.study_id]} and in {name}"
                )
                raise ConfigurationError(
                    f'datalist {file}: study {study.study_id!r} is {places}; give each entry its own "study_id" '
                    "and each study to one section"
                )
            seen[study.study_id] = name
    return studies[section]


def write_datalist(datalist_file: str | Path, split: Mapping[str, Sequence[Study]]) -> None:
    """Write studies as a datalist that :func:`load_datalist` reads.

    Paths below the datalist's folder are written relative to it, so that both can move together; others are absolute.

    Args:
        datalist_file: the JSON file to write; replaced as a whole when there is one.
        split: studies of each section, as from :func:`~monai_lipcar.data.split.split_studies`.

    Raises:
        ConfigurationError: when it cannot be written.
    """
    file = Path(datalist_file).expanduser()
    base = file.parent.resolve()
    content = {
        name: [
            {
                "study_id": study.study_id,
                **{key: _portable(path, base) for key, path in study.members.items()},
                **({} if study.acquisition is None else {"acquisition": asdict(study.acquisition)}),
            }
            for study in studies
        ]
        for name, studies in split.items()
    }
    try:
        write_json(file, content)
    except OSError as error:
        raise ConfigurationError(f"datalist {file} cannot be written: {error.strerror}") from error


def _portable(path: Path, base: Path) -> str:
    # only the folder is resolved: a member that is a link keeps its name
    absolute = path.parent.resolve() / path.name
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def _read_sections(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = read_json(file)
    except OSError as error:
        raise ConfigurationError(f"datalist {file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not text
        raise ConfigurationError(f"datalist {file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"datalist {file}: expected an object with the keys {', '.join(SECTIONS)}")
    # datalists have other keys too ("name", "labels", ...): the lists of objects are the sections
    return {
        name: entries
        for name, entries in content.items()
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    }


def _read_entry(place: str, file: Path, entry: Mapping[str, Any], base: Path, required: Sequence[str]) -> Study:
    given = {name: entry[name] for name in MEMBERS if entry.get(name) is not None}
    wrong = [
        f"{name}: {path!r}" for name, path in given.items() if not isinstance(path, str) or not path or "\0" in path
    ]
    if wrong or not given:
        got = ", ".join(wrong) or f"the keys {sorted(entry)}"
        raise ConfigurationError(f"datalist {file}, {place}: expected paths for {', '.join(MEMBERS)}, got {got}")
    members = {name: base / Path(path).expanduser() for name, path in given.items()}
    study_id = entry.get("study_id")
    if study_id is None:
        study_id = next(iter(members.values())).resolve().parent.name
    problems = tuple(missing_member(str(study_id), name, given) for name in required if name not in members)
    acquisition = None
    try:
        if entry.get("acquisition") is not None:
            acquisition = parse_acquisition(entry["acquisition"], str(study_id), file.name)
    except StudyError as error:
        problems = (*problems, error)
    try:
        study = Study(study_id, members, problems, acquisition)
    except ConfigurationError as error:
        raise ConfigurationError(f"datalist {file}, {place}: {error}") from error
    ignored = sorted(set(entry) - set(MEMBERS) - {"study_id", "acquisition"})
    if ignored:
        logger.warning("datalist %s, %s: the keys %s are ignored", file, place, ignored)
    return study
