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
"""Cohorts on disk: layout, reproducibility, resuming, and failures that leave nothing half written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.data.phantom import AcquisitionOptions, cohort, simulate_study, write_cohort
from monai_lipcar.errors import ConfigurationError

SMALL = {"shape": (48, 48, 4)}


def _write(folder: Path, studies: int, **arguments: Any) -> list[Path]:
    return write_cohort(folder, "random", studies, anatomy_options=SMALL, progress=False, **arguments)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.nii.gz"))}


def test_layout(tmp_path: Path) -> None:
    paths = _write(tmp_path / "deep" / "cohort", 2)
    assert [path.name for path in paths] == ["random-0001", "random-0002"]
    pre, high, lesion = (nib.load(paths[0] / f"{name}.nii.gz") for name in ("pre", "high", "lesion"))
    assert pre.get_data_dtype() == high.get_data_dtype() == np.int16
    assert lesion.get_data_dtype() == np.uint8
    assert pre.shape == lesion.shape == (48, 48, 4)
    assert np.array_equal(pre.affine, high.affine)
    assert 1000 < np.asanyarray(high.dataobj).max() < 32767
    assert not [file for file in (tmp_path / "deep" / "cohort").iterdir() if file.name.startswith(".")]


def test_volumes_are_those_of_simulate_study(tmp_path: Path) -> None:
    path = _write(tmp_path, 1, seed=4)[0]
    maps, volumes = simulate_study("random", 1, seed=4, anatomy_options=SMALL)
    assert np.array_equal(np.asanyarray(nib.load(path / "low.nii.gz").dataobj), np.rint(volumes["low"]))
    assert np.array_equal(np.asanyarray(nib.load(path / "lesion.nii.gz").dataobj), maps.lesion)


def test_a_study_depends_on_seed_and_number_only(tmp_path: Path) -> None:
    _write(tmp_path / "one", 1)
    _write(tmp_path / "three", 3)
    _write(tmp_path / "parallel", 3, workers=2)
    _write(tmp_path / "other", 1, seed=1)
    one, three, parallel, other = (_content(tmp_path / name) for name in ("one", "three", "parallel", "other"))
    assert one.items() <= three.items()
    assert three == parallel
    assert other["random-0001/low.nii.gz"] != one["random-0001/low.nii.gz"]
    assert three["random-0001/low.nii.gz"] != three["random-0002/low.nii.gz"]


def test_resumes_and_extends(tmp_path: Path) -> None:
    _write(tmp_path, 2)
    kept = (tmp_path / "random-0001" / "pre.nii.gz").stat().st_mtime_ns
    for file in (tmp_path / "random-0002").iterdir():
        file.unlink()
    (tmp_path / "random-0002").rmdir()
    (tmp_path / ".partial-random-0002").mkdir()
    _write(tmp_path, 3)
    assert (tmp_path / "random-0001" / "pre.nii.gz").stat().st_mtime_ns == kept
    assert len(_content(tmp_path)) == 12
    assert not (tmp_path / ".partial-random-0002").exists()


def test_record(tmp_path: Path) -> None:
    _write(tmp_path, 1, seed=5, options=AcquisitionOptions(noise_level=0.0))
    record = json.loads((tmp_path / "cohort.json").read_text())["random"]
    assert record["seed"] == 5
    assert record["acquisition"]["noise_level"] == 0.0
    assert record["signal_model"] == "SpinEcho(repetition_time_ms=360.0, echo_time_ms=5.51)"
    assert record["anatomy_options"] == {"shape": [48, 48, 4]}
    assert record["versions"]["numpy"] == np.__version__


def test_single_options_replace_what_is_drawn(tmp_path: Path) -> None:
    _, drawn = simulate_study("random", 1, anatomy_options=SMALL)
    _, quiet = simulate_study(
        "random", 1, anatomy_options=SMALL, acquisition={"motion_voxels": 0.0, "expected_low": True}
    )
    assert not np.array_equal(quiet["high"], drawn["high"])
    assert not np.array_equal(quiet["low"], drawn["low"])
    # all else is drawn as before: texture, coil, point spread, noise level
    assert np.corrcoef(quiet["low"].ravel(), drawn["low"].ravel())[0, 1] > 0.98
    path = _write(tmp_path, 1, acquisition={"motion_voxels": 0.0, "expected_low": True})[0]
    assert np.array_equal(np.asanyarray(nib.load(path / "low.nii.gz").dataobj), np.rint(quiet["low"]))
    record = json.loads((tmp_path / "cohort.json").read_text())["random"]
    assert record["acquisition"] == {"drawn for each study, but": {"motion_voxels": 0.0, "expected_low": True}}
    with pytest.raises(ConfigurationError, match="made with other options .acquisition is"):
        _write(tmp_path, 2)


def test_cohort_from_before_an_option_is_continued(tmp_path: Path) -> None:
    _write(tmp_path, 1, options=AcquisitionOptions())
    file = tmp_path / "cohort.json"
    record = json.loads(file.read_text())
    del record["random"]["acquisition"]["expected_low"]
    file.write_text(json.dumps(record))
    assert len(_write(tmp_path, 2, options=AcquisitionOptions())) == 2
    with pytest.raises(ConfigurationError, match="'expected_low': True"):
        _write(tmp_path, 3, options=AcquisitionOptions(expected_low=True))


def test_other_options_in_the_same_folder(tmp_path: Path) -> None:
    _write(tmp_path, 1, seed=5)
    with pytest.raises(ConfigurationError, match="other options .seed is 5 there, 6 here.; choose another folder"):
        _write(tmp_path, 1, seed=6)


def test_tumor_free_fraction() -> None:
    for fraction, some in ((0.0, True), (1.0, False)):
        for number in range(1, 5):
            maps, _ = simulate_study("random", number, tumor_free_fraction=fraction, anatomy_options=SMALL)
            assert maps.lesion.any() == some


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anatomy": "mouse"}, "anatomy 'mouse' is not known, choose one of rat, mni152, random"),
        ({"studies": 0}, "must be at least 1"),
        ({"seed": -1}, "seed not negative"),
        ({"tumor_free_fraction": 1.5}, "between 0 and 1, got 1.5"),
        ({"acquisition": {"movement": 1}}, "acquisition: movement is not known, there are texture, uptake_texture, "),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write_cohort(tmp_path / "out", **{"anatomy": "random", "studies": 1, **arguments})
    assert not (tmp_path / "out").exists()


def _alive(session: int) -> list[int]:
    """Processes of a session, those left out that have ended and wait to be collected."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(
        "from monai_lipcar.data.phantom import write_cohort\n"
        "if __name__ == '__main__':\n"
        f"    write_cohort({str(out)!r}, 'random', 2000, anatomy_options={SMALL!r}, workers=2, progress=False)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("random-*")):
            assert parent.poll() is None
            assert time.monotonic() < deadline, "no study was written"
            time.sleep(0.05)
        assert len(_alive(parent.pid)) >= 3  # the parent and two workers
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 20
        while _alive(parent.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _alive(parent.pid) == []
        written = len(list(out.glob("random-*")))
        time.sleep(1)
        assert len(list(out.glob("random-*"))) == written < 2000
    finally:
        for process in _alive(parent.pid):
            os.kill(process, signal.SIGKILL)


def test_disk_full_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = nib.save, []

    def full(image: nib.Nifti1Image, file: Path) -> None:
        calls.append(file)
        if len(calls) == 6:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, file)

    monkeypatch.setattr(cohort.nib, "save", full)
    with pytest.raises(ConfigurationError, match="No space left on device; finished studies are kept"):
        _write(tmp_path, 3)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["cohort.json", "random-0001"]
    monkeypatch.undo()
    assert len(_write(tmp_path, 3)) == 3
    assert len(_content(tmp_path)) == 12


def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigurationError, match="cannot write the cohort to"):
        _write(tmp_path / "file", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not readable as JSON"), ("[]", "expected the recipe"), ('{"random": 1}', "expected the recipe")],
)
def test_damaged_record(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "cohort.json").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        _write(tmp_path, 1)
