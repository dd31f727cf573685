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
"""One bundle as an inference task of MONAI Label: the bundle's own run, on images of the datastore."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.transform.writer import write_itk

from lib.parameters import defaults, read_extension, read_options, read_volume
from monai_lipcar.bundle import run_studies
from monai_lipcar.bundle_folder import bundle_metadata, bundle_root
from monai_lipcar.data import Study, write_datalist
from monai_lipcar.data.output import StudyOutput
from monai_lipcar.errors import StudyError
from monai_lipcar.handlers.failed import read_failures

__all__ = ["BundleTask"]

logger = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.Lock()
"""A solve uses all cores, or much of a GPU's memory."""


class BundleTask(InferTask):
    """A bundle, run as ``python -m monai.bundle run`` runs it.

    Viewers take the results of MONAI Label for label masks and ask for whole numbers; this task answers with float32,
    in the scanner's units, whatever they ask for.

    Args:
        name: the bundle.
        folder: where results are computed. Only the latest is kept there: asking for its residual, or for another
            file format, computes nothing.

    Raises:
        ConfigurationError: the bundle is not found.
    """

    def __init__(self, name: str, folder: Path) -> None:
        root = Path(bundle_root(name))
        self.name = name
        self.bundle_config: dict[str, Any] = ConfigParser.load_config_file(str(root / "configs" / "inference.json"))
        *others, self.observed = self.bundle_config["dataset"]["required"]
        self.others = tuple(others)
        inverse_problem = "alpha" in self.bundle_config
        self.volumes = (self.bundle_config["writer"]["output_name"], *(["residual"] if inverse_problem else []))
        self.version = bundle_metadata(root).get("version")
        self._folder = folder
        super().__init__(
            type=InferType.OTHERS,
            labels=[],
            dimension=3,
            description=f"{bundle_metadata(root)['description']} Research use only, not for diagnosis.",
            config=defaults(self.bundle_config, self.others, self.volumes),
        )

    def info(self) -> dict[str, Any]:
        """What clients are told about the task."""
        return {**super().info(), "version": self.version, "observed": self.observed}

    def is_valid(self) -> bool:
        """A bundle that is not there was refused when the server started."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Compute a request.

        Args:
            request: the parameters, the id ``"image"``, and under ``"members"`` the path of each image by its role.

        Returns:
            A file for the answer, which whoever answers removes, and the content of ``result.json``.

        Raises:
            LipcarError: a parameter or an image that cannot be used.
        """
        options = read_options(request, self.bundle_config)
        volume, extension = read_volume(request, self.volumes), read_extension(request)
        study = Study(str(request["image"]), request["members"])
        with _ONE_AT_A_TIME:
            output = self._compute(study, options)
            record = output.read() or {}
            with tempfile.NamedTemporaryFile(prefix=f"{volume}-", suffix=extension, delete=False) as file:
                pass
            _write(output.folder / f"{volume}.nii.gz", Path(file.name), bool(request.get("result_compress")))
        return file.name, {**record, "volume": volume, "label_names": []}

    def _compute(self, study: Study, options: Mapping[str, Any]) -> StudyOutput:
        files = {
            role: (str(path), path.stat().st_mtime_ns, path.stat().st_size) for role, path in study.members.items()
        }
        key = hashlib.sha256(json.dumps([self.name, study.study_id, files, options]).encode()).hexdigest()[:16]
        for older in self._folder.iterdir():
            if older.name != key:
                shutil.rmtree(older)
        folder = self._folder / key
        folder.mkdir(exist_ok=True)
        datalist = folder / "datalist.json"
        write_datalist(datalist, {"test": [study]})
        run = run_studies(self.name, folder, folder / "output", datalist_file=str(datalist), **options)
        if run.status:
            reason = read_failures(folder / "output").get(study.study_id, "see the server's log")
            raise StudyError(reason, study=study.study_id)
        return StudyOutput(folder / "output", study.study_id)


def _write(source: Path, target: Path, compress: bool) -> None:
    if target.name.endswith(".nii.gz"):
        shutil.copyfile(source, target)
        return
    image = nib.nifti1.load(source)
    array = np.asarray(image.dataobj)
    if target.suffix == ".nii":
        nib.save(nib.nifti1.Nifti1Image(array, image.affine, image.header), target)
    else:
        write_itk(array, str(target), image.affine, np.float32, compress)
