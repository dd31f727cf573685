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
"""DICOM examinations as studies of a dataset folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from monai_lipcar.data import Study
from monai_lipcar.data.acquisition import write_acquisition
from monai_lipcar.data.atomic import read_json, replacing, write_json
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.data.output import refuse_links, write_volume
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.networks import file_sha256
from monai_lipcar.physics.acquisition import Acquisition

from .acquisition import sequence_of
from .identity import tells_identity
from .rules import SeriesRules
from .selection import Pick, pick_series
from .series import Series
from .volume import read_volume

__all__ = ["INPUTS", "SERIES_FILE", "Examination", "Imported", "find_examinations", "import_examination"]

logger = logging.getLogger(__name__)

INPUTS = "inputs"
"""Folder of the converted inputs in the folder of the results."""
SERIES_FILE = "series.json"
"""Which series was taken for what, and why, beside the volumes made of them."""


@dataclass(frozen=True)
class Examination:
    """The series of one StudyInstanceUID.

    Args:
        study_id: what the study is called.
        series: its series.
    """

    study_id: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Imported:
    """A study made of DICOM series.

    Args:
        study: its volumes and acquisition.
        picks: the series of each member.
    """

    study: Study
    picks: Mapping[str, Pick]


def find_examinations(folder: str | Path, series: Sequence[Series], together: bool = False) -> list[Examination]:
    """Sort series into examinations, and give them names.

    An examination whose files lie in one sub-folder, with none of another's, is called like that folder. The only one
    is otherwise called like ``folder``. Others get a name made of the hash of their UID, and so do those whose folder
    has the patient's name or number in it.

    Args:
        folder: what was scanned.
        series: what was found.
        together: all series are of one study, although they have several StudyInstanceUIDs.
    """
    root = Path(folder).expanduser()
    groups: dict[str, list[Series]] = {}
    for one in series:
        groups.setdefault(series[0].study_uid if together else one.study_uid, []).append(one)
    children = {
        uid: {file.relative_to(root).parts[0] for one in group for file in one.files if file.parent != root}
        | {"" for one in group for file in one.files if file.parent == root}
        for uid, group in groups.items()
    }
    examinations = []
    for uid, group in groups.items():
        own = children[uid]
        shared = any(own & other for key, other in children.items() if key != uid)
        name = next(iter(own)) if len(own) == 1 and not shared else ""
        if not name and len(groups) == 1:
            name = root.resolve().name
        examinations.append(Examination(_safe_name(name, uid, group), tuple(group)))
    return sorted(examinations, key=lambda one: one.study_id)


def _safe_name(name: str, uid: str, series: Sequence[Series]) -> str:
    pseudonym = f"study-{hashlib.sha256(uid.encode()).hexdigest()[:12]}"
    if name and any(tells_identity(name, one.header) for one in series):
        logger.info("a study's folder has the patient's name or number in it; the study is called %s", pseudonym)
        return pseudonym
    if not name or name.startswith(".") or name == INPUTS:
        return pseudonym
    try:
        return Study(name, {}).study_id
    except ConfigurationError:
        return pseudonym


def import_examination(
    examination: Examination,
    folder: Path,
    rules: SeriesRules,
    acquisition: Acquisition,
    uids: Mapping[str, str] | None = None,
    required: Sequence[str] = ("pre", "low"),
    from_header: bool = True,
) -> Imported:
    """Pick the series of an examination and write them as NIfTI volumes, float32, in their own units.

    ``<folder>/<study_id>/`` gets a volume for each member, ``series.json`` and ``acquisition.json``. Volumes that are
    there already, made of the same files, stay.

    Args:
        examination: the series.
        folder: dataset folder to write to.
        rules: which series is what; see :func:`~monai_lipcar.dicom.selection.pick_series`.
        acquisition: how it was acquired, as far as the header does not tell.
        uids: SeriesInstanceUID by member, instead of rules.
        required: members that have to be there.
        from_header: take repetition time, echo time and flip angle from the header where it is without doubt.

    Raises:
        StudyError: no series, or several, for a member; or one that is no volume; or it cannot be written.
    """
    study_id = examination.study_id
    refuse_links(folder.parent, folder / study_id, study_id)
    picks, notes = pick_series(examination.series, study_id, rules, uids, required)
    for name, pick in picks.items():
        logger.info("study %s: %s is %s (%s)", study_id, name, pick.series, pick.reason)
    acquisition, told, doubts = _acquisition(picks, acquisition, from_header)
    notes = [*notes, *doubts]
    if damaged := max(pick.series.damaged for pick in picks.values()):
        notes.append(f"{damaged} damaged DICOM images beside its series were left out: slices may be missing at an end")
    content = {
        "members": {name: _described(pick) for name, pick in picks.items()},
        "acquisition": told,
        "notes": notes,
    }
    place = folder / study_id
    files = {name: place / f"{name}.nii.gz" for name in picks}
    if _read_json(place / SERIES_FILE) != content or not all(file.is_file() for file in files.values()):
        volumes = _read_all(picks, study_id, required, notes)
        picks = {name: pick for name, pick in picks.items() if name in volumes}
        content["members"] = {name: _described(pick) for name, pick in picks.items()}
        _write(place, volumes, content)
    else:
        logger.info("study %s: its volumes are there already", study_id)
    for note in notes:
        logger.warning("study %s: %s", study_id, note)
    write_acquisition(place, acquisition)
    members = {name: files[name] for name in picks}
    return Imported(Study(study_id, members, acquisition=acquisition), picks)


def _acquisition(
    picks: Mapping[str, Pick], known: Acquisition, from_header: bool
) -> tuple[Acquisition, str, list[str]]:
    """The acquisition to compute with, how it is known, and what is doubtful about it."""
    rest = {"dose_fraction": known.dose_fraction, "r1": known.r1, "r2": known.r2}
    found = {name: sequence_of(pick.series.header, rest) for name, pick in picks.items()}
    first = next(name for name in ("low", "pre", "high") if name in found)
    acquisition, told = found[first]
    doubts = [
        f"{first} and {name} were acquired differently ({told}; {other_told}): they differ in more than contrast"
        for name, (other, other_told) in found.items()
        if acquisition is not None and other is not None and acquisition.differences(other)
    ]
    given = ", ".join(f"{name} {value:g}" for name, value in asdict(known).items() if value is not None)
    if not from_header:
        if acquisition is not None and (differing := known.differences(acquisition)):
            doubts.append(f"the header says {told}; the acquisition that was given differs in {', '.join(differing)}")
        return known, f"as given: {given}", doubts
    if acquisition is None:
        doubts.append(f"{told}; it is computed as {given}; say it with --acquisition FILE")
        return known, f"by default: {given}", doubts
    return acquisition, f"{told} (from the header of {first})", doubts


def _read_all(
    picks: Mapping[str, Pick], study_id: str, required: Sequence[str], notes: list[str]
) -> dict[str, MetaTensor]:
    volumes = {}
    for name, pick in picks.items():
        try:
            volumes[name] = read_volume(pick.series, study_id, name)
        except StudyError as error:
            if name in required:
                raise
            notes.append(f"{name} was left out: {error.reason}")
    return volumes


def _described(pick: Pick) -> dict[str, Any]:
    series = pick.series
    digest = hashlib.sha256()
    for instance, file in sorted(zip(series.instances, series.files, strict=True)):
        digest.update(f"{instance} {file_sha256(file)}\n".encode())
    return {
        "series_uid": series.uid,
        "description": series.description,
        "images": series.frames,
        "reason": pick.reason,
        "files_sha256": digest.hexdigest(),
    }


def _write(place: Path, volumes: Mapping[str, MetaTensor], content: Mapping[str, Any]) -> None:
    with explain_write_failure(
        f"the volumes cannot be written to {place.parent.name}/{place.name}",
        place.name,
        "free space or choose another folder for the results, then run again",
    ):
        place.mkdir(parents=True, exist_ok=True)
        (place / SERIES_FILE).unlink(missing_ok=True)  # until all is there again
        for old in place.glob("*.nii.gz"):
            old.unlink()
        for name, volume in volumes.items():
            with replacing(place / f"{name}.nii.gz") as partial:
                write_volume(volume, partial)
        write_json(place / SERIES_FILE, content)


def _read_json(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError):
        return None
