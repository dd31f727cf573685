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
"""Every verb of the command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_lipcar import cli
from monai_lipcar.data.phantom import write_cohort

VERBS = ("demo", "phantom", "simulate-dose", "check", "run", "evaluate", "report", "package")


Command = Callable[..., Any]


@pytest.fixture
def mixed(dataset: Path) -> Path:
    """The study, and one without a low dose."""
    (dataset / "sub-bad").mkdir()
    for member in ("pre", "high"):
        shutil.copy(dataset / "random-0001" / f"{member}.nii.gz", dataset / "sub-bad")
    return dataset


def test_help_is_quick() -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['monai_lipcar', '--help']\n"
        "try:\n"
        "    runpy.run_module('monai_lipcar', run_name='__main__')\n"
        "finally:\n"
        "    sys.stderr.write(str([name for name in ('torch', 'monai', 'scipy') if name in sys.modules]))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0
    assert process.stderr == "[]"
    assert "Research use only" in process.stdout
    assert all(verb in process.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str) -> None:
    result = CliRunner().invoke(cli.app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_phantom(command: Command, tmp_path: Path) -> None:
    arguments = ("phantom", tmp_path / "data", "--anatomy", "random", "--studies", 1, "--seed", 4, "--json")
    ended = command(*arguments)
    assert ended.status == 0
    assert json.loads(ended.out) == {"dataset": str(tmp_path / "data"), "studies": ["random-0001"]}
    files = {path.name for path in (tmp_path / "data" / "random-0001").iterdir()}
    assert files >= {"pre.nii.gz", "low.nii.gz", "high.nii.gz", "lesion.nii.gz"}


def test_phantom_without_motion_gain_and_noise_of_the_target(command: Command, tmp_path: Path) -> None:
    def volumes(name: str, *options: object) -> dict[str, np.ndarray]:
        common = ("phantom", tmp_path / name, "--anatomy", "random", "--studies", 1, "--seed", 4, "--noise-level", 0.05)
        assert command(*common, *options).status == 0
        folder = tmp_path / name / "random-0001"
        return {member: np.asarray(nib.load(folder / f"{member}.nii.gz").dataobj) for member in ("pre", "low", "high")}

    still = volumes("still", "--motion-voxels", 0, "--gain", 0)
    target = volumes("target", "--motion-voxels", 0, "--gain", 0, "--expected-low", "--still-high")
    moved = volumes("moved", "--motion-voxels", 3, "--gain", 0.3)
    assert np.array_equal(target["pre"], still["pre"])
    assert np.array_equal(target["high"], still["high"])
    alike = [np.corrcoef(study["pre"].ravel(), study["low"].ravel())[0, 1] for study in (moved, still)]
    assert alike[0] < alike[1] - 0.01
    air = target["low"][:8, :8]
    assert np.ptp(air) <= 1
    assert still["low"][:8, :8].mean() == pytest.approx(air.mean(), rel=0.05)
    acquisition = json.loads((tmp_path / "target" / "cohort.json").read_text())["random"]["acquisition"]
    assert acquisition == {
        "drawn for each study, but": {
            "noise_level": 0.05,
            "motion_voxels": 0.0,
            "rotation_deg": 0.0,
            "gain": 0.0,
            "expected_low": True,
            "still_high": True,
        }
    }


def test_simulate_dose(command: Command, dataset: Path, tmp_path: Path) -> None:
    (dataset / "random-0001" / "low.nii.gz").unlink()
    shutil.copytree(dataset / "random-0001", dataset / "sub-bad")
    (dataset / "sub-bad" / "high.nii.gz").unlink()
    ended = command("simulate-dose", dataset, tmp_path / "out", "--dose-fraction", 0.25, "--json")
    assert ended.status == 1
    assert json.loads(ended.out) == {"dataset": str(tmp_path / "out"), "studies": ["random-0001"]}
    (line,) = [line for line in ended.err.splitlines() if line.startswith("study ")]
    assert line.startswith("study sub-bad, high: the volume is missing; ")
    volumes = {
        member: np.asarray(nib.load(tmp_path / "out" / "random-0001" / f"{member}.nii.gz").dataobj)
        for member in ("pre", "low", "high")
    }
    enhancing = volumes["high"] - volumes["pre"] > np.percentile(volumes["high"] - volumes["pre"], 99)
    share = (volumes["low"] - volumes["pre"])[enhancing].mean() / (volumes["high"] - volumes["pre"])[enhancing].mean()
    assert 0.2 < share < 0.5  # the signal is not linear in the dose: a quarter of it gives more than a quarter


def test_simulate_dose_keeps_only_what_the_same_options_made(command: Command, dataset: Path, tmp_path: Path) -> None:
    arguments = ("simulate-dose", dataset, tmp_path / "out", "--json")
    assert command(*arguments).status == 0
    low = tmp_path / "out" / "random-0001" / "low.nii.gz"
    before = low.read_bytes()
    assert command(*arguments).status == 0
    ended = command(*arguments, "--dose-fraction", 0.3)
    assert ended.status == 1
    assert "was made with dose_fraction 0.2 instead of 0.3; delete the study to make it again" in ended.err
    (low.parent / "simulation.json").unlink()
    ended = command(*arguments)
    assert ended.status == 1
    assert "without a readable simulation.json" in ended.err
    assert low.read_bytes() == before


def test_simulate_dose_drops_unusable_slices(command: Command, tmp_path: Path) -> None:
    dataset = tmp_path / "data"
    # enough slices that one of them does not pass for motion of the head
    options = {"shape": (64, 64, 12)}
    write_cohort(dataset, "random", 1, seed=5, tumor_free_fraction=0.0, anatomy_options=options, progress=False)
    path = dataset / "random-0001" / "pre.nii.gz"
    image = nib.load(path)
    spoiled = np.asarray(image.dataobj).copy()
    spoiled[:, :, 3] = np.roll(spoiled[:, :, 3], 9, axis=0)
    nib.save(nib.Nifti1Image(spoiled, image.affine), path)
    ended = command("simulate-dose", dataset, tmp_path / "out", "--registration-policy", "drop", "--json")
    assert ended.status == 0, ended.err
    study = tmp_path / "out" / "random-0001"
    assert json.loads((study / "simulation.json").read_text())["slices"] == [4, 11]
    for member in ("pre", "low", "high", "lesion"):
        written = nib.load(study / f"{member}.nii.gz")
        assert written.shape == (64, 64, 8)
        np.testing.assert_allclose(written.affine[:3, 3], (image.affine @ [0, 0, 4, 1])[:3], atol=1e-4)


def test_inputs_are_never_overwritten(command: Command, dataset: Path) -> None:
    ended = command("simulate-dose", dataset, dataset)
    assert ended.status == 1
    assert (
        ended.err == f"error: the output folder {dataset} is the dataset folder {dataset}: inputs are never changed; "
        "choose another folder to write to\n"
    )


def test_check(command: Command, mixed: Path) -> None:
    ended = command("check", mixed)
    assert ended.status == 1
    good, bad, summary = ended.out.splitlines()
    assert good.split() == ["random-0001", "ok", "4", "of", "4", "slices"]
    assert bad.startswith("sub-bad      NOT USABLE  low: the volume is missing; ")
    assert summary == "1 of 2 studies are usable"


def test_check_as_json(command: Command, dataset: Path) -> None:
    ended = command("check", dataset, "--json")
    assert ended.status == 0
    (row,) = json.loads(ended.out)
    assert (row["study_id"], row["usable"]) == ("random-0001", True)
    assert row["registration"]["reference"] == "low"


def test_run_and_report(command: Command, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--solver", "paper", "--max-iterations", 2, "--device", "cpu")
    ended = command("run", mixed, out, "--bundle", "physics_tv", *options)
    assert ended.status == 1  # one study has no low dose
    record = json.loads((out / "random-0001" / "result.json").read_text())
    assert record["solver"] == {"name": "paper", "max_iterations": 2, "step_size": 0.01}
    lines = ended.out.splitlines()
    assert lines[:4] == [
        "study random-0001",
        f"  simulated volume  {out / 'random-0001' / 'high_sim.nii.gz'}",
        f"  figure            {out / 'random-0001' / 'figure.png'}",
        f"  report            {out / 'random-0001' / 'report.html'}",
    ]
    assert any(line.split()[:2] == ["PSNR,", "head"] for line in lines)
    assert sorted(path.name for path in (out / "random-0001").iterdir()) == [
        "figure.png",
        "high_sim.nii.gz",
        "report.html",
        "residual.nii.gz",
        "result.json",
    ]

    page = out / "random-0001" / "report.html"
    page.unlink()
    ended = command("report", out)  # the result knows where its inputs are
    assert ended.status == 0
    assert page.is_file()

    mixed.rename(tmp_path / "moved")
    ended = command("report", out)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("no report: study random-0001, pre.nii.gz: the file is not where it was when the result was")
    assert line.endswith("; say where the inputs are with --dataset DIR")
    assert command("report", out, "--dataset", tmp_path / "moved").status == 0

    changed = tmp_path / "moved" / "random-0001" / "low.nii.gz"
    image = nib.load(changed)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), changed)
    ended = command("report", out, "--dataset", tmp_path / "moved")
    assert ended.status == 1
    assert (
        ended.err == "no report: study random-0001, low: the file has changed since the result was made; run it again\n"
    )


def test_alpha_from_the_noise_of_the_study(command: Command, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = command("run", dataset, out, "--bundle", "physics_tv", "--alpha", "auto", "--device", "cpu")
    assert ended.status == 0
    record = json.loads((out / "random-0001" / "result.json").read_text())
    assert record["alpha"] == record["alpha_choice"]["alpha"] > 0
    page = (out / "random-0001" / "report.html").read_text()
    assert "alpha from the noise" in page


def test_the_adaptive_prior_on_the_command_line(command: Command, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for verb in ("run", "evaluate"):
        ended = command(verb, dataset, out, "--prior", "adaptive", "--alpha", 0.01)
        assert ended.status == 1
        assert "error: alpha: the adaptive prior chooses alpha from the noise" in ended.err
        ended = command(verb, dataset, out, "--prior", "adaptive", "--bundle", "ph2l_tv")
        assert ended.status == 1
        assert "prior: the bundle ph2l_tv has no choice of a prior" in ended.err


def test_run_reports_its_own_studies_only(
    command: Command, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(dataset / "random-0001", dataset / "sub-other")
    out = tmp_path / "out"
    quick = ("--bundle", "physics_tv", "--max-iterations", 2, "--device", "cpu")
    assert command("run", dataset, out, *quick).status == 0
    (out / "random-0001" / "report.html").unlink()
    shutil.rmtree(out / "sub-other")
    # the finished result is one of another alpha: refused; the other study is done
    ended = command("run", dataset, out, *quick, "--alpha", 0.05)
    assert ended.status == 1
    assert [line for line in ended.out.splitlines() if line.startswith("study ")] == ["study sub-other"]
    assert not (out / "random-0001" / "report.html").exists()
    assert "holds the result of another run (alpha differ)" in caplog.text
    ended = command("run", dataset, out, *quick, "--alpha", 0.07)  # both are of others now
    assert ended.status == 1
    assert ended.out == f"all studies, the most concerning first: {out / 'index.html'}\n"


def test_evaluate(command: Command, dataset: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", dataset, tmp_path / "out", "--bundle", "physics_tv", "--max-iterations", 2)
    ended = command(*arguments, "--json")
    assert ended.status == 0
    summary = json.loads(ended.out)
    record = json.loads((tmp_path / "out" / "random-0001" / "result.json").read_text())
    assert record["solver"]["name"] == "proximal"
    assert summary["studies"] == 1
    assert set(summary["mean"]) == {"low", "linear_extrapolation", "simulated", "high"}  # high: for its lesions
    assert "false_enhancement_3mm" in summary["mean"]["simulated"]
    ended = command(*arguments)  # finished already
    assert ended.status == 0
    *table, last = ended.out.splitlines()
    assert table[0].split() == ["low", "linear", "extrapolation", "simulated", "high"]
    psnr = next(line for line in table if line.startswith("PSNR, head (dB)"))
    assert float(psnr.split()[-1]) == pytest.approx(summary["mean"]["simulated"]["psnr_head"], abs=1e-3)
    assert last == f"mean of 1 studies; each of them in {tmp_path / 'out' / 'metrics.csv'}"


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_options_of_the_preprocessing_and_the_operator(
    verb: str, command: Command, dataset: Path, tmp_path: Path
) -> None:
    def configuration(name: str, *options: object) -> tuple[dict[str, object], bool]:
        quick = ("--bundle", "physics_tv", "--max-iterations", 1, "--device", "cpu")
        assert command(verb, dataset, tmp_path / name, *quick, *options).status == 0
        record = json.loads((tmp_path / name / "random-0001" / "result.json").read_text())
        return record["configuration"], record["registration"]["refine"]

    before, refined = configuration("default")
    assert (before["dose_fraction"], before["denoise"], before["refine_registration"], refined) == (
        0.2,
        "none",
        True,
        True,
    )
    given = ("--dose-fraction", 0.25, "--denoise", "wavelet", "--no-refine-registration")
    after, refined = configuration("given", *given)
    assert (after["dose_fraction"], after["denoise"], after["refine_registration"], refined) == (
        0.25,
        "wavelet",
        False,
        False,
    )


def test_evaluate_without_a_single_result(command: Command, dataset: Path, tmp_path: Path) -> None:
    (dataset / "random-0001" / "high.nii.gz").unlink()
    ended = command("evaluate", dataset, tmp_path / "out", "--bundle", "physics_tv")
    assert ended.status == 1
    assert "Traceback" not in ended.err


def test_package(command: Command, tmp_path: Path) -> None:
    ended = command("package", "physics_tv", tmp_path / "out", "--json")
    assert ended.status == 0
    made = json.loads(ended.out)
    assert made["bundle"] == "physics_tv"
    assert (made["folder"], made["archive"]) == tuple(
        str(tmp_path / "out" / f"physics_tv{end}") for end in ("", ".zip")
    )
    metadata = json.loads((tmp_path / "out" / "physics_tv" / "configs" / "metadata.json").read_text())
    assert made["weights_sha256"] == metadata["weights_sha256"]
    assert Path(made["archive"]).is_file()
    ended = command("package", "physics_tv", tmp_path / "out")
    assert ended.status == 1
    assert "exists already; choose another folder, or pass --overwrite" in ended.err
    ended = command("package", "physics_tv", tmp_path / "out", "--overwrite")
    assert ended.out.splitlines() == [made["folder"], made["archive"]]
    ended = command("package", "physics", tmp_path / "out")
    assert ended.status == 2
    assert "'physics' is not one of" in ended.err
    assert "'physics_tv'" in ended.err


def test_demo(command: Command, tmp_path: Path) -> None:
    ended = command("demo", "--output", tmp_path / "out", "--max-iterations", 2, "--precision", "auto")
    assert ended.status == 0, ended.err
    places = [Path(line.split(maxsplit=1)[1].split("  ")[-1].strip()) for line in ended.out.splitlines()[1:4]]
    assert [place.name for place in places] == ["high_sim.nii.gz", "figure.png", "report.html"]
    assert all(place.is_file() for place in places)
    record = json.loads(places[0].with_name("result.json").read_text())
    assert record["configuration"]["precision"] == "auto"
    # float32 where the device does not have it, or where it is not accurate
    assert record["solver"].get("network_precision", "bfloat16") == "bfloat16"
