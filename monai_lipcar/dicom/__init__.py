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
"""DICOM in and out: examinations as archives export them, results as derived series of them."""

from monai_lipcar.dicom.derived import KINDS, Source, write_derived
from monai_lipcar.dicom.importing import Examination, Imported, find_examinations, import_examination
from monai_lipcar.dicom.pipeline import FolderRun, SeriesChoice, run_folder
from monai_lipcar.dicom.results import write_derived_series
from monai_lipcar.dicom.rules import DEFAULT_RULES, SeriesRules, load_rules
from monai_lipcar.dicom.selection import Pick, pick_series
from monai_lipcar.dicom.series import Series, scan_folder
from monai_lipcar.dicom.volume import read_volume, slices_of

__all__ = [
    "DEFAULT_RULES",
    "KINDS",
    "Examination",
    "FolderRun",
    "Imported",
    "Pick",
    "Series",
    "SeriesChoice",
    "SeriesRules",
    "Source",
    "find_examinations",
    "import_examination",
    "load_rules",
    "pick_series",
    "read_volume",
    "run_folder",
    "scan_folder",
    "slices_of",
    "write_derived",
    "write_derived_series",
]
