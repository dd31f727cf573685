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
"""Every bundle as its user runs it, and MONAI's own checks of bundles."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out

from monai_lipcar.handlers import SCHEMA_VERSION
from monai_lipcar.networks import file_sha256
from monai_lipcar.problem import AlphaRule

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
OPERATORS = ("l2h", "pl2h", "h2l", "ph2l")
INVERSE_PROBLEMS = ("h2l_tv", "ph2l_tv", "ph2l_gentv", "physics_tv")
BUNDLES = OPERATORS + INVERSE_PROBLEMS


def config_file(name: str, config: str = "inference.json") -> Path:
    return REPOSITORY / "bundles" / name / "configs" / config


def config(name: str, file: str = "inference.json") -> dict:
    return json.loads(config_file(name, file).read_text())


@pytest.mark.parametrize("name", BUNDLES)
def test_inference(name: str, dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    out = tmp_path / "out"
    options = ["--max_iterations", "2"] if name in INVERSE_PROBLEMS else []
    run_bundle(name, "inference.json", "--dataset_dir", str(dataset), "--output_dir", str(out), *options)

    volume = "low_sim" if name in ("h2l", "ph2l") else "high_sim"
    for study in sorted(path for path in dataset.iterdir() if path.is_dir()):
        low = nib.load(study / "low.nii.gz")
        result = nib.load(out / study.name / f"{volume}.nii.gz")
        assert result.shape == low.shape
        assert result.get_data_dtype() == np.float32
        np.testing.assert_allclose(result.affine, low.affine, atol=1e-5)
        values, units = np.asarray(result.dataobj), np.asarray(low.dataobj)
        assert np.isfinite(values).all()
        # scanner units, not [0, 1]: in the mean the simulated image is close to the observed one
        assert 0.5 < values.mean() / units.mean() < 2.0
        record = json.loads((out / study.name / "result.json").read_text())
        assert record["bundle"] == {"name": name, "version": config(name, "metadata.json")["version"]}
        assert record["operator_weights_sha256"] == record["configuration"].get("weights")
        assert (record["operator_weights_sha256"] is None) is (name == "physics_tv")
        assert record["schema_version"] == SCHEMA_VERSION
        assert "research use only" in record["notice"]
        assert set(record["inputs"]) == {"pre", "low", "high", "lesion"}
        assert record["metrics"]["simulated"]["ssim_head"] > 0.3
        if nib.load(study / "lesion.nii.gz").get_fdata().any():
            assert record["metrics"]["simulated"]["psnr_lesion"] > 10
        assert 0 < record["sigma"] < 0.05
        assert str(dataset) not in json.dumps(record)
        if name in INVERSE_PROBLEMS:
            residual = nib.load(out / study.name / "residual.nii.gz")
            assert residual.shape == low.shape
            assert record["solver"]["name"] == "proximal"
            assert record["iterations"] <= 2
            assert record["objective"]["last"] < record["objective"]["first"]


@pytest.mark.parametrize("name", ["pl2h", "h2l", "physics_tv", "ph2l_gentv"])
def test_evaluate_writes_a_summary(name: str, dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    out = tmp_path / "out"
    options = ["--max_iterations", "2"] if name in INVERSE_PROBLEMS else []
    run_bundle(name, "evaluate.json", "--dataset_dir", str(dataset), "--output_dir", str(out), *options)
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["studies"] == 2
    compared = {"high", "linear_dose_model"} if name == "h2l" else {"low", "linear_extrapolation"}
    # the acquired image has a row of its own where there are lesions to measure in it
    lesions = sum(bool(nib.load(path).get_fdata().any()) for path in dataset.glob("*/lesion.nii.gz"))
    acquired = {"low" if name == "h2l" else "high"} if lesions else set()
    assert set(summary["mean"]) == {*compared, *acquired, "simulated"}
    assert summary["mean"]["simulated"]["ssim_head"] > 0.3
    rows = (out / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3 + lesions


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("physics_tv", "inference.json"),
        ("physics_tv", "evaluate.json"),
        ("ph2l_tv", "inference.json"),
        ("ph2l_gentv", "inference.json"),
        ("h2l_tv", "inference.json"),
    ],
)
def test_alpha_from_the_noise_of_the_study(
    name: str, file: str, dataset: Path, tmp_path: Path, run_bundle: Run
) -> None:
    shutil.copytree(dataset / "random-0001", tmp_path / "data" / "one")
    arguments = ("--dataset_dir", "data", "--output_dir", "out", "--registration_policy", "none")
    run_bundle(name, file, *arguments, "--alpha", "auto")
    record = json.loads((tmp_path / "out" / "one" / "result.json").read_text())
    rule = config(name, "metadata.json")["alpha_rule"]
    rule.pop("weights_sha256", None)
    assert rule.pop("dose_fraction") == record["configuration"]["dose_fraction"]
    assert record["configuration"]["alpha"] == "auto"
    assert record["configuration"]["alpha_rule"] == rule
    choice = record["alpha_choice"]
    assert 0 < record["alpha"] == choice["alpha"]
    assert choice["sigma"] == record["sigma"]
    expected = AlphaRule(**rule)
    assert choice["wanted"] == pytest.approx(expected.discrepancy(choice["sigma"]))
    assert choice["alpha"] == pytest.approx(expected.alpha(choice["sigma"]))
    assert choice["status"] == "proportional"
    # the error of H2L is large, and the solution explains most of it
    least = choice["sigma"] if name == "h2l_tv" else choice["wanted"]
    assert 0.5 * least < choice["reached"] < 1.5 * choice["wanted"]
    again = run_bundle(name, file, *arguments, "--alpha", "auto")
    assert "are finished already and are skipped" in again.stdout


@pytest.mark.parametrize("name", INVERSE_PROBLEMS)
def test_the_rule_for_alpha_is_that_of_the_weights(name: str) -> None:
    rule = config(name, "metadata.json")["alpha_rule"]
    assert rule["operator_error"] > 0
    assert rule["kappa"] >= 0
    if name != "physics_tv":
        operator = REPOSITORY / "bundles" / name.split("_")[0] / "models" / "model.pt"
        assert rule["weights_sha256"] == file_sha256(operator)


def test_a_prior_across_the_slices(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    shutil.copytree(dataset / "random-0001", tmp_path / "data" / "one")
    arguments = ("--dataset_dir", "data", "--registration_policy", "none", "--max_iterations", "3")
    run_bundle("ph2l_gentv", "evaluate.json", *arguments, "--output_dir", "apart")
    run_bundle("ph2l_gentv", "evaluate.json", *arguments, "--output_dir", "across", "--across_slices", "true")
    records = [json.loads((tmp_path / out / "one" / "result.json").read_text()) for out in ("apart", "across")]
    images = [nib.load(tmp_path / out / "one" / "high_sim.nii.gz").get_fdata() for out in ("apart", "across")]
    assert [record["configuration"]["across_slices"] for record in records] == [False, True]
    assert [len(record["slices"]["status"]) for record in records] == [min(images[0].shape), 1]
    # one problem for all slices: its objective is that of them together, but for the prior between them
    assert records[1]["objective"]["first"] == pytest.approx(records[0]["objective"]["first"], rel=0.5)
    assert 0 < np.abs(images[0] - images[1]).max() < 0.5 * images[0].max()


def test_published_solver_on_a_learned_operator(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    shutil.copytree(dataset / "random-0001", tmp_path / "data" / "one")
    arguments = ("--dataset_dir", "data", "--output_dir", "out", "--registration_policy", "none")
    run_bundle("ph2l_tv", "inference.json", *arguments, "--solver", "paper", "--max_iterations", "2")
    record = json.loads((tmp_path / "out" / "one" / "result.json").read_text())
    assert record["solver"] == {"name": "paper", "max_iterations": 2, "step_size": 0.01}
    assert (record["status"], record["iterations"]) == ("max_iterations", 2)
    assert set(record["certificate"]) == {"projected_gradient", "relative_projected_gradient"}
    assert record["objective"]["last"] < record["objective"]["first"]
    assert np.isfinite(nib.load(tmp_path / "out" / "one" / "high_sim.nii.gz").get_fdata()).all()


def test_forward_operator_needs_the_full_dose_only(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    for members in (("pre", "low", "high"), ("low", "high"), ("high",)):
        for name in members:
            folder = tmp_path / "data" / f"with-{'-'.join(members)}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(dataset / "random-0001" / f"{name}.nii.gz", folder)
    # without the registration, which moves the full dose onto pre
    arguments = ("--dataset_dir", "data", "--output_dir")
    run_bundle("h2l", "inference.json", *arguments, "out", "--registration_policy", "none")
    high = nib.load(dataset / "random-0001" / "high.nii.gz")
    results = {}
    for folder in (tmp_path / "out").iterdir():
        image = nib.load(folder / "low_sim.nii.gz")
        np.testing.assert_allclose(image.affine, high.affine, atol=1e-5)
        results[folder.name] = image.get_fdata()
    reference = results.pop("with-pre-low-high")
    assert set(results) == {"with-low-high", "with-high"}
    head = reference > 0.2 * reference.max()
    for name, values in results.items():
        # scanner units, of the full dose now, not of pre: another gain, and a scale that is a little off
        assert np.median(values[head] / reference[head]) == pytest.approx(1.0, abs=0.1), name
        assert np.corrcoef(values[head], reference[head])[0, 1] > 0.98, name
    record = json.loads((tmp_path / "out" / "with-high" / "result.json").read_text())
    assert set(record["inputs"]) == {"high"}
    assert "metrics" not in record
    shutil.rmtree(tmp_path / "data" / "with-high")
    run_bundle("h2l", "evaluate.json", *arguments, "scores")
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["studies"] == 2


def test_default_dataset_is_the_sample(tmp_path: Path, run_bundle: Run) -> None:
    run_bundle("pl2h", "inference.json")
    results = list((tmp_path / "output" / "pl2h").glob("*/high_sim.nii.gz"))
    assert len(results) == 1


@pytest.mark.parametrize("name", BUNDLES)
def test_config_has_the_properties_of_its_workflow(name: str, dataset: Path, tmp_path: Path) -> None:
    for file in ("inference.json", "evaluate.json"):
        workflow = ConfigWorkflow(
            config_file=str(config_file(name, file)),
            workflow_type="infer",
            logging_file=False,
            dataset_dir=str(dataset),
            output_dir=str(tmp_path),
        )
        workflow.initialize()
        assert workflow.check_properties() == []


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of this process only, as ``torchrun`` would make one of several."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("file", ["train.json", "multi_gpu_train.json"])
def test_train_config_has_the_properties_of_its_workflow(name: str, file: str, dataset: Path, tmp_path: Path) -> None:
    files = [str(config_file(name, "train.json"))]
    if file != "train.json":
        files.append(str(config_file(name, file)))
    workflow = ConfigWorkflow(
        config_file=files,
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(dataset),
        output_dir=str(tmp_path),
        initialize=["$monai_lipcar.bundle.prepare()"],
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", BUNDLES)
def test_metadata(name: str, tmp_path: Path) -> None:
    schema = Path(__file__).with_name("meta_schema_20240725.json")
    verify_metadata(meta_file=str(config_file(name, "metadata.json")), filepath=str(schema))
    metadata = config(name, "metadata.json")
    assert metadata["version"] in metadata["changelog"]
    assert (config_file(name).parent.parent / "LICENSE").is_file()
    assert (config_file(name).parent.parent / "docs" / "README.md").is_file()


@pytest.mark.parametrize("name", BUNDLES)
def test_network_gives_what_the_metadata_says(name: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(config_file(name, "metadata.json")),
        config_file=str(config_file(name)),
        n=4,
    )


def test_what_bundles_share_is_the_same_in_all_of_them() -> None:
    for name in BUNDLES:
        for file in ("inference.json", "evaluate.json"):
            current, reference = config(name, file), config("ph2l_tv", file)
            for key in ("imports", "device", "dataset_dir", "dataloader", "evaluator", "initialize", "run", "section"):
                assert current[key] == reference[key], (name, file, key)
            for key in ("dataset_dir", "bundle_version"):
                assert current["writer"][key] == reference["writer"][key], (name, file, key)
            loaded, expected = (entry["preprocessing"]["transforms"][0] for entry in (current, reference))
            if file == "inference.json":  # what a stock MONAI Label app hands over as "image"
                expected = {**expected, "image_member": current["dataset"]["required"][-1]}
            assert loaded == expected, (name, file)
            optional = [member for member in ("high", "lesion") if member not in current["dataset"]["required"]]
            assert current["dataset"]["optional"] == ([] if file == "evaluate.json" else optional), (name, file)
            targets = [step["_target_"] for step in current["preprocessing"]["transforms"][:-1]]
            assert targets == [step["_target_"] for step in reference["preprocessing"]["transforms"][:-1]], (name, file)
        assert config(name, "metadata.json")["export_note"] == config("ph2l_tv", "metadata.json")["export_note"]
    training = config("ph2l", "train.json")
    for name in OPERATORS:
        current = config(name, "train.json")
        for key in ("epochs", "batch_size", "learning_rate", "loss", "optimizer", "lr_scheduler", "initialize", "run"):
            assert current[key] == training[key], (name, key)
        assert current["volume_preprocessing"] == training["volume_preprocessing"], name
        targets = [handler["_target_"] for handler in current["train"]["handlers"]]
        assert targets == [handler["_target_"] for handler in training["train"]["handlers"]], name


@pytest.mark.parametrize("name", INVERSE_PROBLEMS)
def test_overrides_of_inverse_problems(name: str) -> None:
    content = config(name)
    assert {"alpha", "solver", "max_iterations", "device", "dataset_dir", "output_dir", "overwrite"} <= set(content)
    assert 0 < content["alpha"] < 0.1
    for key in ("alpha", "alpha_rule"):
        assert content[key] == config(name, "evaluate.json")[key]
        if name == "ph2l_gentv":  # the adaptive prior has its own
            assert content["inferer"][key] == f"@configuration::{key}"
        else:
            assert content["configuration"][key] == content["inferer"][key] == f"@{key}"
    assert content["solver"] == config(name, "evaluate.json")["solver"] == "proximal"
    for file in () if name == "physics_tv" else ("inference.json", "evaluate.json"):  # which inverts no network
        content = config(name, file)
        assert content["precision"] == "float32"
        assert content["configuration"]["precision"] == content["inferer"]["precision"] == "@precision"
        assert content["compile"] is False
        assert content["configuration"]["compile"] == content["inferer"]["compiled"]


def test_folders_and_files_called_by_a_number(dataset: Path, tmp_path: Path, run_bundle: Run) -> None:
    (tmp_path / "2024_11").mkdir()
    shutil.copytree(dataset / "random-0001", tmp_path / "2024_11" / "1")
    shutil.copy(REPOSITORY / "bundles" / "l2h" / "models" / "model.pt", tmp_path / "7")
    arguments = ("--dataset_dir", "2024_11", "--registration_policy", "none")
    run_bundle("l2h", "inference.json", *arguments, "--output_dir", "2025", "--checkpoint", "7")
    assert (tmp_path / "2025" / "1" / "high_sim.nii.gz").is_file()
    run_bundle("l2h", "evaluate.json", *arguments, "--output_dir=2026")
    assert (tmp_path / "2026" / "metrics.json").is_file()
    small = ("--patch_size", "[32,32]", "--validation_size", "[32,32]", "--batch_size", "4", "--epochs", "1")
    run_bundle("l2h", "train.json", *arguments, *small, "--output_dir", "2027", "--cache_dir", "2028")
    assert (tmp_path / "2027" / "model.pt").is_file()
    assert list((tmp_path / "2028").iterdir())
