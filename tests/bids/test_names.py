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
from __future__ import annotations

import pytest

from monai_lipcar.bids import BidsName, parse_entities
from monai_lipcar.errors import ConfigurationError


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_T1w.nii.gz",
        "sub-01_ses-pre+post_acq-hr_ce-gd_run-02_T1w.nii",
        "T1w.json",
        "sub-01_task-rest_bold.nii.gz",
        "sub-01_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz",
    ],
)
def test_names_of_the_standard_come_back(name: str) -> None:
    parsed = BidsName.parse(name)
    assert parsed is not None
    assert str(parsed) == name


@pytest.mark.parametrize(
    "name", ["sub-01_ce-gd-low_T1w.nii.gz", "sub-01_T1w", "sub-01__T1w.nii", "sub-01_run-1_run-2_T1w.nii", "a b.nii"]
)
def test_what_is_no_name(name: str) -> None:
    assert BidsName.parse(name) is None


def test_entities_are_put_in_order() -> None:
    name = BidsName.parse("sub-01_run-1_ce-low_acq-se_T1w.nii.gz")
    assert name is not None
    renamed = name.with_entities({"desc": "simulated", "ce": "full"}, without=("run",))
    assert str(renamed) == "sub-01_acq-se_ce-full_desc-simulated_T1w.nii.gz"
    assert str(name.with_entities({"made": "up"})) == "sub-01_acq-se_ce-low_run-1_made-up_T1w.nii.gz"


@pytest.mark.parametrize("text", ["low", "ce-", "ce_low", "ce-low_", "sub-01", "ses-1_ce-low", "foo-bar", "ce-a b"])
def test_entities_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected entities "):
        parse_entities(text)


def test_no_entities() -> None:
    assert parse_entities("") == {}
