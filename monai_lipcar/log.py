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
"""What the libraries underneath say that is of no use to the user."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet_libraries", "quiet_readers"]


def quiet_readers() -> None:
    """Leave out what readers of DICOM say beside their errors.

    MONAI warns, for every file that cannot be read, that its GPU decoder is not installed. pydicom quotes values that
    are not as the standard wants them, and a value may be a patient's name.
    """
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*nvImageCodec decoder plugin")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def quiet_libraries() -> None:
    """Leave the terminal to this package: no start and end of ignite's engines, no notes of MONAI's bundle reader."""
    quiet_readers()
    logging.getLogger("ignite").setLevel(logging.WARNING)
    # a filter, because MONAI sets the level of its loggers, whose handler writes to standard output, on import
    logging.getLogger("monai.bundle.workflows").addFilter(lambda record: record.levelno >= logging.ERROR)
