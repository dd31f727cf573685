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
"""Whatever a header says: results lie in their folder, under names without patients, and nothing else is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_lipcar.dicom import SeriesChoice, run_folder, scan_folder

pytest.importorskip("highdicom")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about such descriptions

EVIL = "../../../Doe/\0C:\\nul|?*" + "x" * 30


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_descriptions_that_lead_elsewhere(
    tmp_path: Path, write_examination: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    exam = write_examination(
        tmp_path / "data" / "exam Doe", SeriesDescription=EVIL, ProtocolName=EVIL, StudyID="../../x", StationName=EVIL
    )
    before = files(tmp_path)
    pre, low = sorted(scan_folder(exam), key=lambda series: series.acquired)
    with caplog.at_level("DEBUG", logger="monai_lipcar"):
        run = run_folder(
            "physics_tv",
            exam,
            tmp_path / "out",
            SeriesChoice(uids={"pre": pre.uid, "low": low.uid}),
            dose_fraction=0.2,
            max_iterations=2,
            device="cpu",
        )
    assert run.status == 0
    after = files(tmp_path)
    new = sorted(set(after) - set(before))
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("out/") for name in new)
    (study,) = run.done
    assert study.startswith("study-")  # the folder has the patient's name in it
    assert f"out/{study}/dicom/high_sim/00001.dcm" in new
    for name in new:
        assert "Doe" not in name
        if not name.endswith(".dcm"):
            assert b"Doe" not in (tmp_path / name).read_bytes()
    assert "Doe" not in caplog.text.replace(str(exam), "")


def test_links_in_the_place_of_results(tmp_path: Path, write_examination: Callable[..., Path]) -> None:
    write_examination(tmp_path / "data" / "one", "one")
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "out" / "inputs").mkdir(parents=True)
    (tmp_path / "out" / "inputs" / "data").symlink_to(victim)
    (tmp_path / "out" / "inputs" / "one").symlink_to(victim)
    run = run_folder("physics_tv", tmp_path / "data", tmp_path / "out", dose_fraction=0.2, max_iterations=2)
    assert (run.status, run.done) == (1, [])
    assert list(victim.iterdir()) == []
