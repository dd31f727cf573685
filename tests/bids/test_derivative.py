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

from monai_lipcar.bids import derivative_name, find_sessions, parse_entities, pick_images, write_derivative
from monai_lipcar.data import Study
from monai_lipcar.errors import StudyError


@pytest.fixture
def named(touch):
    """Names of the images made of a session, without the subject."""

    def named(*images, given=(), kinds=("high_sim",), required=("pre", "low")):
        files = [f"sub-01/anat/sub-01{'_' if image else ''}{image}_T1w.nii" for image in images]
        entities = {member: parse_entities(text) for member, text in dict(given).items()}
        picks, _ = pick_images(find_sessions(touch(*files))[0], entities, required)
        return [str(derivative_name(kind, picks, entities)).removeprefix("sub-01_") for kind in kinds]

    return named


@pytest.mark.parametrize(
    ("images", "given", "expected"),
    [
        (["", "ce-low"], {}, "ce-full_desc-simulated_T1w.nii.gz"),
        (["", "ce-low", "ce-gd"], {}, "ce-full_desc-simulated_T1w.nii.gz"),
        (["", "ce-low", "ce-gd"], {"high": "ce-gd"}, "ce-gd_desc-simulated_T1w.nii.gz"),
        (["run-1", "ce-gd25pct_run-1"], {}, "ce-full_run-1_desc-simulated_T1w.nii.gz"),
        (["", "acq-lowdose_ce-gd"], {}, "acq-full_ce-gd_desc-simulated_T1w.nii.gz"),
        (["", "acq-low_ce-gd"], {"low": "acq-low_ce-gd"}, "acq-full_ce-gd_desc-simulated_T1w.nii.gz"),
        (
            ["", "acq-a_ce-gd", "acq-b_ce-gd"],
            {"low": "acq-a", "high": "acq-b_ce-gd"},
            "acq-b_ce-gd_desc-simulated_T1w.nii.gz",
        ),
        (["", "acq-a"], {"pre": "", "low": "acq-a"}, "acq-full_desc-simulated_T1w.nii.gz"),
        (["", "rec-a_ce-gd_run-1"], {"low": "run-1"}, "ce-full_rec-a_run-1_desc-simulated_T1w.nii.gz"),
        (["desc-preproc", "ce-low_desc-preproc"], {}, "ce-full_desc-simulated_T1w.nii.gz"),
    ],
)
def test_named_like_an_image_of_the_dose_that_it_shows(named, images, given, expected) -> None:
    assert named(*images, given=given) == [expected]


def test_residual_and_enhancement(named) -> None:
    assert named("", "ce-low_run-1", kinds=("residual", "enhancement")) == [
        "ce-low_run-1_desc-residual_T1w.nii.gz",
        "ce-full_run-1_desc-enhancement_T1w.nii.gz",
    ]


@pytest.mark.parametrize(
    ("images", "given", "expected"),
    [
        (["", "ce-full"], {}, "ce-low_desc-simulated_T1w.nii.gz"),
        (["", "ce-gd"], {"low": "ce-tenth"}, "ce-tenth_desc-simulated_T1w.nii.gz"),
    ],
)
def test_simulated_low_dose(named, images, given, expected) -> None:
    assert named(*images, given=given, kinds=("low_sim",), required=("pre", "high")) == [expected]


def test_no_result(touch, tmp_path) -> None:
    root = touch("sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_ce-low_T1w.nii")
    (session,) = find_sessions(root)
    with pytest.raises(StudyError, match="study sub-01: no finished result in .*; run it first"):
        write_derivative(Study("sub-01", {}), session, pick_images(session)[0], tmp_path / "out")
