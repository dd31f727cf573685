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
"""What a result says about itself: what was left out, what was measured, where the inputs are, and its report."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from monai_lipcar.bundle import run_bundle, run_studies
from monai_lipcar.data import Study, find_studies
from monai_lipcar.report import Panel, study, study_report

QUICK = {"max_iterations": 2, "device": "cpu"}


def edit(folder: Path, member: str, change: Callable[[np.ndarray], np.ndarray], shift_mm: float = 0.0) -> None:
    path = folder / f"{member}.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift_mm
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj, dtype=np.float32)), affine), path)


def put_nan(volume: np.ndarray) -> np.ndarray:
    volume = volume.copy()
    volume[3, 4, 2] = np.nan
    return volume


def rotate(volume: np.ndarray) -> np.ndarray:
    return ndimage.rotate(volume, 8, axes=(0, 1), reshape=False, order=1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "shape": (
        lambda folder: edit(folder, "high", lambda volume: volume[:, :-4]),
        "high",
        "not on the grid of low: expected",
    ),
    "affine": (lambda folder: edit(folder, "high", np.copy, 5.0), "high", "expected the same affine"),
    "nan": (lambda folder: edit(folder, "high", put_nan), "high", "expected finite values, got 1 NaN"),
    "rotated": (lambda folder: edit(folder, "high", rotate), "high", "displaced against low by "),
    "unreadable": (lambda folder: truncate(folder / "high.nii.gz"), "high", "the file cannot be read"),
    "mask": (lambda folder: edit(folder, "lesion", lambda volume: volume[:, :-4]), "lesion", "not on the grid of low"),
    "mask-unreadable": (lambda folder: truncate(folder / "lesion.nii.gz"), "lesion", "the file cannot be read"),
}


@pytest.fixture(scope="module")
def bad_to_score(good_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies whose high or lesion cannot be used, and a good one."""
    data = tmp_path_factory.mktemp("score") / "data"
    for name in ("good", *BAD):
        shutil.copytree(good_study, data / name)
        if name in BAD:
            BAD[name][0](data / name)
    return data


def read(out: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / name / "result.json").read_text())
    return record


