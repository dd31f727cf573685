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
"""What a cohort takes, from the runs over one study and over several."""

from __future__ import annotations

import os
import resource

import pytest

from benchmarks.cohort_throughput import extrapolated, memory_of


def test_a_thousand_studies_along_straight_lines() -> None:
    one = {"seconds": 10.0, "peak_mib": 900.0, "written_mib": 12.0}
    several = {"seconds": 30.0, "peak_mib": 910.0, "written_mib": 132.0}
    found = extrapolated(one, several, 11, growth=1.0)
    assert found["seconds_each"] == 2.0
    assert found["studies_per_hour"] == 1800.0
    assert found["hours_cohort"] == pytest.approx((10.0 + 999 * 2.0) / 3600, abs=0.005)
    assert found["peak_mib_cohort"] == 910.0 + 989
    assert found["written_gib_cohort"] == pytest.approx((12.0 + 999 * 12.0) / 1024, abs=0.05)


def test_less_memory_after_more_studies_is_no_gain() -> None:
    run = {"seconds": 10.0, "peak_mib": 900.0, "written_mib": 12.0}
    later = {"seconds": 30.0, "peak_mib": 890.0, "written_mib": 132.0}
    assert extrapolated(run, later, 11, growth=-0.1)["peak_mib_cohort"] == 890.0


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read as on Linux")
def test_memory_of_this_process() -> None:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0.2 * most < memory_of(os.getpid()) < 5 * most
