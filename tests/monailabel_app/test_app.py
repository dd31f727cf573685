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
"""The app in this process: what it answers to requests."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.bundle import run_bundle

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")

QUICK = {"max_iterations": 2}
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")
INVERSE_PROBLEMS = ("h2l_tv", "ph2l_tv", "ph2l_gentv", "physics_tv")


def ask(client: Any, model: str, image: str = "rat_low", output: str = "image", **params: Any) -> Any:
    return client.post(f"/infer/{model}?image={image}&output={output}", data={"params": json.dumps(params)})


def nifti(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


def test_offers_every_bundle(client: Any) -> None:
    info = client.get("/info/").json()
    assert sorted(info["models"]) == sorted((*OPERATORS, *INVERSE_PROBLEMS))
    assert "not for diagnosis" in info["description"]
    for name, model in info["models"].items():
        assert model["type"] == "others"
        assert model["observed"] == ("high" if name in ("h2l", "ph2l") else "low")
        assert "not for diagnosis" in model["description"]
        assert ("alpha" in model["config"]) == (name in INVERSE_PROBLEMS)
    assert info["models"]["ph2l_gentv"]["config"]["solver"] == ["proximal", "paper"]
    assert info["models"]["ph2l_gentv"]["config"]["volume"] == ["high_sim", "residual"]


@pytest.mark.parametrize("name", [*OPERATORS, *INVERSE_PROBLEMS])
def test_answers_what_the_bundle_computes(name: str, client: Any, cohort: Path, tmp_path: Path) -> None:
    forward = name in ("h2l", "ph2l")
    members = ("pre", "low", "high") if "p" in name else ("high",) if name == "h2l" else ("low",)
    study = tmp_path / "data" / "rat"
    study.mkdir(parents=True)
    for member in members:
        shutil.copyfile(cohort / "rat" / f"{member}.nii.gz", study / f"{member}.nii.gz")
    options = QUICK if name in INVERSE_PROBLEMS else {}
    assert run_bundle(name, study.parent, tmp_path / "out", **options) == 0
    expected = nib.load(tmp_path / "out" / "rat" / ("low_sim.nii.gz" if forward else "high_sim.nii.gz"))

    others = {member: f"rat_{member}" for member in members}
    answer = ask(client, name, "rat_high" if forward else "rat_low", **options, **others)
    assert answer.status_code == 200, answer.text
    image = nifti(answer.content)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, expected.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
    assert float(np.ptp(np.asarray(image.dataobj))) > 1  # scanner units, not [0, 1]


def test_residual_and_record(client: Any, cohort: Path, tmp_path: Path) -> None:
    assert run_bundle("physics_tv", cohort, tmp_path, alpha=0.004, **QUICK) == 0
    expected = np.asarray(nib.load(tmp_path / "rat" / "residual.nii.gz").dataobj)
    result = ask(client, "physics_tv", high="rat_high", alpha=0.004, **QUICK)
    residual = ask(client, "physics_tv", high="rat_high", alpha="0.004", volume="residual", **QUICK)
    np.testing.assert_array_equal(np.asarray(nifti(residual.content).dataobj), expected)
    assert residual.content != result.content
    record = ask(client, "physics_tv", output="json", high="rat_high", alpha=0.004, **QUICK).json()
    assert record["study_id"] == "rat_low"
    assert (record["alpha"], record["configuration"]["max_iterations"]) == (0.004, 2)
    assert record["verdict"]["level"]
    assert record["metrics"]["simulated"]["psnr"] > 10
    assert "for research use only" in record["notice"]


def test_the_latest_result_is_not_computed_again(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib import task

    written = []

    def watched(name: str, dataset_dir: Path, output_dir: Path, **options: Any) -> Any:
        run = run_studies(name, dataset_dir, output_dir, **options)
        written.append((output_dir / "rat_low" / "result.json").stat().st_mtime_ns)
        return run

    run_studies = task.run_studies
    monkeypatch.setattr(task, "run_studies", watched)
    for params in ({"alpha": 0.011}, {"alpha": 0.011, "volume": "residual"}, {"alpha": 0.012}, {"alpha": 0.011}):
        assert ask(client, "physics_tv", **QUICK, **params).status_code == 200
    first, again, other, not_the_latest_any_more = written
    assert again == first < other < not_the_latest_any_more


def test_the_image_before_contrast_is_found_by_its_name(client: Any) -> None:
    by_name, by_id = ask(client, "physics_tv", **QUICK), ask(client, "physics_tv", pre="rat_pre", **QUICK)
    assert by_name.status_code == 200
    np.testing.assert_array_equal(nifti(by_name.content).dataobj, nifti(by_id.content).dataobj)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", None])
def test_viewers_get_floats_whatever_they_ask_for(dtype: str | None, client: Any) -> None:
    expected = np.asarray(nifti(ask(client, "physics_tv", **QUICK).content).dataobj)
    for extension in (".nii.gz", ".nii", ".nrrd", ".mha"):
        answer = ask(client, "physics_tv", result_dtype=dtype, result_extension=extension, **QUICK)
        assert answer.status_code == 200, answer.text
        array = read(answer.content, extension)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)


def read(content: bytes, extension: str) -> np.ndarray:
    if extension == ".nii.gz":
        return np.asarray(nifti(content).dataobj)
    if extension == ".nii":
        return np.asarray(nib.Nifti1Image.from_stream(io.BytesIO(content)).dataobj)
    if extension == ".nrrd":
        assert b"type: float\n" in content[:400]
    start = content.index(b"\n\n") + 2 if extension == ".nrrd" else content.index(b"ElementDataFile = LOCAL\n") + 24
    shape = (4, 64, 64)
    return np.frombuffer(content[start:], "<f4").reshape(shape).T


def test_geometry_survives_the_formats_of_viewers(client: Any, tmp_path: Path) -> None:
    spaces = {}
    for extension in (".nii.gz", ".nrrd", ".mha"):
        file = tmp_path / f"result{extension}"
        file.write_bytes(ask(client, "physics_tv", result_extension=extension, **QUICK).content)
        image = itk.imread(file)
        direction = itk.array_from_matrix(image.GetDirection())
        spaces[extension] = np.concatenate([direction.ravel(), image.GetSpacing(), image.GetOrigin()])
    np.testing.assert_allclose(spaces[".nrrd"], spaces[".nii.gz"], atol=1e-4)
    np.testing.assert_allclose(spaces[".mha"], spaces[".nii.gz"], atol=1e-4)


def test_a_result_can_be_kept_in_the_datastore(client: Any, images: Path) -> None:
    answer = ask(client, "physics_tv", save_label=True, label_tag="simulated", **QUICK)
    kept = client.get("/datastore/label?label=rat_low&tag=simulated")
    np.testing.assert_array_equal(nifti(kept.content).dataobj, nifti(answer.content).dataobj)
    assert (images / "labels" / "simulated" / "rat_low.nii.gz").is_file()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"alpha": "$__import__('os').getcwd()"}, "alpha: expected a number or 'auto'"),
        ({"alpha": -1}, "alpha: expected a number that is not negative"),
        ({"solver": "newton"}, "solver: expected 'proximal' or 'paper', got 'newton'"),
        ({"max_iterations": 0}, "max_iterations: expected"),
        ({"dose_fraction": 3}, "dose_fraction: expected low dose over high dose"),
        ({"aplha": 0.1}, "unknown parameter 'aplha'; did you mean 'alpha'?"),
        ({"volume": "uncertainty"}, "volume: expected 'high_sim' or 'residual', got 'uncertainty'"),
        ({"result_extension": ".exe"}, "result_extension: expected one of"),
        ({"pre": "rat_low"}, "pre: 'rat_low' is the image itself"),
    ],
)
def test_bad_parameters(params: dict[str, Any], expected: str, client: Any) -> None:
    assert expected in refused(ask(client, "ph2l_tv", **params), 400)


@pytest.mark.parametrize("params", ["{alpha: 1}", "[1]", "null", "7", '"alpha"', '[["alpha"]]'])
def test_parameters_that_are_no_json_object(params: str, client: Any) -> None:
    answer = client.post("/infer/ph2l_tv?image=rat_low", data={"params": params})
    assert "params: expected a JSON object" in refused(answer, 400)


def test_requests_that_cannot_be_meant(client: Any) -> None:
    assert "image: expected the id" in refused(client.post("/infer/physics_tv", data={"params": "{}"}), 400)
    assert "no DICOM SEG" in refused(ask(client, "physics_tv", output="dicom_seg", **QUICK), 400)


def test_operators_have_no_alpha(client: Any) -> None:
    assert "the bundle l2h applies an operator" in refused(ask(client, "l2h", alpha=0.1), 400)


def test_messages_name_no_folder_of_the_server(client: Any) -> None:
    detail = refused(ask(client, "ph2l_tv", dose_fraction=0.95), 400)
    assert "model.pt was trained for the dose fraction" in detail
    assert str(Path(__file__).resolve().parents[2]) not in detail


def test_what_is_not_there(client: Any) -> None:
    assert "there is no model 'unet'; there are l2h" in refused(ask(client, "unet"), 404)
    assert "image: there is no image 'rat_mid'" in refused(ask(client, "ph2l_tv", "rat_mid"), 404)
    assert "pre: there is no image 'mouse_pre'" in refused(ask(client, "ph2l_tv", pre="mouse_pre"), 404)


def test_paths_in_place_of_ids(client: Any, images: Path) -> None:
    path = str(images / "rat_low.nii.gz")
    assert "no path or file" in refused(ask(client, "physics_tv", path), 400)
    assert "no path or file" in refused(ask(client, "physics_tv", "../rat_low"), 400)
    assert "no path or file" in refused(ask(client, "physics_tv", image=[path], pre="rat_pre"), 400)
    assert "no path or file" in refused(ask(client, "physics_tv", pre=str(images / "rat_pre.nii.gz")), 400)
    with open(path, "rb") as file:
        answer = client.post("/infer/physics_tv", data={"params": "{}"}, files={"file": ("low.nii.gz", file)})
    assert "no path or file" in refused(answer, 400)


def test_images_that_cannot_be_used(client: Any, images: Path, tmp_path: Path) -> None:
    low = nib.load(images / "rat_low.nii.gz")
    bad = np.asarray(low.dataobj, np.float32).copy()
    bad[:, :, 1] = np.nan
    nib.save(nib.Nifti1Image(bad, low.affine), tmp_path / "bad.nii.gz")
    with open(tmp_path / "bad.nii.gz", "rb") as file:
        assert client.put("/datastore/image?image=bad_low", files={"file": ("bad.nii.gz", file)}).status_code == 200
    detail = refused(ask(client, "physics_tv", "bad_low", pre="rat_pre"), 422)
    assert detail.startswith("study bad_low: low (bad_low.nii.gz): expected finite values")
    assert str(images) not in detail
    assert "pre: expected the id of the image that belongs to 'bad_low' (by its name it would be 'bad_pre'" in refused(
        ask(client, "physics_tv", "bad_low"), 400
    )
    assert client.delete("/datastore/image?id=bad_low").status_code == 200


@pytest.mark.parametrize("image", ["../evil", "/evil", "a/b", "..", ".hidden", "a\\b"])
def test_uploads_stay_in_the_folder(image: str, client: Any, images: Path) -> None:
    before = sorted(images.parent.rglob("*.nii.gz"))
    files = {"file": ("low.nii.gz", (images / "rat_low.nii.gz").read_bytes())}
    answer = client.put("/datastore/image", params={"image": image}, files=files)
    assert "id of an image: expected letters, digits" in refused(answer, 400)
    files = {"label": ("low.nii.gz", (images / "rat_low.nii.gz").read_bytes())}
    answer = client.put("/datastore/label", params={"image": "rat_low", "tag": image}, files=files)
    assert "tag of a result: expected letters, digits" in refused(answer, 400)
    assert sorted(images.parent.rglob("*.nii.gz")) == before


def test_what_is_no_volume_is_not_taken(client: Any, images: Path) -> None:
    answer = client.put("/datastore/image?image=notes", files={"file": ("notes.txt", b"nothing to see")})
    assert "image 'notes': expected a file that ends with .nii.gz, .nii, .nrrd" in refused(answer, 400)
    assert "notes" not in client.get("/datastore/?output=all").text
    assert list(images.glob("notes*")) == []


def test_images_are_never_replaced(client: Any, images: Path) -> None:
    content = (images / "rat_low.nii.gz").read_bytes()
    other = {"file": ("x.nii.gz", (images / "rat_pre.nii.gz").read_bytes())}
    assert "there is an image 'rat_low' already" in refused(
        client.put("/datastore/image", params={"image": "rat_low"}, files=other), 409
    )
    assert (images / "rat_low.nii.gz").read_bytes() == content


def test_results_of_an_image_that_is_not_there(client: Any, images: Path) -> None:
    files = {"label": ("low.nii.gz", (images / "rat_low.nii.gz").read_bytes())}
    assert "Image mouse not found" in refused(client.put("/datastore/label?image=mouse", files=files), 404)
