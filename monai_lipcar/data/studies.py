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
"""Studies: the examinations of a dataset folder, and whether they can be used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from monai_lipcar.data.acquisition import read_acquisition
from monai_lipcar.data.formats import SUFFIXES, find_fault
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics.acquisition import Acquisition

__all__ = ["MEMBERS", "Study", "find_studies", "member_label", "missing_member"]

MEMBERS = ("pre", "low", "high", "lesion")
"""The volumes a study can have."""
_LONGEST = 200
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{number}" for kind in ("COM", "LPT") for number in range(1, 10))}
LAYOUT = "<study_id>/pre.nii.gz and low.nii.gz (.nii, .nrrd, .mha or a DICOM folder do as well)"


@dataclass(frozen=True)
class Study:
    """One examination: the registered volumes of one subject.

    Args:
        study_id: names the study in messages and the folder of its results: one path component.
        members: path of each volume present, by ``"pre"``, ``"low"``, ``"high"`` or ``"lesion"``.
        problems: what discovery found wrong. The first of them is raised by :meth:`check` only, so that an
            unusable study fails by itself while the others are done.
        acquisition: dose fraction, sequence and agent, where the study says them.

    Raises:
        ConfigurationError: when the id cannot name a folder, or a member is unknown.

    Example:
        >>> study = Study("rat-0001", {"pre": Path("data/rat-0001/pre.nii.gz")})
        >>> study.to_dict()
        {'study_id': 'rat-0001', 'pre': 'data/rat-0001/pre.nii.gz'}
    """

    study_id: str
    members: Mapping[str, Path]
    problems: tuple[StudyError, ...] = field(default=(), compare=False)
    acquisition: Acquisition | None = None

    def __post_init__(self) -> None:
        if fault := _name_fault(self.study_id):
            raise ConfigurationError(fault)
        unknown = sorted(set(self.members) - set(MEMBERS))
        if unknown:
            raise ConfigurationError(f"study {self.study_id}: expected members among {MEMBERS}, got {unknown}")

    def to_dict(self) -> dict[str, str]:
        """The study as MONAI's dictionary transforms take it: the id, and the path of each member present."""
        return {"study_id": self.study_id, **{name: str(path) for name, path in self.members.items()}}

    def without(self, name: str) -> Study:
        """The study as if it had no member ``name``, and nothing had been wrong with it."""
        members = {key: path for key, path in self.members.items() if key != name}
        problems = tuple(problem for problem in self.problems if problem.member != name)
        return replace(self, members=members, problems=problems)

    def check(self, required: Sequence[str] = ()) -> None:
        """Refuse a study that cannot be loaded, or would be loaded wrongly, before anything reads it.

        Args:
            required: members that must be there.

        Raises:
            StudyError: for a problem found at discovery, a missing member, a path that does not exist, or a file
                that :func:`~monai_lipcar.data.formats.find_fault` finds fault with.
        """
        if self.problems:
            raise self.problems[0]
        for name in required:
            if name not in self.members:
                raise missing_member(self.study_id, name, sorted(self.members))
        for name, path in self.members.items():
            if not path.exists():
                raise StudyError(f"{path} does not exist", study=self.study_id, member=name, advice="correct the path")
            fault = find_fault(path)
            if fault:
                raise StudyError(fault, study=self.study_id, member=member_label(name, path))


def find_studies(dataset_dir: str | Path, required: Sequence[str] = ("pre", "low")) -> list[Study]:
    """List the studies of a dataset folder ``DIR/<study_id>/{pre,low,high,lesion}``.

    A member is a ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha`` file, or a folder of DICOM files, of that name. Every
    sub-folder is a study, except those whose name starts with a dot; its ``acquisition.json`` may tell dose, sequence
    and agent. One that cannot be used, because a required member is missing or is there twice, is listed too, and says
    so when :meth:`Study.check` is called; so is one whose folder's name cannot be an id, under a name made of its hash.

    Args:
        dataset_dir: the dataset folder.
        required: members without which a study cannot be used.

    Returns:
        The studies, sorted by id.

    Raises:
        ConfigurationError: when the folder does not exist, has no study in it, or is itself a study.
    """
    folder = Path(dataset_dir).expanduser()
    try:
        paths = sorted(folder.iterdir())
        members = sorted(path.name for found in _members_in(folder).values() for path in found)
    except OSError as error:
        raise ConfigurationError(
            f"dataset folder {folder} cannot be read: {error.strerror}; expected a folder with {LAYOUT}"
        ) from error
    if members:
        raise ConfigurationError(
            f"{folder} is a study ({', '.join(members)}), not a folder of studies; give the one above"
        )
    studies = [_study_in(path, required) for path in paths if path.is_dir() and not path.name.startswith(".")]
    if not studies:
        raise ConfigurationError(
            f"no study found in {folder}; expected {LAYOUT}. DICOM as archives export it is read by `run` only"
        )
    return studies


