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

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.bids import run_bids
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import read_failures

OPTIONS = {"device": "cpu", "registration_policy": "raise"}
GRADIENT_ECHO = {
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "RepetitionTime": 0.008,
    "EchoTime": 0.003,
    "FlipAngle": 15,
}
RESULTS = Path("sourcedata", "monai_lipcar")
ANAT = Path("sub-01", "ses-1", "anat")


def contents(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def times(folder: Path) -> dict[str, int]:
    """When every file below a folder was written."""
    return {str(file): file.stat().st_mtime_ns for file in sorted(folder.rglob("*")) if file.is_file()}


def configuration(out: Path, study: str) -> dict[str, object]:
    """What a result was computed with."""
    content = json.loads((out / RESULTS / study / "result.json").read_text())["configuration"]
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_session) -> Path:
    """A dataset of one session, with the full dose and a mask."""
    root = tmp_path_factory.mktemp("project") / "ds"
    return write_session(root, "sub-01/ses-1", lesion="_label-lesion_mask", low={"DoseFraction": 0.2})


@pytest.fixture(scope="module")
def finished(dataset) -> Path:
    """Its derivative, with all images."""
    out = dataset.parent / "out"
    before = contents(dataset)
    run = run_bids("physics_tv", dataset, out, also=("residual", "enhancement"), **OPTIONS)
    assert (run.status, run.done, run.results) == (0, ["sub-01_ses-1"], out / RESULTS)
    assert contents(dataset) == before
    return out


def test_files(finished) -> None:
    names = ("ce-full_desc-enhancement", "ce-full_desc-simulated", "ce-low_desc-residual")
    images = {f"{ANAT}/sub-01_ses-1_{name}_T1w.{ending}" for name in names for ending in ("json", "nii.gz")}
    results = {f"{RESULTS}/sub-01_ses-1/{name}" for name in ("high_sim.nii.gz", "residual.nii.gz", "result.json")}
    assert set(contents(finished)) == {"README", "dataset_description.json"} | images | results


def test_images_are_those_of_the_result_on_the_grid_of_low(finished, dataset) -> None:
    low = nib.load(dataset / ANAT / "sub-01_ses-1_ce-low_T1w.nii.gz")
    pre = np.asarray(nib.load(dataset / ANAT / "sub-01_ses-1_T1w.nii.gz").dataobj)
    images = {}
    for label, name in (("ce-full_desc-simulated", "high_sim"), ("ce-low_desc-residual", "residual")):
        image = nib.load(finished / ANAT / f"sub-01_ses-1_{label}_T1w.nii.gz")
        result = nib.load(finished / RESULTS / "sub-01_ses-1" / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, low.affine)
        np.testing.assert_array_equal(image.dataobj, result.dataobj)
        images[name] = np.asarray(image.dataobj)
    enhancement = nib.load(finished / ANAT / "sub-01_ses-1_ce-full_desc-enhancement_T1w.nii.gz")
    # pre was registered and matched to low on the way
    difference = np.asarray(enhancement.dataobj) - (images["high_sim"] - pre)
    assert np.abs(difference).mean() < 0.02 * images["high_sim"].max()


def test_sidecar(finished) -> None:
    sidecar = json.loads((finished / ANAT / "sub-01_ses-1_ce-full_desc-simulated_T1w.json").read_text())
    assert sidecar["Description"].startswith("Simulated image at the full dose of contrast agent, computed by physics_")
    assert sidecar["Description"].endswith("for research use only, not for diagnosis.")
    assert sidecar["Sources"] == [
        "bids:source:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "bids:source:sub-01/ses-1/anat/sub-01_ses-1_ce-low_T1w.nii.gz",
    ]
    assert sidecar["SkullStripped"] is False
    assert (sidecar["RepetitionTime"], sidecar["ContrastBolusIngredient"]) == (0.36, "GADOLINIUM")
    assert not {"PatientName", "DoseFraction"} & {*sidecar}
    result = finished / RESULTS / "sub-01_ses-1" / "result.json"
    record, simulation = json.loads(result.read_text()), sidecar["Simulation"]
    assert simulation["ResultSHA256"] == hashlib.sha256(result.read_bytes()).hexdigest()
    assert simulation["SourcesSHA256"] == [record["inputs"][name]["sha256"] for name in ("pre", "low")]
    assert (simulation["Bundle"], simulation["Alpha"], simulation["DoseFraction"]) == ("physics_tv", 0.001, 0.2)
    assert (simulation["Solver"], simulation["Status"]) == ("proximal", record["status"])
    assert {"cnr_lesion", "ssim_head"} <= {*record["metrics"]["simulated"]}  # high and the mask were found


