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
"""The learned operator, its weights files and its training loss."""

from __future__ import annotations

from .compiled import compile_operator
from .inference import prepare_for_inversion
from .losses import SSIML1Loss
from .operator import DoseOperator, Skeleton
from .precision import Bfloat16Operator, has_fast_bfloat16, in_bfloat16
from .weights import file_sha256, load_weights, save_weights

__all__ = [
    "Bfloat16Operator",
    "DoseOperator",
    "SSIML1Loss",
    "Skeleton",
    "compile_operator",
    "file_sha256",
    "has_fast_bfloat16",
    "in_bfloat16",
    "load_weights",
    "prepare_for_inversion",
    "save_weights",
]
