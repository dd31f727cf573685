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
"""Ignite handlers that write results of studies, and what is written: records, failures, summaries."""

from __future__ import annotations

from .failed import FAILURES_FILE, add_failures, read_failures, write_failures
from .record import SCHEMA_VERSION, configuration_changes, input_hashes, result_record
from .results import ResultWriter
from .summary import write_summary

__all__ = [
    "FAILURES_FILE",
    "SCHEMA_VERSION",
    "ResultWriter",
    "add_failures",
    "configuration_changes",
    "input_hashes",
    "read_failures",
    "result_record",
    "write_failures",
    "write_summary",
]
