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
"""The ranges of the training are those that were measured, and the cases are what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from benchmarks.domain import COHORTS, FAMILIES, RESULTS, ranges
from benchmarks.domain_cases import CASES_SEED, NAMES, Volumes, describe, dicom_cases, faults
from benchmarks.paper.training_cohort import PARTS
from monai_lipcar.transforms.domain_features import FEATURES, out_of_range

REPOSITORY = Path(__file__).resolve().parents[2]


def test_ranges_are_a_quarter_wider_where_a_side_is_judged() -> None:
    rows = {
        "a": {"head_mm": 100.0, "noise": 0.02, "negative": 0.0, "dose_order": 0.8},
        "b": {"head_mm": 200.0, "noise": 0.1, "negative": 0.0},
    }
    assert ranges(rows) == {
        "head_mm": [80.0, 250.0],
        "negative": [None, 0.01],
        "noise": [None, 0.125],
        "dose_order": [0.64, None],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bundles_have_the_ranges_that_were_measured(family: str) -> None:
    content = json.loads(RESULTS.read_text())
    measured = content["ranges"][family]
    assert measured == ranges(content["features"][family])
    assert set(measured) == set(FEATURES)
    for row in content["features"][family].values():
        assert out_of_range(row, {name: (low, high) for name, (low, high) in measured.items()}) == []
    for bundle in FAMILIES[family][1]:
        metadata = json.loads((REPOSITORY / "bundles" / bundle / "configs" / "metadata.json").read_text())
        assert metadata["domain"] == measured


def test_no_seed_is_trained_on_or_used_twice() -> None:
    seeds = [seed for _, seed, _, _ in COHORTS.values()]
    assert len({*seeds, CASES_SEED}) == len(seeds) + 1
    assert not {*seeds, CASES_SEED} & {part.seed for part in PARTS}


@pytest.fixture
def study() -> Volumes:
    rng = np.random.default_rng(0)
    pre = rng.normal(2.0, 0.5, (1, 32, 40, 4)).clip(0)
    pre[:, 8:24, 8:32] += 100.0
    pre[:, 8:24, 8:20] += 100.0
    low = pre.copy()
    low[:, 10:14, 10:14] += 20.0
    affine = torch.diag(torch.tensor([1.0, 2.0, 8.0, 1.0]))
    return {name: MetaTensor(torch.from_numpy(volume), affine=affine) for name, volume in (("pre", pre), ("low", low))}


def test_faults(study: Volumes) -> None:
    found = faults(study, lambda amount: study["pre"] * amount, "a")
    assert set(found) <= set(NAMES)
    pre, low = study["pre"], study["low"]
    assert found["exchanged"] == {"pre": low, "low": pre}
    torch.testing.assert_close(found["low upside down"]["low"].as_tensor(), low.as_tensor().flip(3).float())
    assert found["twice the agent in pre"]["pre"].mean() == pytest.approx(2.0 * float(pre.mean()))
    assert float(found["standardized"]["low"].mean()) == pytest.approx(0.0, abs=1e-5)
    assert found["ten times"]["pre"].affine.diagonal().tolist() == [10.0, 20.0, 80.0, 1.0]
    assert found["coarse"]["low"].shape == (1, 8, 10, 4)
    assert found["coarse"]["low"].affine.diagonal().tolist() == [4.0, 8.0, 8.0, 1.0]
    assert found["cut out"]["low"].shape == (1, 16, 20, 4)
    assert float(found["spikes"]["low"].max()) > 5 * float(low.max())
    tissue = pre > 50
    assert np.corrcoef(found["low inverted"]["low"][tissue], pre[tissue])[0, 1] < -0.9
    assert "half the agent in pre" not in faults(study, None, "a")


def test_cases_from_dicom() -> None:
    cases = list(dicom_cases())
    assert [case.fault for case in cases] == [
        "CT of a head, HU",
        "CT of a head, HU + 1024",
        "CT of a spine, HU",
        "CT of a spine, HU + 1024",
        "MR of an abdomen",
    ]
    for case in cases:
        assert not case.good
        assert case.volumes["pre"].shape == case.volumes["low"].shape
    assert float(cases[0].volumes["pre"].min()) < -900
    assert float(cases[1].volumes["pre"].min()) >= 0


def test_the_table() -> None:
    base = {"registration": None, "findings": [], "verdict": None}
    rows = [
        {**base, "source": "head", "fault": "as acquired", "good": True},
        {**base, "source": "head", "fault": "noise 0.2", "good": False, "findings": ["noise: expected at most 0.1"]},
        {**base, "source": "head", "fault": "exchanged", "good": False, "registration": "passes",
         "verdict": {"level": "look"}},
        {**base, "source": "CT", "fault": "CT", "good": False, "findings": None, "failed": "too small"},
    ]  # fmt: skip
    table = describe(rows)
    assert "| head | noise 0.2 |  | noise |  |" in table
    assert "| head | exchanged | passes | passes | look |" in table
    assert "| CT | CT |  | too small |  |" in table
    assert "0 false alarms in 1 studies; of 3 studies with faults the domain check alone finds 2" in table
