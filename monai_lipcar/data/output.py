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
"""Results of one study on disk: written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from monai_lipcar.data.atomic import read_json, replacing
from monai_lipcar.data.studies import Study
from monai_lipcar.errors import ConfigurationError, StudyError

__all__ = [
    "DERIVED_FILE",
    "DERIVED_FOLDER",
    "RESULT_FILE",
    "StudyOutput",
    "path_from",
    "refuse_input_folders",
    "refuse_links",
    "write_volume",
]

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"
DERIVED_FOLDER = "dicom"
"""Folder of the derived DICOM series in that of a result."""
DERIVED_FILE = "derived.json"
"""In that folder: which series are there, and what they were made of."""
_OF_A_RESULT = ("high_sim.nii.gz", "low_sim.nii.gz", "residual.nii.gz", "figure.png", "report.html")


class StudyOutput:
    """The folder ``<output_dir>/<study_id>`` of a result.

    A result counts as finished when its ``result.json`` is there, which is put in place last: a run that is killed
    leaves a finished result or none.

    Args:
        output_dir: folder of all results.
        study_id: names the study's folder.
    """

    def __init__(self, output_dir: str | Path, study_id: str) -> None:
        self.study_id = study_id
        self.output_dir = Path(output_dir)
        self.folder = self.output_dir / study_id

    @property
    def result_file(self) -> Path:
        """``result.json`` of this study."""
        return self.folder / RESULT_FILE

    def read(self) -> dict[str, Any] | None:
        """The finished result's record, or None where there is none (or none that can be read)."""
        try:
            content = read_json(self.result_file)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, volumes: Mapping[str, MetaTensor], record: Mapping[str, Any]) -> dict[str, Path]:
        """Write volumes as ``<name>.nii.gz`` (float32) and the record as ``result.json``.

        Everything is written beside its place first; a failure (a full disk, say) removes what was written and
        leaves an older result untouched.

        Args:
            volumes: name to channel-first volume (1, X, Y, Z) with its affine.
            record: what goes into ``result.json``.

        Returns:
            Paths of the files, by name; the record's is ``"result"``.

        Raises:
            StudyError: the folder cannot be written to, or is a link, or the disk is full.
        """
        refuse_links(self.output_dir, self.folder, self.study_id)
        places = {name: self.folder / f"{name}.nii.gz" for name in volumes}
        # the last one in is the first one to be put in place: the record comes last
        files = [self.result_file, *reversed(places.values())]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                partial = {file: stack.enter_context(replacing(file)) for file in files}
                for name, volume in volumes.items():
                    write_volume(volume, partial[places[name]])
                text = json.dumps(record, indent=2, allow_nan=False) + "\n"
                partial[self.result_file].write_text(text, encoding="utf-8")
                for path in partial.values():
                    _flush(path)
                # from here on only renames: with the old record gone the folder counts as unfinished until the new one
                self.result_file.unlink(missing_ok=True)
                for name in {*_OF_A_RESULT} - {place.name for place in places.values()}:
                    (self.folder / name).unlink(missing_ok=True)  # of an older result, which it must not be mixed with
                shutil.rmtree(self.folder / DERIVED_FOLDER, ignore_errors=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StudyError(
                f"the result cannot be written to {self.folder} ({reason})",
                study=self.study_id,
                advice="free space or choose another --output_dir, then run again: finished studies are skipped",
            ) from error
        finally:
            with suppress(OSError):  # a folder that nothing was written to
                self.folder.rmdir()
        return {**places, "result": self.result_file}


def refuse_input_folders(
    output_dir: str | Path, studies: Sequence[Study], dataset_dir: str | Path | None = None
) -> None:
    """Refuse to write results where the inputs are: nothing is ever added to a dataset, or changed in it.

    Args:
        output_dir: folder of the results, which get ``<output_dir>/<study_id>/``.
        studies: the inputs.
        dataset_dir: the dataset folder that the studies were found in; results inside would be taken for studies.

    Raises:
        ConfigurationError: ``output_dir`` is or lies in the dataset folder, or a result's folder is, lies in or
            contains a study's folder.
    """
    out = Path(output_dir).resolve()
    advice = "inputs are never changed; choose another folder to write to"
    if dataset_dir is not None and out.is_relative_to(dataset := Path(dataset_dir).resolve()):
        relation = "is" if out == dataset else "lies in"
        message = f"the output folder {output_dir} {relation} the dataset folder {dataset_dir}: {advice}"
        raise ConfigurationError(message)
    for study in studies:
        place = out / study.study_id
        for path in study.members.values():
            inputs = path.resolve().parent
            # files of several studies may share a folder; one that is named like the study is the study's own
            inside = inputs.name == study.study_id and place.is_relative_to(inputs)
            if inputs.is_relative_to(place) or inside or place.is_relative_to(path.resolve()):
                raise ConfigurationError(
                    f"the output folder {output_dir} would put results of study {study.study_id} among its inputs in "
                    f"{path.parent}: {advice}"
                )


def refuse_links(output_dir: str | Path, place: Path, study: str) -> None:
    """Refuse to write through symbolic links inside the folder of the results: they lead out of it, to other files.

    The folder itself may be a link, which whoever named it wants.

    Args:
        output_dir: folder of the results.
        place: where to write, in that folder.
        study: whose results, for the message.

    Raises:
        StudyError: ``place``, or a folder on the way to it, is a link.
    """
    root = Path(output_dir)
    for path in (place, *place.parents):
        if path == root:
            return
        if path.is_symlink():
            raise StudyError(
                f"expected a folder, found the symbolic link {path}: results are never written through links",
                study=study,
                advice="remove the link, or choose another output folder",
            )


def path_from(folder: str | Path, path: Path) -> str | None:
    """Path of an input relative to the folder of the results, for a record that may be passed on.

    A relative path must not say more than where things lie inside one project: where the way to the input leads over
    the root, a folder right below it, or the folder of all home directories, it would name users and machines.

    Args:
        folder: folder of the results.
        path: the input.

    Returns:
        The relative path with forward slashes, or None.

    Example:
        >>> path_from("/data/trial/results", Path("/data/trial/rats/rat-0001/pre.nii.gz"))
        '../rats/rat-0001/pre.nii.gz'
        >>> path_from("/results/first", Path("/rats/rat-0001/pre.nii.gz")) is None
        True
    """
    start, target = Path(os.path.abspath(folder)), Path(os.path.abspath(path))
    try:
        common = Path(os.path.commonpath([start, target]))
    except ValueError:  # two drives
        return None
    if len(common.parts) < 3 or common.name.lower() in ("home", "users"):
        return None
    return Path(os.path.relpath(target, start)).as_posix()


def write_volume(volume: MetaTensor, path: Path) -> None:
    """Write a channel-first volume (1, X, Y, Z) as NIfTI, float32, on its own affine."""
    # nibabel itself: MONAI's NibabelWriter takes a volume of three slices for a color image
    import nibabel as nib

    array = volume.as_tensor().detach().cpu().to(torch.float32).numpy()[0]
    image = nib.nifti1.Nifti1Image(array, volume.affine.detach().cpu().numpy())
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
