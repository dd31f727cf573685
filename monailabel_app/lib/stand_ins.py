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
"""MONAI Label starts without two packages of which this app uses nothing.

MONAI Label 0.8.5 imports them when it starts. torchvision writes debugging images; builds for CUDA cannot be imported
beside a torch for CPU. pydicom-seg makes DICOM SEG of masks; its last release cannot be imported beside pydicom 3, and
that is what this project reads DICOM with. Where they can be imported they are used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["provide"]

_ATTRIBUTES: dict[str, tuple[str, ...]] = {"torchvision.utils": ("make_grid", "save_image"), "pydicom_seg": ()}
"""Module to what MONAI Label imports of it."""


def provide() -> list[str]:
    """Put a stand-in, which only says that it is one, in the place of each module that cannot be imported.

    Returns:
        Names of the modules that have one.
    """
    return [name for name in _ATTRIBUTES if not _can_be_imported(name)]


def _can_be_imported(name: str) -> bool:
    package = name.partition(".")[0]
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # torchvision's is a RuntimeError
        for loaded in [module for module in sys.modules if module.partition(".")[0] == package]:
            del sys.modules[loaded]
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            sys.modules[".".join(parts[:end])] = ModuleType(parts[end - 1], "stand-in of the MONAI Label app")
        for attribute in _ATTRIBUTES[name]:
            setattr(sys.modules[name], attribute, _refuse(f"{name}.{attribute}"))
        return False
    return True


def _refuse(what: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ModuleNotFoundError(f"{what} cannot be imported in this environment, and is not needed by this app")

    return refuse
