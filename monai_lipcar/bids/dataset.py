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
"""The sessions of a BIDS dataset and their T1-weighted images."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_lipcar.errors import ConfigurationError

from .names import BidsName
from .sidecar import read_sidecar, words

__all__ = ["SUFFIX", "Image", "Session", "find_sessions"]

logger = logging.getLogger(__name__)

SUFFIX = "T1w"
"""What images have to be."""
_EXTENSIONS = (".nii.gz", ".nii")
_LAYOUT = "sub-<label>/[ses-<label>/]anat/*_T1w.nii.gz"
_WITHOUT_AGENT = re.compile(
    r"none|no|pre|native|plain|unenhanced|(pre|non|no)(contrast|gd)|0(pct|percent|perc)", re.IGNORECASE
)
_LESION = re.compile("lesion|tumou?r|metastas|enhanc", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """A T1-weighted image.

    Args:
        path: the file.
        name: what it says.
        sidecar: its metadata.
    """

    path: Path
    name: BidsName
    sidecar: dict[str, Any]

    @property
    def with_agent(self) -> bool:
        """Whether it was acquired with contrast agent, by ``ce-<label>`` or else by ContrastBolusIngredient."""
        if "ce" in self.name.entities:
            return not _WITHOUT_AGENT.fullmatch(self.name.entities["ce"])
        return bool({*words(self.sidecar, "ContrastBolusIngredient")} - {"NONE", "UNKNOWN"})

    def __str__(self) -> str:
        """For messages."""
        return self.path.name


@dataclass(frozen=True)
class Session:
    """What was acquired of a subject at one time.

    Args:
        subject: its label.
        session: label, or None in a dataset without sessions.
        images: its T1-weighted images.
        lesions: masks of lesions in the dataset's derivatives.
    """

    subject: str
    session: str | None
    images: tuple[Image, ...]
    lesions: tuple[Path, ...] = ()

    @property
    def study_id(self) -> str:
        """``sub-<label>[_ses-<label>]``."""
        return "_".join(self.folders)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the session in a dataset."""
        return (f"sub-{self.subject}", *([] if self.session is None else [f"ses-{self.session}"]))


def find_sessions(dataset: str | Path) -> list[Session]:
    """List the sessions of a BIDS dataset, raw or derivative, that have T1-weighted images.

    Args:
        dataset: the folder that ``dataset_description.json`` is in.

    Returns:
        The sessions, in order of their names.

    Raises:
        ConfigurationError: when there is none.
    """
    root = Path(dataset).expanduser()
    try:
        subjects = sorted(path for path in root.iterdir() if path.name.startswith("sub-") and path.is_dir())
    except OSError as error:
        raise ConfigurationError(f"BIDS dataset {root} cannot be read: {error.strerror}; expected {_LAYOUT}") from error
    sessions = []
    for subject in subjects:
        for folder in (subject, *sorted(path for path in subject.glob("ses-*") if path.is_dir())):
            labels = [part.partition("-")[2] for part in folder.relative_to(root).parts]
            if images := tuple(_images(folder, root)):
                session = Session(labels[0], labels[1] if len(labels) > 1 else None, images)
                sessions.append(Session(session.subject, session.session, images, tuple(_lesions(session, root))))
    if not sessions:
        found = f"{len(subjects)} folders sub-*, without such an image" if subjects else "no folder sub-*"
        raise ConfigurationError(f"no session found in the BIDS dataset {root}: expected {_LAYOUT}, got {found}")
    return sessions


def _images(folder: Path, root: Path) -> Iterator[Image]:
    own = folder.relative_to(root).parts
    for path in sorted((folder / "anat").glob(f"*{SUFFIX}.nii*")):
        name = BidsName.parse(path.name)
        here = name and tuple(f"{key}-{name.entities[key]}" for key in ("sub", "ses") if key in name.entities)
        if name is None or name.extension not in _EXTENSIONS or here != own:
            logger.warning("%s is passed over: it is no BIDS name of %s", path.name, "_".join(own))
        elif name.suffix == SUFFIX and name.entities.get("part", "mag") == "mag":
            yield Image(path, name, read_sidecar(path, name, root))


def _lesions(session: Session, root: Path) -> Iterator[Path]:
    """``label-lesion`` or ``desc-lesion`` masks of any pipeline; other masks are of the brain, or of who knows what."""
    derivatives = root / "derivatives"
    if not derivatives.is_dir():
        return
    for pipeline in (derivatives, *sorted(path for path in derivatives.iterdir() if path.is_dir())):
        for path in sorted((pipeline.joinpath(*session.folders) / "anat").glob("*_mask.nii*")):
            name = BidsName.parse(path.name)
            if name is not None and any(_LESION.search(name.entities.get(key, "")) for key in ("label", "desc")):
                yield path
