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

from monai_lipcar.dicom import SeriesChoice, run_folder, scan_folder
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.handlers import read_failures

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

OPTIONS = {"device": "cpu", "registration_policy": "raise"}


def hashes(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory, write_examination) -> Path:
    """One examination in one folder."""
    folder = tmp_path_factory.mktemp("dicom") / "exam-1"
    write_examination(folder)
    (folder / "readme.txt").write_text("not DICOM")
    return folder


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory) -> Path:
    """Its results, with all derived series."""
    out = tmp_path_factory.mktemp("out")
    before = hashes(study)
    run = run_folder("physics_tv", study, out, also=("residual", "enhancement"), **OPTIONS)
    assert run == (0, ["exam-1"], out / "inputs")
    assert hashes(study) == before
    return out


def test_derived_series_is_the_volume_in_the_place_of_the_source(finished, study, phantom) -> None:
    volume = nib.load(finished / "exam-1" / "high_sim.nii.gz")
    low = nib.load(finished / "inputs" / "exam-1" / "low.nii.gz")
    np.testing.assert_array_equal(volume.affine, low.affine)
    np.testing.assert_allclose(low.affine, phantom["low"][1], atol=1e-5)
    np.testing.assert_array_equal(low.get_fdata(), phantom["low"][0])
    source = {tuple(image.ImagePositionPatient): image for image in map(pydicom.dcmread, scan_folder(study)[1].files)}
    for file in (finished / "exam-1" / "dicom" / "high_sim").iterdir():
        image = pydicom.dcmread(file)
        acquired = source[tuple(image.ImagePositionPatient)]
        assert image.ImageOrientationPatient == acquired.ImageOrientationPatient
        assert image.PixelSpacing == acquired.PixelSpacing
        position = np.diag([-1, -1, 1]) @ np.asarray(image.ImagePositionPatient, dtype=float)
        index = round(float((np.linalg.inv(volume.affine) @ [*position, 1])[2]))
        expected = np.rint(np.asarray(volume.dataobj)[:, :, index]).T
        np.testing.assert_array_equal(image.pixel_array, expected)
        assert expected.max() > 500


def test_residual_and_enhancement(finished) -> None:
    for kind in ("residual", "enhancement"):
        (series,) = scan_folder(finished / "exam-1" / "dicom" / kind)
        assert series.frames == 4
        assert pydicom.dcmread(series.files[0]).PixelRepresentation == 1
    high, pre = (
        np.asarray(nib.load(file).dataobj)
        for file in (finished / "exam-1" / "high_sim.nii.gz", finished / "inputs" / "exam-1" / "pre.nii.gz")
    )
    shown = np.stack(
        [
            pydicom.dcmread(file).pixel_array.T
            for file in sorted((finished / "exam-1" / "dicom" / "enhancement").iterdir())
        ],
        axis=-1,
    )
    # pre was registered and matched to low on the way
    assert np.abs(shown - (high - pre)).mean() < 0.02 * high.max()


def test_which_series_and_why(finished) -> None:
    content = json.loads((finished / "inputs" / "exam-1" / "series.json").read_text())
    assert content["members"]["low"]["description"] == "T1 SE low dose"
    assert content["members"]["pre"]["reason"].startswith("rule 1: SeriesDescription matches its pattern, like low")
    assert content["acquisition"] == "spin echo, TR 360 ms, TE 5.51 ms (from the header of low)"
    assert content["notes"] == []


def test_no_identity_in_anything_but_the_series(finished) -> None:
    for file in finished.rglob("*"):
        if file.is_file() and file.suffix != ".dcm":
            content = file.read_bytes()
            assert b"Doe" not in content
            assert b"4711" not in content


def test_the_same_run_elsewhere_gives_the_same_files(finished, study, tmp_path) -> None:
    moved = tmp_path / "exam-1"
    moved.mkdir()
    for number, file in enumerate(sorted(study.iterdir(), reverse=True)):
        shutil.copy(file, moved / f"{number}.ima")
    assert run_folder("physics_tv", moved, tmp_path / "out", also=("residual", "enhancement"), **OPTIONS).status == 0
    assert hashes(tmp_path / "out" / "exam-1" / "dicom") == {
        name: value
        for name, value in hashes(finished / "exam-1" / "dicom").items()
        if name != "derived.json"  # which names the result it was made of, seconds and all
    } | {"derived.json": hashes(tmp_path / "out" / "exam-1" / "dicom")["derived.json"]}


def test_another_configuration_gives_other_uids(finished, study, tmp_path) -> None:
    run_folder("physics_tv", study, tmp_path, alpha=0.003, **OPTIONS)
    uids = {scan_folder(out / "exam-1" / "dicom" / "high_sim")[0].uid for out in (finished, tmp_path)}
    assert len(uids) == 2
    assert sorted(path.name for path in (tmp_path / "exam-1" / "dicom").iterdir()) == ["derived.json", "high_sim"]


