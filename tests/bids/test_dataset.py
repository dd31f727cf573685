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

from monai_lipcar.bids import find_sessions
from monai_lipcar.errors import ConfigurationError


def test_sessions_with_and_without_a_folder_of_their_own(touch) -> None:
    root = touch(
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii",
        "sub-02/ses-a/anat/sub-02_ses-a_ce-low_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_T2w.nii.gz",
        "sub-02/ses-c/func/sub-02_ses-c_task-rest_bold.nii.gz",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-03/dwi/sub-03_dwi.nii.gz",
        "sourcedata/sub-04/anat/sub-04_T1w.nii.gz",
    )
    sessions = find_sessions(root)
    assert [session.study_id for session in sessions] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert [str(image) for image in sessions[1].images] == [
        "sub-02_ses-a_T1w.nii.gz",
        "sub-02_ses-a_ce-low_T1w.nii.gz",
    ]
    assert sessions[1].folders == ("sub-02", "ses-a")


def test_what_is_no_candidate(touch, caplog) -> None:
    root = touch(
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
        "sub-01/anat/sub-01_ce-gd-low_T1w.nii.gz",
        "sub-01/anat/sub-02_T1w.nii.gz",
        "sub-01/anat/sub-01_ses-1_T1w.nii.gz",
    )
    (session,) = find_sessions(root)
    assert [str(image) for image in session.images] == ["sub-01_T1w.nii.gz"]
    passed_over = [line.partition(" is passed over")[0] for line in caplog.messages]
    assert passed_over == ["sub-01_ce-gd-low_T1w.nii.gz", "sub-01_ses-1_T1w.nii.gz", "sub-02_T1w.nii.gz"]


@pytest.mark.parametrize(
    ("name", "sidecar", "expected"),
    [
        ("_T1w", {}, False),
        ("_T1w", {"ContrastBolusIngredient": "NONE"}, False),
        ("_T1w", {"ContrastBolusIngredient": "GADOLINIUM"}, True),
        ("_ce-gadobutrol_T1w", {}, True),
        ("_ce-preload_T1w", {}, True),
        ("_ce-none_T1w", {"ContrastBolusIngredient": "GADOLINIUM"}, False),
        ("_ce-preContrast_T1w", {}, False),
        ("_ce-0pct_T1w", {}, False),
        ("_ce-10pct_T1w", {}, True),
    ],
)
def test_with_agent(touch, name, sidecar, expected) -> None:
    root = touch(f"sub-01/anat/sub-01{name}.nii.gz", json={f"sub-01/anat/sub-01{name}.json": sidecar})
    assert find_sessions(root)[0].images[0].with_agent is expected


def test_lesions_are_masks_that_say_so(touch) -> None:
    anat = "sub-01/ses-1/anat/sub-01_ses-1"
    lesions = [
        f"derivatives/manual/{anat}_label-lesion_mask.nii.gz",
        f"derivatives/{anat}_desc-enhancingTumor_mask.nii.gz",
    ]
    root = touch(
        f"{anat}_T1w.nii.gz",
        *lesions,
        f"derivatives/fmriprep/{anat}_desc-brain_mask.nii.gz",
        f"derivatives/manual/{anat}_mask.nii.gz",
        "derivatives/manual/sub-02/ses-1/anat/sub-02_ses-1_label-lesion_mask.nii.gz",
    )
    (session,) = find_sessions(root)
    assert {str(path.relative_to(root)) for path in session.lesions} == set(lesions)


def test_no_dataset(touch, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory; expected sub-"):
        find_sessions(tmp_path / "nowhere")
    root = touch("README")
    with pytest.raises(ConfigurationError, match="got no folder sub-"):
        find_sessions(root)
    touch("sub-01/func/sub-01_task-rest_bold.nii.gz")
    with pytest.raises(ConfigurationError, match="got 1 folders sub-\\*, without such an image"):
        find_sessions(root)