def test_what_is_only_to_score_does_not_cost_the_result(
    bad_to_score: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published = {**QUICK, "solver": "paper"}  # which always ends early, and does not warn of it
    with caplog.at_level(logging.WARNING):
        run = run_studies("physics_tv", bad_to_score, tmp_path, **published)
    assert run == (0, sorted(["good", *BAD]))
    assert read(tmp_path, "good")["warnings"] == []
    for name, (_, member, reason) in BAD.items():
        record = read(tmp_path, name)
        (warning,) = record["warnings"]
        assert warning.startswith(f"{member}.nii.gz was left out, and with it the metrics that need it: "), name
        assert reason in warning
        assert f"study {name}: {warning}" in caplog.messages
        assert set(record["inputs"]) == {"pre", "low", "high", "lesion"}
        assert ("metrics" in record) == (member == "lesion")
        if member == "lesion":
            assert "psnr_head" in record["metrics"]["simulated"]
            assert "psnr_lesion" not in record["metrics"]["simulated"]
    assert "psnr_lesion" in read(tmp_path, "good")["metrics"]["simulated"]
    assert run_studies("physics_tv", bad_to_score, tmp_path, **published).status == 0  # finished: nothing is done again


def test_where_scoring_is_asked_for_it_stays_an_error(
    bad_to_score: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_studies("physics_tv", bad_to_score, tmp_path, config="evaluate.json", **QUICK) == (1, ["good"])
    for name, (_, member, reason) in BAD.items():
        (line,) = [line for line in caplog.messages if line.startswith(f"study {name}, ")]
        assert line.startswith(f"study {name}, {member}.nii.gz: ")
        assert reason in line


def test_a_forward_operator_needs_its_input(bad_to_score: Path, tmp_path: Path) -> None:
    for name in ("nan", "mask"):
        shutil.copytree(bad_to_score / name, tmp_path / "data" / name)
    run = run_studies("ph2l", tmp_path / "data", tmp_path / "out", device="cpu")
    assert run == (1, ["mask"])  # the lesion is only to score there too


@pytest.mark.parametrize("name", ["physics_tv", "ph2l"])
def test_inputs_are_told_without_naming_users_or_machines(name: str, dataset: Path, tmp_path: Path) -> None:
    assert run_bundle(name, dataset, tmp_path / "out", **({"device": "cpu"} if name == "ph2l" else QUICK)) == 0
    text = (tmp_path / "out" / "small" / "result.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["inputs"]["pre"]["path"] == "../data/small/pre.nii.gz"
    assert 0.0 < json.loads(text)["sigma"] < 0.05


def test_the_noise_that_was_added_is_recorded(dataset: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low = np.asarray(nib.load(dataset / "small" / "low.nii.gz").dataobj, dtype=float)
    sigma = 0.03 * np.percentile(low, 99.5)

    def add(volume: np.ndarray) -> np.ndarray:
        return np.hypot(volume + rng.normal(scale=sigma, size=volume.shape), rng.normal(scale=sigma, size=volume.shape))

    before = run_bundle("pl2h", dataset, tmp_path / "before", device="cpu")
    edit(dataset / "small", "low", add)
    assert run_bundle("pl2h", dataset, tmp_path / "after", device="cpu") == before == 0
    own, record = read(tmp_path / "before", "small"), read(tmp_path / "after", "small")
    expected = np.hypot(sigma, own["sigma"] * own["scale"]) / record["scale"]
    assert record["sigma"] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    "options", [{}, {"registration_policy": "register"}, {"denoise": "nlm"}, {"match_intensity": "false"}]
)
def test_the_report_shows_what_was_computed_from(
    options: dict[str, str], good_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distance of each panel to the acquired image is the one that was measured."""
    shutil.copytree(good_study, tmp_path / "data" / "sub")
    if "registration_policy" in options:
        edit(tmp_path / "data" / "sub", "pre", rotate)
    run = run_studies("physics_tv", tmp_path / "data", tmp_path / "out", **options, **QUICK)
    assert run == (0, ["sub"])
    record = read(tmp_path / "out", "sub")
    assert record["registration"]["registered"]["pre"] == ("registration_policy" in options)
    panels: dict[str, Panel] = {}
    draw = study.study_figure

    def spy(rows: list[list[Panel]], *arguments: Any) -> Path:
        panels.update({panel.title: panel for row in rows for panel in row})
        return draw(rows, *arguments)

    monkeypatch.setattr(study, "study_figure", spy)
    (inputs,) = find_studies(tmp_path / "data")
    study_report(inputs, tmp_path / "out")
    target = panels["acquired high dose"].volume
    for title, image in {
        "low dose (observed)": "low",
        "linear extrapolation": "linear_extrapolation",
        "simulated high dose": "simulated",
    }.items():
        error = (panels[title].volume - target) / record["scale"]
        psnr = -10.0 * np.log10(np.square(error).mean())
        assert psnr == pytest.approx(record["metrics"][image]["psnr"], abs=2e-3), title


def test_a_report_needs_the_bundle_that_made_the_result(dataset: Path, tmp_path: Path) -> None:
    from monai_lipcar.errors import ConfigurationError

    run_bundle("physics_tv", dataset, tmp_path / "out", **QUICK)
    record = read(tmp_path / "out", "small")
    record["bundle"]["name"] = "somebody's own"
    (tmp_path / "out" / "small" / "result.json").write_text(json.dumps(record))
    inputs = Study("small", {name: dataset / "small" / f"{name}.nii.gz" for name in ("pre", "low", "high")})
    with pytest.raises(ConfigurationError, match='bundle "somebody\'s own" not found'):
        study_report(inputs, tmp_path / "out")
