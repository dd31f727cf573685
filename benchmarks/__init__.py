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
"""Measurements: the reproduction of the paper, and comparisons of speed and accuracy. No part of the package."""

from __future__ import annotations

import os

# before torch, which reads it when it is loaded: threads that wait for each other would keep the cores busy
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
