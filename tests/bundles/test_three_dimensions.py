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
"""The bundles with a 3-D operator, and with 2-D ones and the prior of the volume."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_lipcar.data import find_studies
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.engines import prepare_study
from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import LearnedInverseProblem, ProximalSolver, TotalVariation

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
Run = Callable[..., subprocess.CompletedProcess[str]]
UNREGISTERED = ("--registration_policy", "none", "--match_intensity", "false")


@pytest.fixture(scope="module")
def thick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated studies of as few slices as a 3-D network takes, five times as thick as the pixels are wide."""
    folder = tmp_path_factory.mktemp("thick")
    anatomy = {"shape": (32, 32, 16), "spacing": (1.0, 1.0, 5.0)}
    write_cohort(folder, "random", 2, seed=3, anatomy_options=anatomy, progress=False)
    return folder


@pytest.mark.parametrize("operator", ["ph2l", "pl2h", "h2l", "l2h"])
def test_training_is_configured_by_the_size_of_what_is_trained_on(operator: str, thick: Path, tmp_path: Path) -> None:
    config = ConfigParser.load_config_file(str(BUNDLES / operator / "configs" / "train.json"))
    given = {"dataset_dir": str(thick), "output_dir": str(tmp_path), "registration_policy": "none", "batch_size": 2}
    sizes = {"patch_size": [16, 16, 16], "validation_size": [32, 32, 16]}
    parser = ConfigParser({**config, **given, **sizes, "device": "$torch.device('cpu')"})
    network = parser.get_parsed_content("network")
    assert isinstance(network, DoseOperator)
    assert network.spatial_dims == 3
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    assert batch["label"].shape == (2, 1, 16, 16, 16)
    response = {"response": batch["response"]} if "response" in batch else {}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = parser.get_parsed_content("loss")(network(batch["image"], **response), batch["label"])
    loss.backward()
    parser.get_parsed_content("optimizer").step()
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    held_back = parser.get_parsed_content("validate#dataset")[0]
    assert held_back["label"].shape == (1, 32, 32, 16)


@pytest.mark.slow
def test_a_network_is_trained_and_inverted(thick: Path, tmp_path: Path, run_bundle: Run) -> None:
    sizes = ("--patch_size", "[16,16,16]", "--validation_size", "[32,32,16]", "--batch_size", "8", "--epochs", "1")
    for operator in ("ph2l", "pl2h"):
        arguments = ("--dataset_dir", str(thick), "--output_dir", operator, *UNREGISTERED, *sizes)
        run_bundle(operator, "train.json", *arguments)
        assert json.loads((tmp_path / operator / "training.json").read_text())["iterations"] >= 1
    shutil.copytree(thick / "random-0001", tmp_path / "data" / "one")
    weights = ("--spatial_dims", "3", "--checkpoint", "ph2l/model.pt")
    arguments = ("--dataset_dir", "data", "--max_iterations", "3", *UNREGISTERED, *weights)
    run_bundle("ph2l_tv", "evaluate.json", *arguments, "--output_dir", "tv")
    guess = ("--guess_checkpoint", "pl2h/model.pt", "--output_dir", "gentv")
    run_bundle("ph2l_gentv", "inference.json", *arguments, *guess)
    run_bundle("ph2l", "inference.json", *arguments[:2], *UNREGISTERED, *weights, "--output_dir", "low")
    low = nib.load(thick / "random-0001" / "low.nii.gz")
    for folder, name in (("tv", "high_sim"), ("gentv", "high_sim"), ("low", "low_sim")):
        image = nib.load(tmp_path / folder / "one" / f"{name}.nii.gz")
        assert image.shape == low.shape
        np.testing.assert_allclose(image.affine, low.affine, atol=1e-5)
        assert np.isfinite(image.get_fdata()).all()
    record = json.loads((tmp_path / "tv" / "one" / "result.json").read_text())
    assert len(record["slices"]["status"]) == 1
    assert record["objective"]["last"] < record["objective"]["first"]
    refused = run_bundle("ph2l_tv", "inference.json", *arguments, "--across_slices", "true", check=False)
    assert "across_slices: it joins the slices of a 2-D operator" in refused.stderr


def test_the_physics_operator_and_the_variation_of_the_volume(thick: Path, tmp_path: Path, run_bundle: Run) -> None:
    """``--across_slices true`` of physics_tv is the problem of the whole volume, with its voxel size."""
    shutil.copytree(thick / "random-0001", tmp_path / "data" / "one")
    arguments = ("--dataset_dir", "data", "--output_dir", "out", *UNREGISTERED)
    run_bundle("physics_tv", "inference.json", *arguments, "--across_slices", "true")
    record = json.loads((tmp_path / "out" / "one" / "result.json").read_text())
    assert record["slices"]["status"] == ["converged"]
    config = ConfigParser.load_config_file(str(BUNDLES / "physics_tv" / "configs" / "inference.json"))
    parser = ConfigParser({**config, "registration_policy": "none", "match_intensity": False})
    (study,) = find_studies(tmp_path / "data", ("pre", "low"))
    prepared = prepare_study(study, parser.get_parsed_content("preprocessing"), ("pre", "low"))
    pre, low = (prepared[name].as_tensor()[None].float() for name in ("pre", "low"))
    prior = TotalVariation(spacing=(1.0, 1.0, 5.0)).around(pre)
    problem = LearnedInverseProblem(SignalEquationOperator(dose_fraction=0.2), low, prior, config["alpha"], pre)
    expected = ProximalSolver().solve(problem, low).image[0, 0] * prepared["scale"]
    found = nib.load(tmp_path / "out" / "one" / "high_sim.nii.gz").get_fdata()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.max()))
    refused = run_bundle("physics_tv", "inference.json", *arguments, "--spatial_dims", "3", check=False)
    assert refused.stderr.splitlines()[-1].endswith("for the problem of the whole volume give --across_slices true")
