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
"""Samples tell how the dose responds in their study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.data import DataLoader
from monai.transforms import LoadImaged

from monai_lipcar.data.acquisition import write_acquisition
from monai_lipcar.data.slices import SliceDataset
from monai_lipcar.data.studies import find_studies
from monai_lipcar.physics import Acquisition

KEYS = ("pre", "low", "high")


def test_samples_tell_how_the_dose_responds_where_it_matters(tmp_path: Path, write_study: Any) -> None:
    own, shared = Acquisition(0.125, repetition_time_ms=600.0), Acquisition(0.25)
    for number in range(3):
        write_study(tmp_path / "data" / f"s-{number}", seed=number)
    write_acquisition(tmp_path / "data" / "s-1", own)

    def dataset(acquisition: Acquisition | None = None) -> SliceDataset:
        load = LoadImaged(KEYS, image_only=True, ensure_channel_first=True)
        return SliceDataset(find_studies(tmp_path / "data"), load, KEYS, tmp_path / "cache", acquisition=acquisition)

    assert "response" not in dataset()[0]
    assert dataset().dose_fractions is None
    told = dataset(shared)
    responses = {told[index]["study_id"]: told[index]["response"] for index in range(len(told))}
    for study_id, expected in {"s-0": shared, "s-1": own, "s-2": shared}.items():
        assert responses[study_id].equal(expected.response().tables.float())
    assert told.dose_fractions == (0.125, 0.25)
    assert next(iter(DataLoader(told, batch_size=12)))["response"].shape[:2] == (12, 2)
