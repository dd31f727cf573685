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
"""The adaptive prior on a real examination: here a small simulated one, under one condition."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import adaptive_real
from benchmarks.adaptive import FOUR
from benchmarks.publish import adaptive_tables
from monai_lipcar.data.phantom import AcquisitionOptions, acquire, mni152_head
from monai_lipcar.physics import CONVENTIONAL, SpoiledGradientEcho

CALIBRATED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "adaptive.json"


@pytest.fixture(scope="module")
def examinations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acquired")
    maps = mni152_head(np.random.default_rng(3), 1, shape=(96, 112, 6), spacing=(2.0, 2.0, 12.0))
    options = AcquisitionOptions(noise_level=0.005, gain=0.0)
    scan = SpoiledGradientEcho(8.0, 3.0, 15.0)
    volumes = acquire(maps, np.random.default_rng(0), signal_model=scan, agent=CONVENTIONAL, options=options)
    for name in ("pre", "high"):
        nib.save(nib.nifti1.Nifti1Image(volumes[name], maps.affine), folder / f"{name}.nii.gz")
    file = folder / "examinations.json"
    file.write_text(json.dumps({"one head": {"pre": "pre.nii.gz", "high": "high.nii.gz", "center": 3}}))
    return file


@pytest.mark.slow
def test_one_examination(examinations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_real, "UNDER", ("noise 0.044",))
    options = ["--results", str(tmp_path / "real.json"), "--image", str(tmp_path / "real.png")]
    adaptive_real.main([str(examinations), "--output", str(tmp_path / "out"), *options])
    content = json.loads((tmp_path / "real.json").read_text())
    entry = content["examinations"]["one head"]
    assert len(entry["slices"]) == 2
    assert set(entry["slices"]) <= {1, 2, 3, 4}
    rows = entry["conditions"]["noise 0.044"]
    assert set(rows) == {*FOUR, "adaptive", "shortfall"}
    best = max(rows[name]["ssim_head"] for name in FOUR)
    assert rows["shortfall"] == pytest.approx(best - rows["adaptive"]["ssim_head"], abs=1e-4)
    # without the noise of the low dose, which the end-to-end image has
    assert rows["adaptive"]["ssim_head"] > rows["nn_pl2h"]["ssim_head"] + 0.05
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")
    shown = adaptive_tables(None, content)
    assert "| one head, noise 0.044 | " in shown["real, ssim_head"]
    assert shown["small_heads, ssim_head"].startswith("Not measured")
    calibrated = json.loads(CALIBRATED.read_text())
    calibrated["adaptive_prior"]["weights_sha256"] = "0" * 64
    (tmp_path / "calibrated.json").write_text(json.dumps(calibrated))
    other = ["--calibrated", str(tmp_path / "calibrated.json"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="calibrated with other weights"):
        adaptive_real.main([str(examinations), *other, *options])
