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
"""Samples in three dimensions: a slice with its neighbors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged

from monai_lipcar.data.slices import SliceDataset
from monai_lipcar.data.studies import find_studies

KEYS = ("pre", "low", "high")
LOAD = LoadImaged(KEYS, image_only=True, ensure_channel_first=True)


@pytest.fixture
def cohort(tmp_path: Path, write_study) -> Path:
    for number in range(3):
        write_study(tmp_path / "data" / f"s-{number}", seed=number)
    return tmp_path / "data"


def _dataset(cohort: Path, preprocessing: Any = LOAD, depth: int | None = None) -> SliceDataset:
    return SliceDataset(find_studies(cohort), preprocessing, KEYS, depth=depth, cache_dir=cohort.parent / "cache")


def test_a_slice_has_its_neighbors_around_it(cohort: Path) -> None:
    slices, volumes = _dataset(cohort), _dataset(cohort, depth=4)
    assert len(volumes) == len(slices) == 12
    whole = {study.study_id: LOAD(study.to_dict()) for study in find_studies(cohort)}
    sample = volumes[0]
    assert (sample["study_id"], sample["slice_index"]) == ("s-0", 1)
    for key in KEYS:
        assert sample[key].shape == (1, 16, 16, 4)
        volume = whole["s-0"][key].numpy().swapaxes(2, 3)  # the slices are on axis 1
        # its own is the third, and the first slice of the volume stands for the one before it
        np.testing.assert_allclose(sample[key].numpy(), volume[..., [0, 0, 1, 2]], rtol=5e-4, atol=1e-7)
        assert torch.equal(sample[key][..., 2], slices[0][key])


def test_both_kinds_of_samples_have_one_cache(cohort: Path) -> None:
    _dataset(cohort)
    files = {file: file.stat().st_mtime_ns for file in (cohort.parent / "cache").rglob("*") if file.is_file()}
    assert files
    _dataset(cohort, depth=4)
    assert {file: file.stat().st_mtime_ns for file in (cohort.parent / "cache").rglob("*") if file.is_file()} == files


def test_no_sample_has_an_unusable_slice_in_it(cohort: Path) -> None:
    def mark(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "usable_slices": [True, True, True, True, False, True]}

    marked = _dataset(cohort, Compose([LOAD, mark]), depth=3)
    assert {marked[index]["slice_index"] for index in range(len(marked))} == {1, 2}
