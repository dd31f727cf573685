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
"""The comparison of proximal maps."""

from __future__ import annotations

import torch

from benchmarks.race.maps import GAP, WEIGHTS, compare
from benchmarks.race.peer import load_deepinv


def test_both_are_as_near_to_the_minimum() -> None:
    threads = torch.get_num_threads()
    image = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    rows = compare(image, load_deepinv(), repeats=1)
    assert [row["weight"] for row in rows] == list(WEIGHTS)
    for row in rows:
        assert row["bound_error"] < 1e-5
        assert -1e-6 <= row["prox_tv_excess"] <= GAP
        assert row["prox_tv_ms"] > 0
        if "deepinv_ms" in row:
            assert row["deepinv_excess"] <= GAP
    assert torch.get_num_threads() == threads