def test_nothing_names_a_place_of_the_machine_or_a_patient(finished, dataset) -> None:
    for file in finished.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(dataset.parent).encode() not in content
            assert b"Doe" not in content


def test_a_finished_study_is_left_as_it_is(finished, dataset) -> None:
    before = times(finished)
    run = run_bids("physics_tv", dataset, finished, also=("residual", "enhancement"), **OPTIONS)
    assert (run.status, run.done) == (0, ["sub-01_ses-1"])
    assert times(finished) == before


def test_images_that_are_not_asked_for_any_more_go(finished, dataset, tmp_path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (out / ANAT / "sub-01_ses-1_ce-low_desc-residual_T1w.json").write_text("{}")  # of another result
    simulated = out / ANAT / "sub-01_ses-1_ce-full_desc-simulated_T1w.nii.gz"
    before = simulated.stat().st_mtime_ns
    shutil.copytree(dataset, tmp_path / "ds")
    assert run_bids("physics_tv", tmp_path / "ds", out, also=("residual",), **OPTIONS).status == 0
    assert simulated.stat().st_mtime_ns == before
    names = {"desc-residual", "desc-simulated"}
    assert {file.name.split("_")[3] for file in (out / ANAT).iterdir()} == names
    sidecar = json.loads((out / ANAT / "sub-01_ses-1_ce-low_desc-residual_T1w.json").read_text())
    assert sidecar["Description"].startswith("What the simulated full dose does not explain")
    # another result: everything is written again
    options = {**OPTIONS, "alpha": 0.003, "overwrite": True}
    assert run_bids("physics_tv", tmp_path / "ds", out, entities={"high": {"ce": "gd"}}, **options).status == 0
    (image,) = (out / ANAT).glob("*.nii.gz")
    assert image.name == "sub-01_ses-1_ce-gd_desc-simulated_T1w.nii.gz"
    assert json.loads((out / ANAT / image.name.replace(".nii.gz", ".json")).read_text())["Simulation"]["Alpha"] == 0.003


def test_one_session_that_cannot_be_read(tmp_path, write_session, caplog) -> None:
    root = write_session(tmp_path / "ds", "sub-01")
    write_session(root, "sub-02", {"pre": "_T1w", "low": "_ce-gadolinium_T1w"})
    write_session(root, "sub-03")
    (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").unlink()
    (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").symlink_to("../../.git/annex/objects/MD5E-s1--0.nii.gz")
    run = run_bids("physics_tv", root, tmp_path / "out", **OPTIONS)
    assert (run.status, run.done) == (1, ["sub-01"])
    reasons = read_failures(run.results)
    assert {*reasons} == {"sub-02", "sub-03"}
    assert "low: no image says that its dose is reduced" in reasons["sub-02"]
    assert reasons["sub-03"].endswith(
        "a link to a file that is not there; fetch it first, with datalad get or git annex get"
    )
    assert "2 of 3 studies could not be read, see above: sub-02, sub-03" in caplog.messages
    assert {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("sub-")} == {"sub-01"}


def test_two_workers_give_the_results_of_one(tmp_path, write_session) -> None:
    root = tmp_path / "ds"
    for number in range(1, 6):
        write_session(root, f"sub-{number:02d}")
    for number, axis in ((2, 0), (3, (0, 1)), (4, 1)):  # heads of their own
        for image in (root / f"sub-{number:02d}" / "anat").glob("*.nii.gz"):
            volume = nib.load(image)
            nib.save(nib.Nifti1Image(np.flip(np.asarray(volume.dataobj), axis), volume.affine), image)
    (root / "sub-05" / "anat" / "sub-05_ce-low_T1w.nii.gz").write_bytes(b"no image")
    options = {"device": "cpu", "registration_policy": "none", "max_iterations": 3}
    runs, found = {}, {}
    for workers in (1, 2):
        run = run_bids("physics_tv", root, tmp_path / f"out{workers}", workers=workers, **options)
        assert {*read_failures(run.results)} == {"sub-05"}
        runs[workers] = run[:2]
        # the others tell how many seconds it took, or the checksum of what does
        found[workers] = {
            name: value for name, value in contents(tmp_path / f"out{workers}").items() if name.endswith(".nii.gz")
        }
    assert runs[2] == runs[1] == (1, ["sub-01", "sub-02", "sub-03", "sub-04"])
    assert found[2] == found[1]
    assert len(found[1]) == 4 * 3
    assert len({*found[1].values()}) == 4 * 2  # the image of the derivative is that of the result


def test_nothing_can_be_read(tmp_path, write_session) -> None:
    root = write_session(tmp_path / "ds", "sub-01", {"pre": "_T1w"})
    run = run_bids("physics_tv", root, tmp_path / "out", **OPTIONS)
    assert (run.status, run.done) == (1, [])
    assert {*read_failures(run.results)} == {"sub-01"}
    assert not (tmp_path / "out" / "dataset_description.json").exists()


def test_sidecars_are_the_acquisition_of_the_run(tmp_path, write_session, caplog) -> None:
    root = write_session(tmp_path / "ds", "sub-01", low={"DoseFraction": 0.25})
    write_session(root, "sub-02", low=GRADIENT_ECHO)
    run = run_bids("physics_tv", root, tmp_path / "out", **OPTIONS)
    assert (run.status, sorted(run.done)) == (0, ["sub-01", "sub-02"])
    names = ("dose_fraction", "repetition_time_ms", "echo_time_ms", "flip_angle_deg")
    found = {study: [configuration(tmp_path / "out", study)[name] for name in names] for study in run.done}
    assert found == {
        "sub-01": [0.25, 360.0, 5.51, None],
        "sub-02": [0.2, 8.0, 3.0, 15.0],
    }
    assert "study sub-02: low and pre were acquired differently" in caplog.text


def test_a_sidecar_that_contradicts_the_options_fails_its_study(tmp_path, write_session, caplog) -> None:
    root = write_session(tmp_path / "ds", "sub-01", low={"DoseFraction": 0.1})
    write_session(root, "sub-02")
    run = run_bids("physics_tv", root, tmp_path / "out", dose_fraction=0.2, **OPTIONS)
    assert (run.status, run.done) == (1, ["sub-02"])
    (line,) = [line for line in caplog.messages if line.startswith("study sub-01: expected")]
    assert "expected what this run is set to, dose_fraction 0.2; the study says 0.1" in line


def test_a_derivative_that_cannot_be_written_is_one_line(tmp_path, write_session, caplog) -> None:
    root = write_session(tmp_path / "ds", "sub-01")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub-01").write_text("in the way")
    run = run_bids("physics_tv", root, tmp_path / "out", **OPTIONS)
    assert (run.status, run.done) == (1, ["sub-01"])
    (line,) = [line for line in caplog.messages if line.startswith("study sub-01: the BIDS derivative")]
    assert "cannot be written" in line


def test_a_killed_run_is_completed(finished, dataset, tmp_path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    stem = out / ANAT / "sub-01_ses-1_ce-full_desc-simulated_T1w"
    expected = contents(out)
    Path(f"{stem}.json").unlink()
    Path(f"{stem}.nii.gz").write_bytes(b"half of it")
    shutil.copytree(dataset, tmp_path / "ds")
    run_bids("physics_tv", tmp_path / "ds", out, also=("residual", "enhancement"), **OPTIONS)
    assert contents(out) == expected


def test_folders_that_cannot_be_meant(dataset, finished, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="lies in the dataset folder"):
        run_bids("physics_tv", dataset, dataset / "derivatives" / "monai_lipcar", **OPTIONS)
    shutil.copytree(dataset, tmp_path / "sourcedata" / "ds")
    with pytest.raises(ConfigurationError, match="was not made by monai_lipcar"):
        run_bids("physics_tv", dataset, tmp_path / "sourcedata" / "ds", **OPTIONS)
    with pytest.raises(ConfigurationError, match="no session found in the BIDS dataset"):
        run_bids("physics_tv", tmp_path, tmp_path / "out", **OPTIONS)


def test_options_that_cannot_be_meant(dataset, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="expected further images among residual, enhancement, got mask"):
        run_bids("physics_tv", dataset, tmp_path, also=("mask",))
    with pytest.raises(ConfigurationError, match="expected entities of low, high, pre, got lesion"):
        run_bids("physics_tv", dataset, tmp_path, {"lesion": {"label": "lesion"}})
