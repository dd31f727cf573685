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
"""Studies on disk, their split, and their slices for training."""

from __future__ import annotations

from monai_lipcar.data.datalist import SECTIONS, list_studies, load_datalist, write_datalist
from monai_lipcar.data.failures import explain_failure
from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.data.sample import sample_dataset_dir
from monai_lipcar.data.slices import SliceDataset, SliceSampler
from monai_lipcar.data.split import split_studies, subject_of
from monai_lipcar.data.studies import MEMBERS, Study, find_studies

__all__ = [
    "MEMBERS",
    "SECTIONS",
    "SliceDataset",
    "SliceSampler",
    "Study",
    "explain_failure",
    "find_studies",
    "list_studies",
    "load_datalist",
    "sample_dataset_dir",
    "slice_axis",
    "split_studies",
    "subject_of",
    "write_datalist",
]