def test_a_finished_study_is_left_as_it_is(finished, study) -> None:
    def times() -> dict[Path, int]:
        files = [file for file in finished.rglob("*") if file.is_file() and file.name != "datalist.json"]
        return {file: file.stat().st_mtime_ns for file in files if file.name != "acquisition.json"}

    before = times()
    assert run_folder("physics_tv", study, finished, also=("residual", "enhancement"), **OPTIONS).status == 0
    assert times() == before


def test_folder_of_studies_with_one_that_is_ambiguous(tmp_path, write_examination, caplog) -> None:
    cohort = tmp_path / "cohort"
    write_examination(cohort / "good", "one")
    write_examination(cohort / "JANE_DOE" / "series", "two", seed=4)
    write_examination(cohort / "bad", "three")
    write_examination(cohort / "bad", "three", ("low",), seed=1)
    run = run_folder("physics_tv", cohort, tmp_path / "out", **OPTIONS)
    assert run.status == 1
    assert len(run.done) == 2
    assert "good" in run.done
    (pseudonym,) = (name for name in run.done if name != "good")
    assert pseudonym.startswith("study-")
    (line,) = [line for line in caplog.messages if line.startswith("study bad, low: ")]
    assert "2 series fit rule 1" in line
    assert read_failures(tmp_path / "out") == {"bad": line.removeprefix("study bad, ")}
    assert "1 of 3 studies could not be read, see above: bad" in caplog.messages
    assert "doe" not in caplog.text.lower()


def test_two_workers_give_the_results_of_one(tmp_path, phantom, write_series, caplog) -> None:
    cohort = tmp_path / "cohort"
    made = {  # how each differs from the phantom, and in its headers
        "a": (lambda values: values, {}),
        "b": (lambda values: values[::-1], {}),
        "c": (lambda values: values[:, ::-1], {"spin_echo": False}),
        "d": (lambda values: values[::-1, ::-1], {}),
        "dark": (lambda values: 0 * values, {}),
    }
    for name, (change, header) in made.items():
        for number, member in enumerate(("pre", "low"), 1):
            values, affine = phantom[member]
            write_series(cohort / name, change(values), affine, f"T1 {member}", number, study=name, **header)
    write_series(cohort / "half", *phantom["low"], "T1 low", 2, study="half")
    options = {"device": "cpu", "registration_policy": "none", "max_iterations": 3}
    runs, found, failures = {}, {}, {}
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        caplog.clear()
        runs[workers] = run_folder("physics_tv", cohort, out, workers=workers, **options)[:2]
        assert {"dark", "half"} == {*read_failures(out)}
        failures[workers] = sorted(line for line in caplog.messages if line.startswith(("study dark", "study half")))
        # both files tell how many seconds it took
        found[workers] = {
            name: value for name, value in hashes(out).items() if not name.endswith(("result.json", "derived.json"))
        }
    assert runs[2] == runs[1] == (1, ["a", "b", "d", "c"])
    assert found[2] == found[1]
    assert failures[2] == failures[1]
    assert len({found[1][f"{name}/high_sim.nii.gz"] for name in "abcd"}) == 4
    assert sum(name.endswith(".dcm") for name in found[1]) == 16


def test_the_header_is_the_acquisition_of_the_run(tmp_path, write_examination, caplog) -> None:
    cohort = tmp_path / "cohort"
    write_examination(cohort / "spin", "one")
    write_examination(cohort / "gradient", "two", spin_echo=False)
    write_examination(cohort / "inverted", "three", ScanningSequence=["GR", "IR"], SequenceVariant=["SP", "MP"])
    run = run_folder("physics_tv", cohort, tmp_path / "out", dose_fraction=0.25, **OPTIONS)
    assert (run.status, sorted(run.done)) == (0, ["gradient", "inverted", "spin"])
    names = ("dose_fraction", "repetition_time_ms", "echo_time_ms", "flip_angle_deg")
    configurations = {
        name: json.loads((tmp_path / "out" / name / "result.json").read_text())["configuration"] for name in run.done
    }
    assert {name: [found[key] for key in names] for name, found in configurations.items()} == {
        "spin": [0.25, 360.0, 5.51, None],
        "gradient": [0.25, 8.0, 3.0, 15.0],
        "inverted": [0.25, 360.0, 5.51, None],
    }
    assert "study inverted: its signal equation is not known from ScanningSequence GR, IR" in caplog.text


