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
"""Packaged bundles alone, with the package installed from its wheel: no repository, and no bundle beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from monai_lipcar.bundle_package import package_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
INVERSE_PROBLEMS = ("h2l_tv", "ph2l_tv", "ph2l_gentv", "physics_tv")
# one without and one with two networks always, the others when there is time
BUNDLES = (
    "physics_tv",
    "ph2l_gentv",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("l2h", "pl2h", "h2l", "ph2l", "h2l_tv", "ph2l_tv")),
)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``pip install`` would put into site-packages."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site-packages")
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    shutil.copytree(REPOSITORY / "monai_lipcar", source / "monai_lipcar", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(source / "dist"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, timeout=600)
    (wheel,) = (source / "dist").glob("monai_lipcar-*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(place)
    return place


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Run:
    """Run Python in a folder, with the installed package before every other one."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(installed)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)

    return run


def test_the_installed_package_is_no_way_back_to_the_repository(
    installed: Path, elsewhere: Run, tmp_path: Path
) -> None:
    program = "import monai_lipcar.bundle as b; print(b.__file__); b.bundle_root('physics_tv')"
    process = elsewhere(tmp_path, "-c", program)
    assert process.stdout.strip() == str(installed / "monai_lipcar" / "bundle.py")
    assert "ConfigurationError: bundle 'physics_tv' not found" in process.stderr


@pytest.mark.parametrize("name", BUNDLES)
def test_a_packaged_bundle_computes_the_same_elsewhere(
    name: str, dataset: Path, elsewhere: Run, run_bundle: Run, tmp_path: Path
) -> None:
    archive = package_bundle(name, tmp_path / "packaged").archive
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path / "elsewhere")
    folder = (tmp_path / "elsewhere" / name).rename(tmp_path / "elsewhere" / "renamed")
    shutil.rmtree(tmp_path / "packaged")

    data = dataset
    options = []
    if name != "physics_tv":  # one study and little work for the networks, which are slow
        data = Path(shutil.copytree(dataset / "random-0001", tmp_path / "data" / "random-0001")).parent
        options = ["--registration_policy", "none"]
        options += ["--max_iterations", "1"] if name in INVERSE_PROBLEMS else []
    options += ["--dataset_dir", str(data), "--output_dir"]
    run_bundle(name, "inference.json", *options, str(tmp_path / "here"))
    before = sorted(folder.rglob("*"))
    command = ("-m", "monai.bundle", "run", "--config_file", "configs/inference.json")
    process = elsewhere(folder, *command, *options, str(tmp_path / "there"))
    assert process.returncode == 0, process.stdout + process.stderr
    assert str(REPOSITORY) not in process.stdout + process.stderr
    assert sorted(folder.rglob("*")) == before

    results = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").glob("*/*.nii.gz"))
    assert len(results) == (4 if name == "physics_tv" else 2 if name in INVERSE_PROBLEMS else 1)
    for result in results:
        here, there = nib.load(tmp_path / "here" / result), nib.load(tmp_path / "there" / result)
        np.testing.assert_array_equal(here.affine, there.affine)
        values = np.asarray(here.dataobj)
        np.testing.assert_allclose(np.asarray(there.dataobj), values, atol=1e-4 * np.abs(values).max(), rtol=0)
        record, expected = (
            json.loads((tmp_path / place / result.parent / "result.json").read_text()) for place in ("there", "here")
        )
        for key in ("bundle", "configuration", "operator_weights_sha256", "scale", "status", "iterations"):
            assert record.get(key) == expected.get(key), key


@pytest.mark.parametrize("name", BUNDLES)
def test_checks_of_the_model_zoo(name: str, dataset: Path, tmp_path: Path) -> None:
    folder = package_bundle(name, tmp_path).folder
    metadata, config = folder / "configs" / "metadata.json", folder / "configs" / "inference.json"
    verify_metadata(meta_file=str(metadata), filepath=str(Path(__file__).with_name("meta_schema_20240725.json")))
    content = json.loads(metadata.read_text())
    assert content["version"] in content["changelog"]
    common = {"meta_file": str(metadata), "config_file": str(config), "bundle_root": str(folder)}
    verify_net_in_out(net_id="network_def", **common)
    exported = folder / "models" / "verify_model.ts"
    ckpt_export(net_id="network_def", filepath=str(exported), ckpt_file=str(folder / "models" / "model.pt"), **common)
    image = torch.rand(1, content["network_data_format"]["inputs"]["image"]["num_channels"], 32, 32)
    assert torch.jit.load(exported)(image).shape == (1, 1, 32, 32)
    for file in ("inference.json", "evaluate.json"):
        workflow = ConfigWorkflow(
            config_file=str(folder / "configs" / file),
            workflow_type="infer",
            logging_file=str(folder / "configs" / "logging.conf"),
            dataset_dir=str(dataset),
            output_dir=str(tmp_path / "out"),
        )
        workflow.initialize()
        assert workflow.check_properties() == []
        assert workflow.bundle_root == str(folder)


def test_damaged_weights_of_a_packaged_bundle(elsewhere: Run, tmp_path: Path) -> None:
    folder = package_bundle("ph2l_gentv", tmp_path / "packaged").folder
    weights = folder / "models" / "guess_model.pt"
    shutil.copy(folder / "models" / "model.pt", weights)
    process = elsewhere(folder, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json")
    assert process.returncode == 1
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: weights file {weights} is not the one this bundle was released with")
