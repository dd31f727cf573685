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

from pathlib import Path

import pytest

from monai_lipcar.bids import BidsName
from monai_lipcar.bids.sidecar import number, read_sidecar, words


def sidecar_of(root: Path, file: str) -> dict[str, object]:
    name = BidsName.parse(Path(file).name)
    assert name is not None
    return read_sidecar(root / file, name, root)


def test_inheritance(touch) -> None:
    root = touch(
        json={
            "T1w.json": {"A": "root", "B": "root", "C": "root", "D": "root", "E": "root"},
            "ce-low_T1w.json": {"B": "root, low"},
            "ce-full_T1w.json": {"C": "of another dose"},
            "bold.json": {"C": "of another kind"},
            "sub-01/sub-01_T1w.json": {"D": "subject"},
            "sub-01/anat/sub-01_ce-low_T1w.json": {"E": "image"},
            "sub-01/anat/sub-01_ce-low_run-1_T1w.json": {"E": "another image"},
        }
    )
    expected = {"A": "root", "B": "root, low", "C": "root", "D": "subject", "E": "image"}
    assert sidecar_of(root, "sub-01/anat/sub-01_ce-low_T1w.nii.gz") == expected
    assert sidecar_of(root, "sub-01/anat/sub-01_T1w.nii.gz")["E"] == "root"


@pytest.mark.parametrize(("content", "reason"), [("{", "cannot be read as JSON"), ("[1]", "expected a JSON object")])
def test_a_damaged_sidecar_is_passed_over(touch, caplog, content, reason) -> None:
    root = touch(json={"T1w.json": {"A": 1}, "sub-01/anat/sub-01_T1w.json": content})
    assert sidecar_of(root, "sub-01/anat/sub-01_T1w.nii") == {"A": 1}
    assert reason in caplog.text
    assert "sub-01_T1w.json" in caplog.text


@pytest.mark.parametrize("value", [None, "0.36", True, 0, -1, [0.36], float("inf")])
def test_no_number(value) -> None:
    assert number({"RepetitionTime": value}, "RepetitionTime") is None


@pytest.mark.parametrize("value", ["GR_IR", "GR\\IR", ["GR", "IR"], "gr ir", ["GR\\IR"]])
def test_words(value) -> None:
    assert words({"ScanningSequence": value}, "ScanningSequence") == ["GR", "IR"]


def test_no_words() -> None:
    assert words({"ScanningSequence": 3}, "ScanningSequence") == words({}, "ScanningSequence") == []
