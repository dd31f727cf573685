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
"""What an output folder holds, for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from monai_lipcar.report.manifest import manifest


def test_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a" / "dicom").mkdir(parents=True)
    record = {"bundle": {"name": "physics_tv", "version": "1"}, "inputs": {"low": {"file": "low.nii", "sha256": "f0"}}}
    (tmp_path / "a" / "result.json").write_text(json.dumps({**record, "seconds": 5.0}))
    (tmp_path / "a" / "high_sim.nii.gz").write_bytes(bytes(7))
    (tmp_path / "a" / ".partial-residual.nii.gz").write_bytes(bytes(3))
    derived = {"made_of": "x", "series": {"high_sim": {"series_uid": "2.25.1", "images": 3, "rescale_slope": 1.0}}}
    (tmp_path / "a" / "dicom" / "derived.json").write_text(json.dumps(derived))
    (tmp_path / "result.json").write_text(json.dumps(record))  # what is called a/.. is no study
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "result.json").write_text('{"bundle": 3}')
    content = manifest(tmp_path, {"c": "failed", "b": "failed", "a": "look", "a/..": "failed"})
    assert content["studies"] == {
        "a": {
            "level": "look",
            "bundle": "physics_tv",
            "bundle_version": "1",
            "inputs_sha256": {"low": "f0"},
            "volumes_bytes": {"high_sim.nii.gz": 7},
            "dicom_series": {"high_sim": {"uid": "2.25.1", "images": 3}},
        },
        "a/..": {"level": "failed"},
        "b": {"level": "failed"},
        "c": {"level": "failed"},
    }
