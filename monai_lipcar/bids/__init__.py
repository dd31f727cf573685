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
"""BIDS in and out: sessions of a dataset as studies, results as a derivative dataset."""

from monai_lipcar.bids.dataset import Image, Session, find_sessions
from monai_lipcar.bids.derivative import KINDS, derivative_name, write_derivative
from monai_lipcar.bids.names import BidsName, parse_entities
from monai_lipcar.bids.pipeline import BidsRun, run_bids
from monai_lipcar.bids.selection import Pick, pick_images

__all__ = [
    "KINDS",
    "BidsName",
    "BidsRun",
    "Image",
    "Pick",
    "Session",
    "derivative_name",
    "find_sessions",
    "parse_entities",
    "pick_images",
    "run_bids",
    "write_derivative",
]
