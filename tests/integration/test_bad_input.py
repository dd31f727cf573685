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
"""Bad studies, folders and disks: one clear line for each, nothing lost, nothing half written, exit status 1."""

from __future__ import annotations

import ctypes
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import read_failures

Run = Callable[..., subprocess.CompletedProcess[str]]
Failure = Callable[[subprocess.CompletedProcess[str]], str]
QUICK = ("--max_iterations", "2")


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def save(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    nib.save(nib.Nifti1Image(volume, affine), path)


def edit(member: str, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Callable:
    def apply(folder: Path) -> None:
        path = folder / f"{member}.nii.gz"
        save(*change(*load(path)), path)

    return apply


def truncate(folder: Path) -> None:
    path = folder / "low.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(folder: Path) -> None:
    (folder / "pre.nii.gz").rename(folder / "other.nii.gz")
    (folder / "low.nii.gz").rename(folder / "pre.nii.gz")
    (folder / "other.nii.gz").rename(folder / "low.nii.gz")


def crop(folder: Path) -> None:
    for member in ("pre", "low"):
        edit(member, lambda volume, affine: (volume[40:50, 35:45], affine))(folder)


def put_nan(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    volume = volume.copy()
    volume[3, 4, 2] = np.nan
    return volume, affine


def move(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = affine.copy()
    moved[0, 3] += 5.0
    return volume, moved


class Bad(NamedTuple):
    """A way to spoil a study, and what its line in the log must say."""

    spoil: Callable[[Path], None]
    place: str
    reason: str
    advice: str


BAD = {
    "missing": Bad(lambda folder: (folder / "low.nii.gz").unlink(), "low", "the volume is missing", "add low.nii.gz"),
    "truncated": Bad(truncate, "low.nii.gz", "the file cannot be read", "check that it is complete"),
    "text": Bad(
        lambda folder: (folder / "low.nii.gz").write_text("no volume"),
        "low.nii.gz",
        "the file cannot be read",
        "export it again",
    ),
    "shape": Bad(
        edit("pre", lambda volume, affine: (volume[:, :-4], affine)),
        "pre.nii.gz",
        "expected shape (96, 80, 6), got (96, 76, 6)",
        "resample it onto the grid of low",
    ),
    "affine": Bad(
        edit("pre", move),
        "pre.nii.gz",
        "expected the same affine, got one that places voxels up to 5 mm elsewhere",
        "resample it onto the grid of low",
    ),
    "nan": Bad(edit("low", put_nan), "low.nii.gz", "got 1 NaN and 0 infinite ones", "export it again"),
    "constant": Bad(
        edit("low", lambda volume, affine: (np.full_like(volume, 7.0), affine)),
        "low.nii.gz",
        "the volume is constant (7 everywhere)",
        "export it again",
    ),
    "flat": Bad(
        edit("low", lambda volume, affine: (volume[:, :, 3], affine)),
        "low.nii.gz",
        "expected a 3-D volume, got a 2-D image of shape (96, 80)",
        "stack the slices",
    ),
    "series": Bad(
        edit("low", lambda volume, affine: (np.stack([volume, volume], axis=-1), affine)),
        "low.nii.gz",
        "expected one 3-D volume, got a 4-D file with 2 volumes",
        "extract the volume that is meant",
    ),
    "swapped": Bad(
        swap,
        "pre.nii.gz",
        "expected low to be brighter than pre in enhancing tissue",
        "check whether the two were swapped",
    ),
    "rotated": Bad(
        edit("pre", lambda volume, affine: (ndimage.rotate(volume, 30, axes=(0, 1), reshape=False, order=1), affine)),
        "pre.nii.gz",
        "displaced against low by ",
        "choose the registration policy 'register'",
    ),
    "tiny": Bad(crop, "low.nii.gz", "slices of 10x10 pixels are too small for the network", "use the uncropped"),
}


class BadRun(NamedTuple):
    """One run over a dataset of all these studies and a good one between them."""

    process: subprocess.CompletedProcess[str]
    out: Path


@pytest.fixture(scope="module")
def bad_run(good_study: Path, tmp_path_factory: pytest.TempPathFactory, run_bundle: Run) -> BadRun:
    folder = tmp_path_factory.mktemp("bad")
    data, out = folder / "data", folder / "out"
    shutil.copytree(good_study, data / "good")
    for name, bad in BAD.items():
        (data / name).mkdir()
        for member in ("pre", "low"):
            shutil.copy(good_study / f"{member}.nii.gz", data / name)
        bad.spoil(data / name)
    process = run_bundle("physics_tv", "--dataset_dir", str(data), "--output_dir", str(out), *QUICK)
    return BadRun(process, out)


def errors(process: subprocess.CompletedProcess[str]) -> list[str]:
    """Messages of the errors in the log, without the time."""
    return [line.split(" - ERROR - ")[1] for line in process.stdout.splitlines() if " - ERROR - " in line]


def assert_complete(folder: Path, shape: tuple[int, ...]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["high_sim.nii.gz", "residual.nii.gz", "result.json"]
    assert json.loads((folder / "result.json").read_text())["study_id"] == folder.name
    for name in ("high_sim.nii.gz", "residual.nii.gz"):
        volume, _ = load(folder / name)
        assert volume.shape == shape
        assert np.isfinite(volume).all()


def test_a_run_with_bad_studies_fails_without_a_traceback(bad_run: BadRun) -> None:
    assert bad_run.process.returncode == 1
    assert "Traceback" not in bad_run.process.stdout + bad_run.process.stderr
    failed = ", ".join(sorted(BAD))
    assert errors(bad_run.process)[-1] == f"{len(BAD)} of {len(BAD) + 1} studies failed, see above: {failed}"


@pytest.mark.parametrize("name", BAD)
def test_bad_study_gets_one_line(name: str, bad_run: BadRun) -> None:
    bad = BAD[name]
    lines = [line for line in errors(bad_run.process) if line.startswith(f"study {name},")]
    assert len(lines) == 1, lines
    (line,) = lines
    place, _, text = line.partition(": ")
    assert place == f"study {name}, {bad.place}"
    reason, _, advice = text.partition("; ")
    assert bad.reason in reason
    assert bad.advice in advice
    assert len(line) < 300


def test_nothing_is_written_but_the_good_study_and_why_the_others_failed(bad_run: BadRun) -> None:
    assert sorted(path.name for path in bad_run.out.iterdir()) == ["failures.json", "good"]
    listed = read_failures(bad_run.out)
    assert set(listed) == set(BAD)
    for name, reason in listed.items():
        assert reason.startswith(f"{BAD[name].place}: ")
    assert str(bad_run.out.parent) not in (bad_run.out / "failures.json").read_text()
    assert_complete(bad_run.out / "good", (96, 80, 6))


def test_rotation_is_measured(bad_run: BadRun) -> None:
    (line,) = [line for line in errors(bad_run.process) if line.startswith("study rotated")]
    degrees = float(line.split(" degrees")[0].split()[-1])
    assert degrees == pytest.approx(30.0, abs=0.5)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("empty", "no study found in {}; expected <study_id>/pre.nii.gz and low.nii.gz"),
        (
            "nowhere",
            "dataset folder {} cannot be read: No such file or directory; expected a folder with <study_id>/pre",
        ),
        ("data/small", r"{} is a study \(.*\), not a folder of studies; give the one above"),
    ],
)
def test_dataset_folder(place: str, reason: str, dataset: Path, tmp_path: Path, run_here: Callable) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=reason.format(tmp_path / place)):
        run_here("physics_tv", dataset_dir=str(tmp_path / place), output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["data", "data/out", "data/small"])
def test_results_never_go_into_the_dataset(place: str, dataset: Path, tmp_path: Path, run_here: Callable) -> None:
    before = sorted(dataset.rglob("*"))
    message = (
        rf"the output folder {tmp_path / place} (is|lies in) the dataset folder {dataset}: inputs are never changed"
    )
    with pytest.raises(ConfigurationError, match=message):
        run_here("physics_tv", dataset_dir=str(dataset), output_dir=str(tmp_path / place), overwrite=True)
    assert sorted(dataset.rglob("*")) == before


def test_no_data_is_an_error_of_the_command(tmp_path: Path, run_bundle: Run, failure: Failure) -> None:
    process = run_bundle("physics_tv", "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"))
    assert failure(process).startswith(f"no study found in {tmp_path}; expected <study_id>/pre.nii.gz and low.nii.gz")


def drop_privileges() -> None:
    """Take from root what lets it write anywhere; does nothing to anybody else."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: in force after exec


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's privileges away with prctl, which only Linux has")
def test_no_permission_to_write(dataset: Path, tmp_path: Path, run_bundle: Run, failure: Failure) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    process = run_bundle(
        "physics_tv", "--dataset_dir", str(dataset), "--output_dir", str(locked / "out"), preexec_fn=drop_privileges
    )
    assert failure(process) == (
        f"the output folder {locked / 'out'} cannot be written to (Permission denied); choose another with --output_dir"
    )
    assert not list(locked.iterdir())


def test_full_disk(bad_run: BadRun, good_study: Path, dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    shutil.copytree(good_study, dataset / "large")
    room = int(0.8 * (bad_run.out / "good" / "residual.nii.gz").stat().st_size)

    def limit() -> None:
        # Python ignores SIGXFSZ: writing more raises OSError in the middle of a volume, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    out = tmp_path / "out"
    process = run_bundle(
        "physics_tv", "--dataset_dir", str(dataset), "--output_dir", str(out), *QUICK, preexec_fn=limit
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stdout + process.stderr
    assert errors(process) == [
        f"study large: the result cannot be written to {out / 'large'} (File too large); "
        "free space or choose another --output_dir, then run again: finished studies are skipped",
        "1 of 2 studies failed, see above: large",
    ]
    assert sorted(path.name for path in out.iterdir()) == ["failures.json", "small"]
    assert_complete(out / "small", (64, 64, 4))


def test_finished_results_are_kept(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    out = tmp_path / "out"
    arguments = ("--dataset_dir", str(dataset), "--output_dir", str(out), *QUICK)

    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (out / "small").iterdir()}

    assert run_bundle("physics_tv", *arguments).returncode == 0
    assert_complete(out / "small", (64, 64, 4))
    before = stamps()

    again = run_bundle("physics_tv", *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 1 studies are finished already and are skipped (--overwrite true does them again)" in again.stdout
    assert "Warning" not in again.stderr.replace("UserWarning: parsing config_file", "")
    assert stamps() == before

    other = run_bundle("physics_tv", *arguments, "--alpha", "0.01")
    assert other.returncode == 1
    assert "Traceback" not in other.stdout + other.stderr
    line, summary = errors(other)
    assert line.startswith(f"study small: {out / 'small'} holds the result of another run (alpha ")
    assert line.endswith("; choose another --output_dir, or pass --overwrite true")
    assert summary == "1 of 1 studies failed, see above: small"
    assert stamps() == before

    replaced = run_bundle("physics_tv", *arguments, "--alpha", "0.01", "--overwrite", "true")
    assert replaced.returncode == 0, replaced.stdout + replaced.stderr
    assert_complete(out / "small", (64, 64, 4))
    assert json.loads((out / "small" / "result.json").read_text())["alpha"] == 0.01