def member_label(name: str, path: Path) -> str:
    """How messages name a member: by its file, which begins with the member's name in a dataset folder.

    Example:
        >>> member_label("pre", Path("rat-0001/pre.nii.gz")), member_label("pre", Path("images/0042.nii"))
        ('pre.nii.gz', 'pre (0042.nii)')
    """
    return path.name if path.name.startswith(name) else f"{name} ({path.name})"


def missing_member(study_id: str, name: str, present: Iterable[str]) -> StudyError:
    """The error for a study without a member that is needed.

    Args:
        study_id: the study.
        name: the missing member.
        present: what there is in its place.
    """
    return StudyError(
        f"the volume is missing; there is {', '.join(present) or 'nothing'}",
        study=study_id,
        member=name,
        advice=f"add {name}{SUFFIXES[0]} ({', '.join(SUFFIXES[1:])} or a DICOM folder called {name} do as well)",
    )


def _members_in(folder: Path) -> dict[str, list[Path]]:
    """Everything in a study's folder that is a member by its name."""
    names = {f"{name}{suffix}": name for name in MEMBERS for suffix in ("", *SUFFIXES)}
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = names.get(path.name)
        # a folder with a file's name is listed, and refused when the study is checked
        if name is not None and (path.name != name or path.is_dir()):
            found.setdefault(name, []).append(path)
    return found


def _name_fault(study_id: object) -> str | None:
    """Why a study cannot be called so.

    Ids become folders of results, on disks of all systems: none may lead out of the output folder, break a line of the
    log, or be another name on Windows.
    """
    if not isinstance(study_id, str) or not study_id.strip() or not study_id.isprintable():
        return f"expected a printable study id, got {ascii(study_id)[:100]}"
    if study_id == "." or any(part in study_id for part in ("/", "\\", "..")):
        return f'study id {study_id!r} must not contain "/", "\\" or "..": it names a folder'
    if len(study_id.encode()) > _LONGEST:
        return f"expected a study id of at most {_LONGEST} bytes, got {len(study_id.encode())}: {study_id[:20]!r}..."
    if set(study_id) & set('<>:"|?*') or study_id[-1] in ". " or study_id.split(".")[0].upper() in _DEVICES:
        return (
            f'study id {study_id!r} must not contain any of <>:"|?*, end with a dot or a space, or be the name of a '
            "device (CON, NUL...): it names a folder, which Windows could not have"
        )
    return None


def _study_in(folder: Path, required: Sequence[str]) -> Study:
    if fault := _name_fault(folder.name):
        pseudonym = f"study-{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:12]}"
        problem = StudyError(
            f"the name of its folder cannot be used: {fault}", study=pseudonym, advice="rename the folder"
        )
        return Study(pseudonym, {}, (problem,))
    try:
        found, listing = _members_in(folder), sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return Study(folder.name, {}, (StudyError(f"{folder} cannot be read: {error.strerror}", study=folder.name),))
    problems = [
        StudyError(
            f"expected one volume, found {', '.join(path.name for path in paths)}",
            study=folder.name,
            member=name,
            advice="keep one of them",
        )
        for name, paths in found.items()
        if len(paths) > 1
    ]
    present = listing if len(listing) <= 8 else [*listing[:8], f"{len(listing) - 8} more"]
    problems += [missing_member(folder.name, name, present) for name in required if name not in found]
    members = {name: found[name][0] for name in MEMBERS if len(found.get(name, ())) == 1}
    acquisition = None
    try:
        acquisition = read_acquisition(folder)
    except StudyError as error:
        problems.append(error)
    return Study(folder.name, members, tuple(problems), acquisition)
