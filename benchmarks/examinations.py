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
"""Real examinations that a benchmark is run on: pairs of an image before contrast and one at full dose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_lipcar.data import Study, find_studies
from monai_lipcar.errors import StudyError
from monai_lipcar.networks.weights import file_sha256

__all__ = ["Examination", "read_examinations", "read_lesion"]


@dataclass(frozen=True)
class Examination:
    """A real pair of images.

    Args:
        name: what tables call it.
        pre: image before contrast.
        high: image at full dose.
        lesion: segmentation on the grid of ``high``, or None.
        lesion_labels: its values that are enhancing lesion; by default all above 0.
        slices: how many to take; by default what the command line says.
        center: slice in the middle of them; by default the one that shows most.
        sha256: what the files are expected to be, by ``"pre"``, ``"high"`` and ``"lesion"``; by default anything.
    """

    name: str
    pre: Path
    high: Path
    lesion: Path | None = None
    lesion_labels: tuple[int, ...] | None = None
    slices: int | None = None
    center: int | None = None
    sha256: Mapping[str, str] | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Its volumes, by what they are."""
        volumes = {"pre": self.pre, "high": self.high, "lesion": self.lesion}
        return {name: path for name, path in volumes.items() if path is not None}

    @property
    def study_id(self) -> str:
        """Name of its folders."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()


def read_examinations(source: Path) -> list[Examination]:
    """The examinations of a dataset folder or a JSON file.

    Raises:
        SystemExit: the file is not as expected, or a volume is missing or another one than its SHA-256 says.
    """
    if source.is_dir():
        return [_examination(study) for study in find_studies(source, ("pre", "high"))]
    try:
        entries = json.loads(source.read_text(encoding="utf-8"))
        examinations = []
        for name, entry in entries.items():
            volumes = {key: source.parent / entry.pop(key) for key in ("pre", "high", "lesion") if key in entry}
            labels = tuple(entry.pop("lesion_labels", ())) or None
            examinations.append(Examination(name, **volumes, lesion_labels=labels, **entry))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"{source}: expected JSON with pre, high and perhaps lesion, lesion_labels, slices, center and sha256 of "
            f"every examination by its name, got {error}"
        ) from error
    missing = [path for one in examinations for path in one.files.values() if not path.exists()]
    if missing:
        raise SystemExit(f"{source}: no such volume: {', '.join(map(str, missing))}")
    for one in examinations:
        for name, expected in (one.sha256 or {}).items():
            found = file_sha256(one.files[name]) if name in one.files else "no such volume"
            if found != expected:
                raise SystemExit(
                    f"{one.files.get(name, name)}: expected the SHA-256 {expected}, got {found}: get the image that "
                    f"{source} is of, or take its sha256 out to use another one"
                )
    if len({one.study_id for one in examinations}) < len(examinations):
        raise SystemExit(f"{source}: expected names that differ by more than punctuation")
    return examinations


def _examination(study: Study) -> Examination:
    try:
        study.check(("pre", "high"))
    except StudyError as error:
        raise SystemExit(str(error)) from error
    return Examination(study.study_id, study.members["pre"], study.members["high"], study.members.get("lesion"))


def read_lesion(examination: Examination, high: MetaTensor) -> MetaTensor:
    """The enhancing lesions as a mask on the grid of ``high``."""
    labels = LoadImage(image_only=True, ensure_channel_first=True)(str(examination.lesion))
    if labels.shape != high.shape or not torch.allclose(labels.affine, high.affine, atol=1e-3):
        raise SystemExit(f"{examination.name}: expected {examination.lesion} on the grid of {examination.high}")
    values = examination.lesion_labels
    mask = labels > 0 if values is None else torch.isin(labels, torch.tensor(values, dtype=labels.dtype))
    return MetaTensor(mask.as_subclass(torch.Tensor).float(), affine=high.affine)
