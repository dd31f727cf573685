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
"""The schedule of alpha, and the choice on validation slices."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.paper.alphas import best_alpha, scheduled


def test_the_schedule_passes_through_the_published_values() -> None:
    published = np.logspace(np.log10(6e-3), np.log10(0.1), 10)
    for index in range(7):  # noise 0 to 0.066
        assert scheduled(6e-3, 0.011 * index) == pytest.approx(published[index])


def test_the_schedule_starts_at_the_alpha_for_clean_data() -> None:
    assert scheduled(1e-3, 0.0) == pytest.approx(1e-3)


def test_the_best_alpha_has_the_highest_mean() -> None:
    rows = {
        0.1: {"a": {"ssim_head": 0.9}, "b": {"ssim_head": 0.5}},
        0.2: {"a": {"ssim_head": 0.8}, "b": {"ssim_head": 0.8}},
        0.4: {"a": {"ssim_head": 0.6}, "b": {"ssim_head": 0.9}},
    }
    assert best_alpha(rows) == 0.2