def test_an_acquisition_that_is_given_wins(study, tmp_path, caplog) -> None:
    acquisition = {"dose_fraction": 0.2, "repetition_time_ms": 500.0, "echo_time_ms": 10.0}
    run = run_folder("physics_tv", study, tmp_path / "out", acquisition=acquisition, derived=False, **OPTIONS)
    assert run.status == 0
    configuration = json.loads((tmp_path / "out" / "exam-1" / "result.json").read_text())["configuration"]
    assert (configuration["repetition_time_ms"], configuration["echo_time_ms"]) == (500.0, 10.0)
    assert "the acquisition that was given differs in repetition_time_ms, echo_time_ms" in caplog.text
    assert not (tmp_path / "out" / "exam-1" / "dicom").exists()


def test_by_uid_among_several_examinations(tmp_path, write_examination) -> None:
    folder = tmp_path / "all"
    write_examination(folder, "one")
    write_examination(folder, "two", seed=1)
    pre, low = sorted(
        (one for one in scan_folder(folder) if one.study_uid == scan_folder(folder)[-1].study_uid),
        key=lambda one: one.acquired,
    )
    choice = SeriesChoice(uids={"pre": pre.uid, "low": low.uid})
    run = run_folder("physics_tv", folder, tmp_path / "out", choice, **OPTIONS)
    assert (run.status, run.done) == (0, ["all"])
    (derived,) = scan_folder(tmp_path / "out" / "all" / "dicom")
    assert derived.study_uid == low.study_uid


def test_enhanced_source_gives_classic_images(tmp_path, phantom, write_enhanced) -> None:
    folder = tmp_path / "exam"
    write_enhanced(folder / "a", *phantom["pre"], "T1 pre", 2, time="101500")
    write_enhanced(folder / "b", *phantom["low"], "T1 low", 3, time="102000", agent="Gadobutrol", order=[2, 0, 3, 1])
    run = run_folder("physics_tv", folder, tmp_path / "out", **OPTIONS)
    assert (run.status, run.done) == (0, ["exam"])
    images = [pydicom.dcmread(file) for file in sorted((tmp_path / "out" / "exam" / "dicom" / "high_sim").iterdir())]
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4]
    assert {image.SOPClassUID for image in images} == {pydicom.uid.MRImageStorage}
    assert [image.SourceImageSequence[1].ReferencedFrameNumber for image in images] == [1, 2, 3, 4]
    assert (images[0].ScanningSequence, images[0].RepetitionTime, images[0].FlipAngle) == ("GR", 8, 15)
    assert images[0].ContrastBolusAgent == "Gadobutrol"
    values = np.asarray(nib.load(tmp_path / "out" / "exam" / "high_sim.nii.gz").dataobj)
    for image, index in zip(images, [2, 0, 3, 1], strict=True):
        np.testing.assert_array_equal(image.pixel_array, np.rint(values[:, :, index]).T)


def test_dicom_members_of_a_dataset(tmp_path, phantom, write_series) -> None:
    for name in ("pre", "low"):
        write_series(tmp_path / "data" / "s" / name, *phantom[name], f"T1 {name}", 1 if name == "pre" else 2)
    run = run_folder("physics_tv", tmp_path / "data", tmp_path / "out", derived=True, **OPTIONS)
    assert run == (0, ["s"], tmp_path / "data")
    (series,) = scan_folder(tmp_path / "out" / "s" / "dicom")
    assert series.frames == 4


def test_derived_series_of_what_is_no_dicom(tmp_path, finished, caplog) -> None:
    shutil.copytree(finished / "inputs", tmp_path / "data")
    run = run_folder("physics_tv", tmp_path / "data", tmp_path / "out", derived=True, **OPTIONS)
    assert (run.status, run.done) == (1, ["exam-1"])
    assert "study exam-1, low: it is not a DICOM series, so there is no examination" in caplog.text


def test_results_never_go_among_the_inputs(study, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="lies in the dataset folder"):
        run_folder("physics_tv", study, study / "out", **OPTIONS)
    inside = tmp_path / "out" / "exam-1"
    shutil.copytree(study, inside)
    with pytest.raises(ConfigurationError, match="would put results of study exam-1 among its inputs"):
        run_folder("physics_tv", inside, tmp_path / "out", **OPTIONS)


def test_options_that_cannot_be_meant(tmp_path, finished) -> None:
    with pytest.raises(ConfigurationError, match="expected derived series among residual, enhancement, got mask"):
        run_folder("physics_tv", tmp_path, tmp_path / "out", also=("mask",))
    with pytest.raises(ConfigurationError, match="rules and UIDs choose among DICOM series, and there are none"):
        run_folder("physics_tv", finished / "inputs", tmp_path / "out", SeriesChoice(uids={"low": "1.2"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="no study found in"):
        run_folder("physics_tv", tmp_path / "empty", tmp_path / "out")
