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
"""Are the studies of a dataset usable?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.transforms import Compose, LoadImaged
from tqdm import tqdm

from monai_lipcar.data import explain_failure, list_studies
from monai_lipcar.errors import StudyError
from monai_lipcar.transforms import CheckRegistrationd

__all__ = ["check_studies"]


def check_studies(dataset_dir: str | Path, policy: str = "raise") -> list[dict[str, Any]]:
    """Load and check every study of a dataset folder.

    Args:
        dataset_dir: the dataset folder, or a datalist.
        policy: what to do about misregistered studies, see :class:`~monai_lipcar.transforms.CheckRegistrationd`.

    Returns:
        For each study ``study_id``, ``usable``, ``note`` (what is wrong, or what was measured) and ``registration``.
    """
    members = ("pre", "low", "high")
    transform = Compose(
        [
            LoadImaged(keys=members, image_only=True, ensure_channel_first=True, allow_missing_keys=True),
            CheckRegistrationd(keys=members, reference_key="low", policy=policy, allow_missing_keys=True),
        ]
    )
    rows = []
    for study in tqdm(list_studies(dataset_dir), desc="checking", unit="study"):
        row: dict[str, Any] = {"study_id": study.study_id, "usable": True, "note": "", "registration": None}
        try:
            study.check(("pre", "low"))
            checked = transform(study.to_dict())
        except Exception as error:
            explained = explain_failure(study, error)
            # the study is named beside it
            note = StudyError(explained.reason, member=explained.member, advice=explained.advice)
            row |= {"usable": False, "note": str(note)}
        else:
            usable = checked["usable_slices"]
            row |= {"note": f"{sum(usable)} of {len(usable)} slices", "registration": checked["registration"]}
        rows.append(row)
    return rows
