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
"""The MONAI Label app over the bundles: contrast agent reduction for viewers and scripts. Research use only."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from lib.datastore import NamedDatastore
from lib.task import BundleTask
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

import monai_lipcar
from monai_lipcar.bundle_folder import bundle_root
from monai_lipcar.cli_options import Bundle
from monai_lipcar.data.failures import without_paths
from monai_lipcar.data.studies import MEMBERS
from monai_lipcar.errors import LipcarError, StudyError

logger = logging.getLogger(__name__)


class LipcarApp(MONAILabelApp):
    """The bundles as models of a MONAI Label server.

    A request names the observed image (of the forward operators: the full dose) by its id in the datastore, and the
    other images in its parameters. ``--conf models ph2l_gentv,physics_tv`` offers some of the bundles only.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self._results = tempfile.TemporaryDirectory(prefix="monai-lipcar-")
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="Contrast agent reduction (monai_lipcar)",
            description="The image at full dose from one at reduced dose. Research use only, not for diagnosis.",
            version=monai_lipcar.__version__,
        )

    def init_infers(self) -> dict[str, BundleTask]:
        """A task for every bundle."""
        chosen = [name.strip() for name in self.conf.get("models", "").split(",") if name.strip()]
        names = chosen or [bundle.value for bundle in Bundle]
        return {name: BundleTask(name, Path(self._results.name)) for name in names}

    def init_datastore(self) -> Datastore:
        """The folder of images; a DICOMweb server, as MONAI Label has it."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return NamedDatastore(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Compute a request.

        Raises:
            HTTPException: 404 for a model or an image that is not there, 400 for a parameter and 422 for an image that
                cannot be used.
        """
        store = datastore or self.datastore()
        task = self._infers.get(request.get("model"))
        if task is None:
            raise HTTPException(404, f"there is no model {request.get('model')!r}; there are {', '.join(self._infers)}")
        image = request.get("image")
        members = {task.observed: _find(store, "image", image)}
        for role in MEMBERS:
            if role != task.observed and (request.get(role) or role in task.others):
                named = request.get(role) or _sibling(store, str(image), task.observed, role)
                if named == image:
                    raise HTTPException(400, f"{role}: {named!r} is the image itself; give the id of another one")
                members[role] = _find(store, role, named)
        try:
            file, record = task({**request, "members": members})
        except StudyError as error:
            raise HTTPException(422, str(error)) from error
        except LipcarError as error:
            raise HTTPException(400, without_paths(str(error), [Path(bundle_root(task.name)).parent])) from error
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
        label = file
        if request.get("save_label"):
            label = store.save_label(image, file, tag, {"model": task.name, "params": record})
        return {"label": label, "tag": tag, "file": file, "params": record}


def _find(store: Datastore, role: str, image_id: Any) -> Path:
    """The file of an image; only what the datastore lists is ever opened."""
    if not isinstance(image_id, str) or image_id not in store.list_images():
        is_path = isinstance(image_id, str) and ("/" in image_id or "\\" in image_id)
        advice = "upload it first (PUT /datastore/image?image=ID)"
        if is_path or not isinstance(image_id, str):
            raise HTTPException(400, f"{role}: expected the id of an image of the datastore, no path or file; {advice}")
        raise HTTPException(404, f"{role}: there is no image {image_id!r} in the datastore; {advice}")
    return Path(store.get_image_uri(image_id))


def _sibling(store: Datastore, image_id: str, observed: str, role: str) -> str:
    """The id that belongs to an image by its name: ``rat1_pre`` to ``rat1_low``."""
    before, found, after = image_id.rpartition(observed)
    name = f"{before}{role}{after}" if found else ""
    if name not in store.list_images():
        tried = f" (by its name it would be {name!r}, which is not there)" if found else ""
        raise HTTPException(400, f"{role}: expected the id of the image that belongs to {image_id!r}{tried}")
    return name
