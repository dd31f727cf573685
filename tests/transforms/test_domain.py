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
"""Studies of another kind than the operator was trained on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.errors import StudyError
from monai_lipcar.transforms import CheckDomaind

Head = Callable[..., np.ndarray]
FITTING = {"head_mm": (100.0, 230.0), "noise": (None, 0.1), "enhancing_share": (0.01, None)}
TOO_WIDE = {**FITTING, "head_mm": (20.0, 100.0)}


@pytest.fixture(scope="module")
def study(head: Head, thick_slices: np.ndarray) -> dict[str, Any]:
    volumes = {
        name: head(thick_slices, (80, 96, 20), dose=dose, noise=4.0, seed=seed) / 1000.0
        for seed, (name, dose) in enumerate((("pre", 0.0), ("low", 0.2)))
    }
    return {
        "study_id": "sub-01",
        **{
            name: MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(thick_slices))
            for name, volume in volumes.items()
        },
    }


@pytest.mark.parametrize("policy", ["flag", "refuse"])
def test_a_study_of_the_kind(policy: str, study: dict[str, Any]) -> None:
    d = CheckDomaind(["pre", "low"], FITTING, policy)(study)
    assert d["low"] is study["low"]
    domain = d["domain"]
    assert domain["policy"] == policy
    assert domain["findings"] == []
    assert 150 < domain["measures"]["head_mm"] < 175
    assert domain["ranges"]["noise"] == [None, 0.1]
    assert json.loads(json.dumps(domain)) == domain


def test_a_study_of_another_kind_is_flagged(study: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        findings = CheckDomaind(["pre", "low"], TOO_WIDE)(study)["domain"]["findings"]
    (finding,) = findings
    assert finding.startswith("width of the head in mm: expected 20 to 100, got 16")
    assert f"study sub-01: out of domain ({finding})" in caplog.messages


def test_a_study_of_another_kind_is_refused(study: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="study sub-01: out of domain: refused .width of the head") as caught:
        CheckDomaind(["pre", "low"], TOO_WIDE, "refuse")(study)
    assert caught.value.study == "sub-01"
    assert caught.value.advice is not None
    assert "flag" in caught.value.advice


def test_a_study_that_is_not_looked_at(study: dict[str, Any]) -> None:
    assert "domain" not in CheckDomaind(["pre", "low"], TOO_WIDE, "ignore")(study)


def test_without_ranges_there_is_nothing_to_find(study: dict[str, Any]) -> None:
    domain = CheckDomaind(["pre", "low"], {}, "refuse")(study)["domain"]
    assert domain["findings"] == []
    assert domain["measures"]


def test_members_that_are_not_there(study: dict[str, Any]) -> None:
    check = CheckDomaind(["pre", "low"], FITTING, "refuse", allow_missing_keys=True)
    without = {key: value for key, value in study.items() if key != "pre"}
    assert "enhancing_share" not in check(without)["domain"]["measures"]
    assert "domain" not in check({"study_id": "sub-01"})
    with pytest.raises(KeyError):
        CheckDomaind(["pre", "low"], FITTING)(without)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "raise"}, "policy must be one of flag, refuse, ignore, got 'raise'"),
        ({"ranges": {"height": (1.0, 2.0)}}, "the feature 'height' is not known; there are head_mm"),
        ({"ranges": {"noise": (2.0, 1.0)}}, "noise: expected the lowest and the highest value"),
        ({"ranges": {"noise": (None, None)}}, "noise: expected the lowest and the highest value"),
        ({"ranges": {"noise": (1.0,)}}, "noise: expected the lowest and the highest value"),
        ({"keys": ["pre", "low", "high"]}, "expected one key or two, got pre, low, high"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckDomaind(**{"keys": ["pre", "low"], "ranges": {}, **arguments})
