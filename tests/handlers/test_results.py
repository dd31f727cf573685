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
"""Results of an evaluation: what is written, what is skipped, what is refused, and the exit status."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_lipcar
from monai_lipcar.data import Study, output
from monai_lipcar.data.output import write_volume
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import SCHEMA_VERSION, ResultWriter, read_failures
from monai_lipcar.networks import file_sha256
from monai_lipcar.problem import AlphaRule, ProximalSolver

SCALE = 200.0
CONFIGURATION = {"alpha": 1e-4, "solver": "paper", "guess": "pre"}
WriteStudy = Callable[..., Study]
Run = Callable[..., ResultWriter]
LoadRecord = Callable[[Path, str], dict[str, Any]]


def test_volumes_in_the_units_and_on_the_grid_of_the_scanner(run: Run, write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study("sub-01")
    writer = run([study], tmp_path / "out")
    writer.finish()  # and no SystemExit
    folder = tmp_path / "out" / "sub-01"
    assert sorted(path.name for path in folder.iterdir()) == ["high_sim.nii.gz", "residual.nii.gz", "result.json"]
    volumes = {name: nibabel.load(folder / f"{name}.nii.gz") for name in ("high_sim", "residual")}
    inputs = {name: nibabel.load(path) for name, path in study.members.items()}
    for volume in volumes.values():
        assert volume.get_data_dtype() == np.float32
        assert volume.shape == (32, 32, 3)
        np.testing.assert_array_equal(volume.affine, inputs["low"].affine)
    simulated, residual = (volumes[name].get_fdata() for name in ("high_sim", "residual"))
    pre, low = inputs["pre"].get_fdata(), inputs["low"].get_fdata()
    assert 20 < simulated[16, 16].mean() < 200
    np.testing.assert_allclose(residual, pre + 0.2 * (simulated - pre) - low, atol=1e-3)


def test_a_solve_that_ended_early_says_what_was_left(
    run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path
) -> None:
    study = write_study("sub-01")
    run([study], tmp_path / "early", solver=ProximalSolver(max_iterations=1, tolerance=1e-9))
    record = load_record(tmp_path / "early", "sub-01")
    assert record["status"] == "max_iterations"
    left = 100 * max(record["slices"]["relative_model_decrease"])
    assert record["warnings"][1:] == [
        "the solver ended before its tolerance in 3 of 3 problems, with up to "
        f"{left:.2g} % of the objective left to gain, after up to 1 iterations; max_iterations allows more"
    ]
    run([study], tmp_path / "whole", solver=ProximalSolver())
    record = load_record(tmp_path / "whole", "sub-01")
    assert (record["status"], record["warnings"]) == ("converged", ["one slice is dark"])


def test_alpha_of_a_denoised_low_dose_is_told(
    run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path
) -> None:
    study = write_study("sub-01")
    automatic = {"alpha": "auto", "alpha_rule": AlphaRule(operator_error=0.004, kappa=0.0, ratio=0.25)}

    def warnings(folder: str, denoise: str, **options: Any) -> list[str]:
        run([study], tmp_path / folder, configuration={**CONFIGURATION, "denoise": denoise}, **options)
        record = load_record(tmp_path / folder, "sub-01")
        return [warning for warning in record["warnings"] if "after denoising" in warning]

    (found,) = warnings("both", "nlm", inverse=automatic)
    record = load_record(tmp_path / "both", "sub-01")
    assert found.startswith(f"alpha {record['alpha']:.3g} follows from the noise that was found after denoising, ")
    assert warnings("automatic", "none", inverse=automatic) == []
    assert warnings("denoised", "nlm") == []


def test_the_record(run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study("sub-01")
    run([study], tmp_path / "out", bundle_version="0.4.2")
    record = load_record(tmp_path / "out", "sub-01")
    assert record["schema_version"] == SCHEMA_VERSION
    assert "research use only" in record["notice"]
    assert record["study_id"] == "sub-01"
    assert record["bundle"] == {"name": "physics_tv", "version": "0.4.2"}
    assert record["operator_weights_sha256"] is None
    assert record["versions"]["monai_lipcar"] == monai_lipcar.__version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"] == "cpu"
    assert record["configuration"] == CONFIGURATION
    assert record["inputs"] == {
        name: {
            "file": f"{name}.nii.gz",
            "path": f"../data/sub-01/{name}.nii.gz",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for name, path in study.members.items()
    }
    assert str(tmp_path) not in json.dumps(record)
    assert record["scale"] == SCALE
    assert record["registration"] == {"shift_mm": 0.5}
    assert record["warnings"] == ["one slice is dark"]
    assert record["seconds"] > 0
    assert record["alpha"] == 1e-4
    assert record["solver"] == {"name": "paper", "max_iterations": 20, "step_size": 0.01}
    assert record["status"] == "max_iterations"
    assert record["iterations"] == 20
    assert record["network_evaluations"] == 21
    slices = record["slices"]
    assert slices["status"] == ["max_iterations"] * 3
    assert record["objective"]["first"] == pytest.approx(sum(slices["objective_first"]))
    assert record["objective"]["last"] == pytest.approx(sum(slices["objective_last"]))
    assert record["objective"]["last"] < record["objective"]["first"]
    residual = nibabel.load(tmp_path / "out" / "sub-01" / "residual.nii.gz").get_fdata() / SCALE
    assert record["discrepancy"] == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-4)
    for name, value in record["certificate"].items():
        assert value == max(slices[name])
    assert record["history"]["iterations"] == list(range(21))
    for values, first, last in zip(
        record["history"]["objective"], slices["objective_first"], slices["objective_last"], strict=True
    ):
        assert len(values) == 21
        assert (values[0], values[-1]) == (pytest.approx(first, rel=1e-5), pytest.approx(last, rel=1e-5))
    measures = record["verdict"]["measures"]
    assert measures["expected_residual"] == pytest.approx(np.hypot(1 / SCALE, 1e-4 / 0.2), rel=1e-3)
    head = 3 * [None]
    for index in range(3):
        disk = np.hypot(*np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)) < 12
        head[index] = np.sqrt((residual[:, :, index][disk] ** 2).mean())
    assert record["verdict"]["slices"]["residual_head"] == pytest.approx(
        np.array(head) / measures["expected_residual"], rel=0.1
    )
    assert measures["enhancement_recovery"] == pytest.approx(
        record["metrics"]["simulated"]["enhancement_recovery"], rel=1e-3
    )


def test_metrics_where_there_is_an_acquired_image(
    run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path
) -> None:
    study = write_study("sub-01")
    run([study, write_study("sub-02", members=("pre", "low"))], tmp_path / "out")
    assert "metrics" not in load_record(tmp_path / "out", "sub-02")
    metrics = load_record(tmp_path / "out", "sub-01")["metrics"]
    assert list(metrics) == ["low", "linear_extrapolation", "simulated"]
    low, extrapolated = metrics["low"], metrics["linear_extrapolation"]
    assert low["enhancement_recovery"] == pytest.approx(0.2, abs=0.02)
    assert extrapolated["enhancement_recovery"] == pytest.approx(1.0, abs=0.05)
    volumes = {name: nibabel.load(path).get_fdata() / SCALE for name, path in study.members.items()}
    assert low["psnr"] == pytest.approx(-10 * math.log10(((volumes["low"] - volumes["high"]) ** 2).mean()), abs=1e-3)
    simulated = nibabel.load(tmp_path / "out" / "sub-01" / "high_sim.nii.gz").get_fdata() / SCALE
    expected = -10 * math.log10(((simulated - volumes["high"]) ** 2).mean())
    assert metrics["simulated"]["psnr"] == pytest.approx(expected, abs=1e-3)
    head = volumes["pre"] > 0.1
    expected = -10 * math.log10(((simulated - volumes["high"])[head] ** 2).mean())
    assert metrics["simulated"]["psnr_head"] == pytest.approx(expected, abs=0.3)


def test_a_forward_operator(run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path) -> None:
    studies = [write_study("sub-01"), write_study("sub-02", members=("pre", "high"))]
    run(studies, tmp_path / "out", forward=True).finish()
    folder = tmp_path / "out" / "sub-01"
    assert sorted(path.name for path in folder.iterdir()) == ["low_sim.nii.gz", "result.json"]
    pre, high = (nibabel.load(studies[0].members[name]).get_fdata() for name in ("pre", "high"))
    np.testing.assert_allclose(nibabel.load(folder / "low_sim.nii.gz").get_fdata(), pre + 0.2 * (high - pre), atol=1e-3)
    record = load_record(tmp_path / "out", "sub-01")
    assert not {"status", "solver", "objective", "slices"} & record.keys()
    assert record["verdict"]["level"] == "not_judged"
    metrics = record["metrics"]
    assert list(metrics) == ["high", "linear_dose_model", "simulated"]
    assert metrics["simulated"] == metrics["linear_dose_model"]
    assert metrics["simulated"]["psnr"] > metrics["high"]["psnr"]
    assert "enhancement_recovery" not in metrics["simulated"]
    assert "metrics" not in load_record(tmp_path / "out", "sub-02")


def test_failures_are_isolated_and_end_in_exit_status_1(
    run: Run, write_study: WriteStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studies = [
        write_study("sub-01", members=("pre", "high")),
        write_study("sub-02", broken="low"),
        write_study("sub-03"),
        write_study("sub-04", broken="high"),
    ]
    with caplog.at_level(logging.INFO):
        writer = run(studies, tmp_path / "out")
        with pytest.raises(SystemExit) as caught:
            writer.finish()
    assert caught.value.code == 1
    assert writer.finished == ["sub-03", "sub-04"]
    assert [failure.study for failure in writer.failures] == ["sub-01", "sub-02"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["failures.json", "sub-03", "sub-04"]
    assert list(read_failures(tmp_path / "out")) == ["sub-01", "sub-02"]
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("study sub-01, low: the volume is missing") for message in messages)
    assert "study sub-02: the computation gave values that are not finite; " in "\n".join(messages)
    assert f"2 of 4 studies have a result in {tmp_path / 'out'}" in messages
    assert "2 of 4 studies failed, see above: sub-01, sub-02" in messages
    assert "\n" not in "".join(messages)


def test_finished_studies_are_skipped(
    run: Run, write_study: WriteStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = write_study("sub-01"), write_study("sub-02")
    run([first], tmp_path / "out")
    stamp = (tmp_path / "out" / "sub-01" / "high_sim.nii.gz").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        writer = run([first, second], tmp_path / "out")
        writer.finish()
    assert (writer.skipped, writer.finished) == (["sub-01"], ["sub-02"])
    assert (tmp_path / "out" / "sub-01" / "high_sim.nii.gz").stat().st_mtime_ns == stamp
    assert "1 of 2 studies are finished already and are skipped (--overwrite true does them again)" in caplog.messages
    again = run([first, second], tmp_path / "out")  # nothing is left to do, which is a success
    again.finish()
    assert again.skipped == ["sub-01", "sub-02"]


def test_a_finished_study_whose_input_cannot_be_read_fails_alone(
    run: Run, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [write_study("sub-01"), write_study("sub-02")]
    run(studies, tmp_path / "out")

    def read(file: Path) -> str:  # root, who runs tests in containers, may read everything
        if file.parent.name == "sub-01":
            raise PermissionError(13, "Permission denied", str(file))
        return file_sha256(file)

    monkeypatch.setattr("monai_lipcar.handlers.record.file_sha256", read)
    writer = ResultWriter(tmp_path / "out", "physics_tv", configuration=CONFIGURATION)
    assert writer.pending(studies) == []
    assert writer.skipped == ["sub-02"]
    (failure,) = writer.failures
    assert failure.study == "sub-01"
    assert "Permission denied" in str(failure)


@pytest.mark.parametrize("overwrite", [True, "true", "True"])
def test_overwrite_does_them_again(
    run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path, overwrite: bool | str
) -> None:
    study = write_study("sub-01")
    run([study], tmp_path / "out")
    writer = run([study], tmp_path / "out", {**CONFIGURATION, "alpha": 1.0}, overwrite=overwrite)
    writer.finish()
    assert writer.finished == ["sub-01"]
    assert load_record(tmp_path / "out", "sub-01")["configuration"]["alpha"] == 1.0


def test_a_result_of_another_run_is_neither_taken_nor_replaced(
    run: Run, write_study: WriteStudy, tmp_path: Path
) -> None:
    study = write_study("sub-01")
    run([study], tmp_path / "out")
    before = (tmp_path / "out" / "sub-01" / "result.json").read_bytes()

    def refused(**options: Any) -> str:
        writer = run([study], tmp_path / "out", **options)
        assert writer.finished == writer.skipped == []
        with pytest.raises(SystemExit):
            writer.finish()
        assert (tmp_path / "out" / "sub-01" / "result.json").read_bytes() == before
        return str(writer.failures[0])

    folder = tmp_path / "out" / "sub-01"
    assert refused(configuration={**CONFIGURATION, "alpha": 0.5}) == (
        f"study sub-01: {folder} holds the result of another run (alpha differ); "
        "choose another --output_dir, or pass --overwrite true"
    )
    assert "(extra differ)" in refused(configuration={**CONFIGURATION, "extra": 1})
    assert "(bundle differ)" in refused(bundle="ph2l_tv")
    path = study.members["low"]
    nibabel.save(nibabel.Nifti1Image(nibabel.load(path).get_fdata() + 1.0, nibabel.load(path).affine), path)
    assert "(inputs differ)" in refused()


def test_a_full_disk_keeps_the_older_result_and_goes_on(
    run: Run, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [write_study("sub-01"), write_study("sub-02")]
    run(studies, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "sub-01").iterdir()}

    def write(volume: MetaTensor, path: Path) -> None:
        if path.parent.name == "sub-01" and "residual" in path.name:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write_volume(volume, path)

    monkeypatch.setattr(output, "write_volume", write)
    writer = run(studies, tmp_path / "out", {**CONFIGURATION, "alpha": 0.1}, overwrite=True, summary=True)
    with pytest.raises(SystemExit):
        writer.finish()
    assert writer.finished == ["sub-02"]
    assert "No space left on device" in str(writer.failures[0])
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "sub-01").iterdir()} == before
    # what the summary is over was computed with one configuration
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["studies"] == 1


@pytest.mark.parametrize(
    ("member", "spoil", "reason"),
    [
        (
            "high",
            lambda volume: volume[:-2],
            r"expected the grid of the result, \(1, 32, 32, 3\), got \(1, 30, 32, 3\)",
        ),
        ("high", lambda volume: np.where(volume > 100, np.nan, volume), "the volume contains NaN or infinite values"),
        ("lesion", lambda volume: volume[:, :-1], "expected the grid of the result"),
    ],
)
def test_what_cannot_be_scored_has_a_result_unless_scoring_was_asked_for(
    run: Run,
    load_record: LoadRecord,
    write_study: WriteStudy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    member: str,
    spoil: Callable[[np.ndarray], np.ndarray],
    reason: str,
) -> None:
    first, second = write_study("sub-01"), write_study("sub-02")
    volume = nibabel.load(first.members["high"])
    path = tmp_path / f"{member}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(spoil(volume.get_fdata()).astype(np.float32), volume.affine), path)
    studies = [Study("sub-01", {**first.members, member: path}), second]

    writer = run(studies, tmp_path / "out")
    writer.finish()
    assert writer.finished == ["sub-01", "sub-02"]
    record = load_record(tmp_path / "out", "sub-01")
    assert "metrics" not in record
    assert re.fullmatch(f"there are no metrics: {member}: {reason}.*", record["warnings"][-1])
    assert f"study sub-01: {record['warnings'][-1]}" in caplog.messages
    assert "metrics" in load_record(tmp_path / "out", "sub-02")

    writer = run(studies, tmp_path / "scored", summary=True)
    assert writer.finished == writer.done == ["sub-02"]
    assert re.match(f"study sub-01, {member}: {reason}", str(writer.failures[0]))
    assert sorted(path.name for path in (tmp_path / "scored").iterdir()) == ["sub-02"]


@pytest.mark.parametrize("place", ["data", "data/results", "data/sub-01", "data/sub-01/results"])
def test_results_never_go_among_the_inputs(write_study: WriteStudy, tmp_path: Path, place: str) -> None:
    studies = [write_study("sub-01")]
    before = sorted(tmp_path.rglob("*"))
    writer = ResultWriter(tmp_path / place, "physics_tv", dataset_dir=tmp_path / "data")
    with pytest.raises(ConfigurationError, match=rf"output folder {tmp_path / place} (is|lies in) the dataset folder"):
        writer.pending(studies)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_permission_to_write(write_study: WriteStudy, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    for place in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(ConfigurationError, match=rf"output folder {place} cannot be written to .*--output_dir"):
            ResultWriter(place, "physics_tv").pending([write_study(f"sub-{len(place.parts)}")])


def test_no_trace_of_the_permission_test_is_left(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study("sub-01")
    assert ResultWriter(tmp_path / "new" / "out", "physics_tv").pending([study]) == [study]
    assert list((tmp_path / "new" / "out").iterdir()) == []


def test_summary(run: Run, load_record: LoadRecord, write_study: WriteStudy, tmp_path: Path) -> None:
    writer = run([write_study("sub-01"), write_study("sub-02")], tmp_path / "out", summary=True)
    writer.finish()
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = [
        load_record(tmp_path / "out", study_id)["metrics"]["simulated"]["psnr"] for study_id in ("sub-01", "sub-02")
    ]
    assert summary["bundle"] == "physics_tv"
    assert summary["studies"] == 2
    assert summary["mean"]["simulated"]["psnr"] == pytest.approx(sum(rows) / 2)
    assert (tmp_path / "out" / "metrics.csv").is_file()
