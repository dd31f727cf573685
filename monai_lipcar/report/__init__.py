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
"""Figures and reports of finished results."""

from __future__ import annotations

from .cohort import INDEX_FILE, write_index
from .figure import Panel, best_slice, study_figure
from .study import REPORT_FILE, finished_studies, study_report
from .words import METRIC_NAMES

__all__ = [
    "INDEX_FILE",
    "METRIC_NAMES",
    "REPORT_FILE",
    "Panel",
    "best_slice",
    "finished_studies",
    "study_figure",
    "study_report",
    "write_index",
]
