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
"""Drawn scanners: in range, and what they change in a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_lipcar.data.phantom import draw_scanner, simulate_study, study_scanner, write_cohort
from monai_lipcar.data.studies import find_studies

SMALL = {"shape": (48, 48, 3)}


def test_draws_are_in_range_and_the_usual_dose_is_frequent() -> None:
    rng = np.random.default_rng(0)
    scanners = [draw_scanner(rng) for _ in range(300)]
    fractions = np.array([scanner.protocol.dose_fraction for scanner in scanners])
    assert 0.08 <= fractions.min() < 0.1
    assert 0.4 < fractions.max() <= 0.45
    assert np.mean(np.isclose(fractions, 0.2)) == pytest.approx(1 / 3, abs=0.1)
    assert all(3.5 <= scanner.agent.r1 <= 14 and scanner.agent.r2 > scanner.agent.r1 for scanner in scanners)
    assert all(0.6 <= scanner.uptake_factor * scanner.agent.r1 / 11.6 <= 1.6 for scanner in scanners)


def test_a_varied_cohort_differs_in_dose_and_says_so(tmp_path: Path) -> None:
    write_cohort(tmp_path, "random", 3, seed=5, anatomy_options=SMALL, vary_scanner=True, progress=False)
    expected = [study_scanner("random", number, 5).protocol.dose_fraction for number in (1, 2, 3)]
    found = [study.acquisition.dose_fraction for study in find_studies(tmp_path) if study.acquisition]
    assert found == pytest.approx(expected)
    assert len(set(expected)) > 1
    assert find_studies(tmp_path)[0].acquisition == study_scanner("random", 1, 5).acquisition
    assert json.loads((tmp_path / "cohort.json").read_text())["random"]["agent"] == "drawn for each study"


def test_anatomy_is_the_same_with_every_scanner() -> None:
    plain_maps, plain = simulate_study("random", 2, seed=5, anatomy_options=SMALL)
    maps, volumes = simulate_study("random", 2, seed=5, anatomy_options=SMALL, vary_scanner=True)
    factor = study_scanner("random", 2, 5).uptake_factor
    np.testing.assert_array_equal(maps.t1_ms, plain_maps.t1_ms)
    np.testing.assert_allclose(maps.uptake_mm, factor * plain_maps.uptake_mm, rtol=1e-5)
    assert not np.allclose(volumes["low"], plain["low"])
