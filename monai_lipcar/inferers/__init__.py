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
"""MONAI inferers: apply an operator to a volume, or invert it."""

from __future__ import annotations

from .automatic import AlphaChoice, GuessChoice
from .lip import LIPInferer, SolveRecord
from .operator import OperatorInferer, volume_slice_axis
from .slicewise import SlicewiseOperator

__all__ = [
    "AlphaChoice",
    "GuessChoice",
    "LIPInferer",
    "OperatorInferer",
    "SlicewiseOperator",
    "SolveRecord",
    "volume_slice_axis",
]
