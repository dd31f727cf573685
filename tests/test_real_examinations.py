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
"""The benchmark on real examinations, on a small simulated one: what it reads, writes, refuses, and does once only."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.data.phantom import AcquisitionOptions, acquire, mni152_head
from monai_lipcar.physics import CONVENTIONAL, SpoiledGradientEcho

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SIMULATION = "gradient echo, voxel T1"
UNTRAINED = 0.04
"""No operator is trained for so small a dose."""


def load(name: str, folder: Path = BENCHMARKS) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    yield load("real_examinations")
    del sys.modules["real_examinations"]


@pytest.fixture(scope="module")
def examinations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON file with one examination: pre, high, and a segmentation whose label 4 is the enhancing lesion."""
    folder = tmp_path_factory.mktemp("acquired")
    maps = mni152_head(np.random.default_rng(3), 1, shape=(96, 112, 12), spacing=(2.0, 2.0, 8.0))
    scan = SpoiledGradientEcho(8.0, 3.0, 15.0)
    options = AcquisitionOptions(noise_level=0.005, gain=0.0)
    volumes: dict[str, Any] = acquire(
        maps, np.random.default_rng(0), signal_model=scan, agent=CONVENTIONAL, options=options
    )
    volumes["labels"] = np.where(maps.lesion, 4.0, maps.head).astype(np.float32)
    for name in ("pre", "high", "labels"):
        nib.save(nib.nifti1.Nifti1Image(volumes[name], maps.affine), folder / f"{name}.nii.gz")
    entry = {"pre": "pre.nii.gz", "high": "high.nii.gz", "lesion": "labels.nii.gz", "lesion_labels": [4]}
    file = folder / "examinations.json"
    file.write_text(json.dumps({"one head, 8 mm slices": entry}))
    return file


