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

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.bundle import run_bundle
from monai_lipcar.data import Study, find_studies
from monai_lipcar.volumes import result_volumes


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory) -> tuple[Study, Path]:
    """A study and the folder of its result."""
    out = tmp_path_factory.mktemp("out")
    assert run_bundle("physics_tv", cohort, out, device="cpu") == 0
    (study,) = find_studies(cohort)
    return study, out / study.study_id


def test_volumes(finished) -> None:
    study, folder = finished
    record = json.loads((folder / "result.json").read_text())
    assert [*result_volumes(study, record, folder)] == ["high_sim"]
    volumes = result_volumes(study, record, folder, ("enhancement", "residual"))
    arrays = {name: np.asarray(volume)[0] for name, volume in volumes.items()}
    for name in ("high_sim", "residual"):
        np.testing.assert_array_equal(arrays[name], nib.load(folder / f"{name}.nii.gz").dataobj)
    pre = np.asarray(nib.load(study.members["pre"]).dataobj)
    # pre was registered and matched to low on the way
    difference = arrays["enhancement"] - (arrays["high_sim"] - pre)
    assert np.abs(difference).mean() < 0.02 * arrays["high_sim"].max()
    np.testing.assert_array_equal(volumes["enhancement"].affine, volumes["high_sim"].affine)


def test_what_is_not_there_is_left_out(finished, caplog, tmp_path) -> None:
    study, folder = finished
    record = json.loads((folder / "result.json").read_text())
    (tmp_path / "low_sim.nii.gz").write_bytes((folder / "high_sim.nii.gz").read_bytes())
    assert [*result_volumes(study, record, tmp_path, ("residual", "enhancement"))] == ["low_sim"]
    assert "there is no residual; the bundle solves no inverse problem" in caplog.text
    assert "there is no enhancement without high dose and pre-dose image" in caplog.text
