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
"""Damaged files: always a line, never a crash."""

from __future__ import annotations

import numpy as np
import pytest

from monai_lipcar.data import Study, explain_failure
from monai_lipcar.dicom.importing import find_examinations, import_examination
from monai_lipcar.dicom.rules import load_rules
from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.physics import Acquisition

pytest.importorskip("highdicom")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what was damaged


def _damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut off, left out or repeated, most of them in the header."""
    changed = bytearray(content)
    kind = rng.integers(4)
    start = int(rng.integers(128, min(len(content), 2500)))
    if kind == 0:
        for place in rng.integers(start, min(start + 200, len(content)), size=int(rng.integers(1, 8))):
            changed[place] = int(rng.integers(256))
    elif kind == 1:
        del changed[start:]
    elif kind == 2:
        del changed[start : start + int(rng.integers(1, 60))]
    else:
        changed[start:start] = changed[start : start + int(rng.integers(1, 200))]
    return bytes(changed)


@pytest.mark.parametrize("count", [150, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("enhanced", [False, True])
def test_damaged_files(enhanced, count, tmp_path, array, oblique, write_series, write_enhanced) -> None:
    write = write_enhanced if enhanced else write_series
    good = tmp_path / "exam"
    files = write(good / "pre", array, oblique, "T1 pre", 1)
    files += write(good / "low", array, oblique, "T1 low", 2, time="102000")
    contents = {file: file.read_bytes() for file in files}
    rng = np.random.default_rng(count)
    rules, read = load_rules(), 0
    lines: list[str] = []
    for number in range(count):
        file = files[int(rng.integers(len(files)))]
        file.write_bytes(_damage(contents[file], rng))
        for examination in find_examinations(good, scan_folder(good)):
            try:
                import_examination(examination, tmp_path / f"out{number}", rules, Acquisition())
                read += 1
            except Exception as error:  # as the pipeline does, which goes on with the next study
                lines.append(str(explain_failure(Study(examination.study_id, {}), error)))
        file.write_bytes(contents[file])
    assert read > 0
    assert len(lines) > count // 8
    assert [line for line in lines if "\n" in line or "Doe" in line or not line.startswith("study ")] == []