@pytest.fixture(scope="module")
def run(benchmark: ModuleType, examinations: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a finished run and its command line."""
    output = tmp_path_factory.mktemp("run")
    command_line = [
        *(str(examinations), "--output", str(output), "--results", str(output / "results.json")),
        *("--simulations", SIMULATION, "--doses", str(UNTRAINED), "0.2"),
        *("--bundles", "pl2h", "physics_tv", "--slices", "2", "--denoiser", "nlm"),
    ]
    benchmark.main(command_line)
    return output, command_line


def test_every_row_has_its_metrics_or_was_not_trained(run: tuple[Path, list[str]]) -> None:
    output, _ = run
    content = json.loads((output / "results.json").read_text())
    entry = content["examinations"]["one head, 8 mm slices"]
    assert entry["slices"] == 2
    assert entry["lesion_voxels"] > 0
    doses = entry["results"][SIMULATION]
    # the acquired image for its contrasts in the lesion
    rows = ["low", "linear_extrapolation", "linear_extrapolation_nlm", "high", "pl2h", "physics_tv"]
    assert {dose: list(found) for dose, found in doses.items()} == {f"{UNTRAINED:g}": rows, "0.2": rows}
    assert [dose for dose, found in doses.items() if found["pl2h"] is None] == [f"{UNTRAINED:g}"]
    assert "flip_angle_deg=20.0" in content["simulations"][SIMULATION]["signal_model"]
    for name in {*rows} - {"high"}:
        assert {"ssim_head", "psnr_head", "enhancement_recovery", "psnr_lesion"} <= set(doses["0.2"][name])
    # what any sensible approach does
    assert doses["0.2"]["physics_tv"]["psnr_head"] > doses["0.2"]["low"]["psnr_head"]
    assert doses["0.2"]["low"]["enhancement_recovery"] > 2.0 * doses[f"{UNTRAINED:g}"]["low"]["enhancement_recovery"]


def test_baselines_are_scored_as_the_bundles_score_them(run: tuple[Path, list[str]]) -> None:
    output, _ = run
    content = json.loads((output / "results.json").read_text())
    rows = content["examinations"]["one head, 8 mm slices"]["results"][SIMULATION]["0.2"]
    place = next(output.glob("gradient*")) / "0.2"
    recorded = json.loads((place / "physics_tv" / "one-head-8-mm-slices" / "result.json").read_text())["metrics"]
    for name in ("low", "linear_extrapolation"):
        assert rows[name] == pytest.approx(recorded[name], rel=1e-5)
    assert rows["physics_tv"] == recorded["simulated"]
    assert (place / "one-head-8-mm-slices.png").stat().st_size > 10_000


def test_what_is_finished_is_not_done_again(run: tuple[Path, list[str]], benchmark: ModuleType) -> None:
    output, command_line = run
    files = [*output.rglob("low.nii.gz"), *output.rglob("result.json")]
    assert len(files) == 2 + 3
    before = {file: file.stat().st_mtime_ns for file in files}
    results = (output / "results.json").read_text()
    benchmark.main(command_line)
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert (output / "results.json").read_text() == results
    with pytest.raises(SystemExit, match="made with other options"):
        benchmark.main([*command_line, "--noise-level", "0.03"])


def test_tables_say_what_was_not_trained(run: tuple[Path, list[str]]) -> None:
    publish = load("publish")
    content = json.loads((run[0] / "results.json").read_text())
    tables = publish.real_tables(content)
    assert "| one head, 8 mm slices: linear extrapolation after non-local means | " in tables["real examinations"]
    publish.DOSES = (UNTRAINED, 0.2)
    line = next(
        line
        for line in publish.real_tables(content)[f"real examinations, {SIMULATION}"].splitlines()
        if "`pl2h`" in line
    )
    cells = line.split(" | ")[1:]
    assert [cell == "not trained" for cell in cells] == [True, False] * 3, line


def test_reads_a_dataset_folder_too(benchmark: ModuleType, examinations: Path, tmp_path: Path) -> None:
    study = tmp_path / "person-01"
    study.mkdir()
    for name in ("pre", "high"):
        (study / f"{name}.nii.gz").symlink_to(examinations.parent / f"{name}.nii.gz")
    (found,) = benchmark.read_examinations(tmp_path)
    assert (found.name, found.study_id, found.lesion) == ("person-01", "person-01", None)
    assert found.pre == study / "pre.nii.gz"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": {"pre": "pre.nii.gz"}}, "expected JSON with pre, high"),
        ({"a": {"pre": "pre.nii.gz", "high": "high.nii.gz", "centre": 3}}, "centre"),
        ({"a": {"pre": "pre.nii.gz", "high": "none.nii.gz"}}, "no such volume: .*none.nii.gz"),
        (
            {name: {"pre": "pre.nii.gz", "high": "high.nii.gz"} for name in ("a b", "a, b")},
            "differ by more than punctuation",
        ),
        (
            {"a": {"pre": "pre.nii.gz", "high": "high.nii.gz", "sha256": {"high": "0f"}}},
            "high.nii.gz: expected the SHA-256 0f, got [0-9a-f]{64}",
        ),
        (
            {"a": {"pre": "pre.nii.gz", "high": "high.nii.gz", "sha256": {"lesion": "0f"}}},
            "lesion: expected the SHA-256 0f, got no such volume",
        ),
        ([1], "expected JSON"),
    ],
)
def test_a_list_that_is_wrong_gets_one_clear_line(
    benchmark: ModuleType, examinations: Path, entries: Any, message: str
) -> None:
    file = examinations.parent / "wrong.json"
    file.write_text(json.dumps(entries))
    with pytest.raises(SystemExit, match=message):
        benchmark.read_examinations(file)


def test_the_example_goes_through(examinations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("real_examination", BENCHMARKS.parent / "examples")
    pair = [f"--{name}={examinations.parent / name}.nii.gz" for name in ("pre", "high")]
    options = ["--slices=2", "--bundles=physics_tv", f"--output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["real_examination.py", *pair, *options])
    example.main()
    table = json.loads((tmp_path / "metrics.json").read_text())
    assert table["physics_tv"]["psnr_head"] > table["low"]["psnr_head"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
