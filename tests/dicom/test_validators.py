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
"""The derived series under the eyes of dicom3tools (Debian package dicom3tools), where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from monai_lipcar.dicom import run_folder

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytestmark = pytest.mark.skipif(
    not shutil.which("dciodvfy") or not shutil.which("dcentvfy"), reason="dicom3tools is not installed"
)

# newer than the dictionary of dicom3tools; SyntheticData is standard since 2023b
UNKNOWN = re.compile(r"\(0x0008,0x001c\)")
# what follows from that; and that the laterality of a body part that the source does not name is not known
IN_DOUBT = ("Standard Extended SOP Class", "attribute <Laterality>")


def complaints(file: Path) -> list[str]:
    """What dciodvfy finds wrong or doubtful in a file, but for attributes that it is too old to know."""
    process = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
    lines = (process.stdout + process.stderr).splitlines()
    found = [line for line in lines if "Error" in line or "Warning" in line]
    return [line for line in found if not UNKNOWN.search(line) and not any(text in line for text in IN_DOUBT)]


@pytest.fixture(scope="module", params=["classic", "enhanced", "rescaled", "bare"])
def exam(request, tmp_path_factory, phantom, write_examination, write_series, write_enhanced) -> tuple[Path, Path]:
    """An examination and its derived series, with sources of several kinds."""
    folder = tmp_path_factory.mktemp("dicom") / "exam"
    out = tmp_path_factory.mktemp("out")
    if request.param == "classic":
        write_examination(folder)
    elif request.param == "enhanced":
        write_enhanced(folder / "a", *phantom["pre"], "T1 pre", 2)
        write_enhanced(folder / "b", *phantom["low"], "T1 low", 3, time="102000", agent="Gadobutrol")
    elif request.param == "rescaled":
        for number, name in enumerate(("pre", "low"), 1):
            write_series(folder, *phantom[name], f"T1 {name}", number, slopes=[0.5, 0.25, 0.5, 0.125])
    else:
        absent = dict.fromkeys(
            ("FrameOfReferenceUID", "AcquisitionTime", "ScanOptions", "MRAcquisitionType", "SliceThickness")
        )
        write_examination(folder, **absent, ScanningSequence="", SequenceVariant="")
    run = run_folder("physics_tv", folder, out, also=("residual", "enhancement"), device="cpu")
    assert run.status == 0
    return folder, out / "exam" / "dicom"


def test_each_image(exam) -> None:
    files = sorted(exam[1].rglob("*.dcm"))
    assert len(files) == 12
    # a rescale slope is unusual in a classic MR image, not wrong; the source has it too
    found = {line for file in files for line in complaints(file) if "Rescale" not in line}
    assert found == set()


def test_the_validator_is_not_blind(exam, tmp_path) -> None:
    image = pydicom.dcmread(next(exam[1].rglob("*.dcm")))
    del image.ScanningSequence
    image.save_as(tmp_path / "broken.dcm")
    assert any("ScanningSequence" in line for line in complaints(tmp_path / "broken.dcm"))


def test_consistency_with_the_examination(exam) -> None:
    files = [*exam[1].rglob("*.dcm"), *(file for file in exam[0].rglob("*") if file.is_file())]
    process = subprocess.run(["dcentvfy", *map(str, files)], capture_output=True, text=True, timeout=60)
    assert process.stdout + process.stderr == ""
