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
"""Names for the arrays that travel through the package, so that signatures say which shape they mean."""

from __future__ import annotations

from typing import TypeAlias

import torch

__all__ = ["ImageBatch", "PerSample"]

ImageBatch: TypeAlias = torch.Tensor
"""(B, C, *spatial): a batch of slices or volumes, float32 in [0, 1]; input channels are always (pre, dose)."""

PerSample: TypeAlias = torch.Tensor
"""(B,): one number for each sample of a batch."""
