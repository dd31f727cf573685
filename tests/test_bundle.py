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
"""What the bundles' configs call."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from torch import nn

from monai_lipcar import bundle
from monai_lipcar.data import Study
from monai_lipcar.errors import ConfigurationError, StudyError, WeightsError
from monai_lipcar.networks import DoseOperator, file_sha256, save_weights
from monai_lipcar.problem import ProximalSolver

NAME = "tests_own"  # no bundle of this package


def make_bundle(folder: Path, name: str = NAME, **metadata: object) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps({"bundle": name, "version": "0", **metadata}))
    imports = ["$import monai_lipcar", "$import monai_lipcar.bundle"]
    config = {"imports": imports, "bundle_root": f"$monai_lipcar.bundle.bundle_root('{name}')"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that has nothing to do with bundles."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_bundle_root_is_known_to_the_workflow_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "another name")
    workflow = ConfigWorkflow(config_file=str(folder / "configs" / "inference.json"), workflow_type="infer")
    workflow.initialize()
    assert workflow.bundle_root == str(folder)


def test_bundle_root_is_found_in_and_above_the_working_directory(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle(tmp_path / "bundles" / NAME)
    assert bundle.bundle_root(NAME) == str(folder)  # in bundles/ above
    monkeypatch.chdir(folder)
    assert bundle.bundle_root(NAME) == str(folder)
    own = make_bundle(elsewhere / "renamed")
    monkeypatch.chdir(own)
    assert bundle.bundle_root(NAME) == str(own)


def test_bundle_root_in_a_source_checkout() -> None:
    expected = Path(bundle.__file__).resolve().parent.parent / "bundles" / "ph2l"
    assert bundle.bundle_root("ph2l") == str(expected)
    parser = ConfigParser(
        {
            "imports": ["$import monai_lipcar", "$import monai_lipcar.bundle"],
            "root": "$monai_lipcar.bundle.bundle_root('ph2l')",
        }
    )
    assert parser.get_parsed_content("root") == str(expected)


def test_another_bundle_s_folder_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_bundle(tmp_path / NAME, name="h2l_tv"))
    with pytest.raises(ConfigurationError, match=rf"bundle '{NAME}' not found; pass --bundle_root DIR"):
        bundle.bundle_root(NAME)


def test_damaged_metadata_is_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_bundle(tmp_path / NAME)
    (folder / "configs" / "metadata.json").write_text("{")
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigurationError, match="not found"):
        bundle.bundle_root(NAME)


def test_weights_are_the_bundle_s_own_or_those_of_the_operator_beside_it(tmp_path: Path) -> None:
    inverse, operator = make_bundle(tmp_path / "ph2l_tv"), make_bundle(tmp_path / "ph2l")
    sibling = operator / "models" / "model.pt"
    assert bundle.find_weights(inverse, "ph2l") == str(sibling)  # whether it is there or not: the error is to name it
    sibling.touch()
    assert bundle.find_weights(inverse, "ph2l") == str(sibling)
    assert bundle.find_weights(operator, "ph2l") == str(sibling)
    for file in ("model.pt", "guess_model.pt"):
        own = inverse / "models" / file
        own.touch()
        assert bundle.find_weights(inverse, "ph2l", file) == str(own)


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    assert bundle.checksum(tmp_path / "model.pt") == file_sha256(tmp_path / "model.pt")
    with pytest.raises(
        WeightsError, match=r"no weights file at .*gone.pt; train the operator first or pass --checkpoint"
    ):
        bundle.checksum(tmp_path / "gone.pt")


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 1, 3), nn.Dropout())


def test_weights_are_verified_against_the_metadata(tmp_path: Path) -> None:
    sha256 = save_weights(small_network(), tmp_path / "model.pt")
    folder = make_bundle(tmp_path / "ph2l", weights_sha256={"models/model.pt": sha256})
    path = folder / "models" / "model.pt"
    shutil.copy(tmp_path / "model.pt", path)
    assert bundle.weights_sha256(path) == sha256
    loaded = bundle.load_operator(small_network(1), path)
    assert not loaded.training
    save_weights(small_network(2), path)
    with pytest.raises(WeightsError, match="is not the one this bundle was released with"):
        bundle.load_operator(small_network(), path)


def test_weights_that_the_metadata_do_not_name_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "ph2l", weights_sha256={"models/model.pt": "0" * 64})
    for path in (folder / "models" / "other.pt", tmp_path / "training" / "model.pt"):
        save_weights(small_network(), path)
        assert bundle.weights_sha256(path) is None
        bundle.load_operator(small_network(1), path)


def test_released_weights_have_the_dose_fraction_of_the_metadata(tmp_path: Path) -> None:
    def operator(fraction: float) -> DoseOperator:
        return DoseOperator(in_channels=1, skeleton="identity", dose_fraction=fraction)

    torch.save(dict(operator(0.2).state_dict()), tmp_path / "model.pt")
    sha256 = file_sha256(tmp_path / "model.pt")
    folder = make_bundle(tmp_path / "h2l", weights_sha256={"models/model.pt": sha256}, dose_fraction=0.2)
    path = folder / "models" / "model.pt"
    shutil.copy(tmp_path / "model.pt", path)
    bundle.load_operator(operator(0.2), path)
    with pytest.raises(WeightsError, match=r"trained for the dose fraction 0.2, but the network is set to 0.1"):
        bundle.load_operator(operator(0.1), path)
    shutil.copy(path, path.with_name("other.pt"))
    bundle.load_operator(operator(0.1), path.with_name("other.pt"))  # not of the release


def test_the_rule_for_alpha_is_the_bundle_s(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / NAME, alpha_rule={"operator_error": 0.004, "kappa": 2.0})
    assert bundle.alpha_rule("auto", folder, 0.1) == {"operator_error": 0.004, "kappa": 2.0}
    assert bundle.alpha_rule(0.01, folder, 0.1) is None
    folder = make_bundle(tmp_path / "without")
    assert bundle.alpha_rule(0.01, folder, 0.1) is None
    with pytest.raises(
        ConfigurationError, match=r"alpha: 'auto' has not been calibrated for the bundle tests_own; give"
    ):
        bundle.alpha_rule("auto", folder, 0.1)


def test_the_ratio_goes_with_the_dose(tmp_path: Path) -> None:
    measured = {"operator_error": 0.004, "kappa": 0.5, "ratio": 0.26, "dose_fraction": 0.2}
    folder = make_bundle(tmp_path / NAME, alpha_rule=measured)
    assert bundle.alpha_rule("auto", folder, 0.2) == {"operator_error": 0.004, "kappa": 0.5, "ratio": 0.26}
    assert bundle.alpha_rule("auto", folder, 0.1) == {"operator_error": 0.004, "kappa": 0.5, "ratio": 0.13}


def test_the_rule_for_alpha_belongs_to_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    sha256 = save_weights(small_network(), weights)
    measured = {"operator_error": 0.004, "kappa": 2.0, "weights_sha256": sha256}
    folder = make_bundle(tmp_path / NAME, alpha_rule=measured)
    assert bundle.alpha_rule("auto", folder, 0.2, weights) == {"operator_error": 0.004, "kappa": 2.0}
    save_weights(small_network(1), weights)
    with pytest.raises(
        ConfigurationError, match="'auto' was calibrated for other weights of the bundle tests_own than"
    ):
        bundle.alpha_rule("auto", folder, 0.2, weights)


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """Ten studies of empty files: enough for everything that does not read them."""
    for number in range(10):
        folder = tmp_path / "data" / f"sub-{number:02d}"
        folder.mkdir(parents=True)
        for name in ("pre", "low", "high"):
            (folder / f"{name}.nii.gz").touch()
    return tmp_path / "data"


def ids(studies: list[Study]) -> list[str]:
    return [study.study_id for study in studies]


def write_datalist(path: Path, dataset_dir: Path) -> Path:
    entry = {name: str(dataset_dir / "sub-03" / f"{name}.nii.gz") for name in ("pre", "low")}
    path.write_text(json.dumps({"training": [], "validation": [], "test": [{"study_id": "sub-03", **entry}]}))
    return path


def test_studies_of_a_folder_or_of_a_datalist(dataset_dir: Path, tmp_path: Path) -> None:
    assert ids(bundle.select_studies(dataset_dir)) == [f"sub-{number:02d}" for number in range(10)]
    datalist = write_datalist(tmp_path / "datalist.json", dataset_dir)
    assert ids(bundle.select_studies(dataset_dir, datalist)) == ["sub-03"]
    assert bundle.select_studies(dataset_dir)[0].problems == ()
    (dataset_dir / "sub-00" / "low.nii.gz").unlink()
    assert "low" in str(bundle.select_studies(dataset_dir)[0].problems[0])
    assert bundle.select_studies(dataset_dir, required=("pre", "high"))[0].problems == ()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        bundle.select_studies(tmp_path / "nowhere")


def test_training_studies_are_a_split_by_subject(dataset_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    sections = ("training", "validation", "test")
    split = bundle.training_split(dataset_dir, None, seed=1)
    parts = {section: set(ids(bundle.training_studies(split, section))) for section in sections}
    assert all(parts.values())
    assert set.union(*parts.values()) == {f"sub-{number:02d}" for number in range(10)}
    assert sum(map(len, parts.values())) == 10
    assert set(ids(bundle.training_split(dataset_dir, None, seed=2)["training"])) != parts["training"]
    assert not caplog.records


def test_too_few_studies_to_hold_any_back(dataset_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(dataset_dir / "sub-00", tmp_path / "few" / "sub-00")
    split = bundle.training_split(tmp_path / "few", None)
    with caplog.at_level(logging.WARNING):
        assert ids(bundle.training_studies(split, "training")) == ["sub-00"]
        assert not caplog.records
        assert ids(bundle.training_studies(split, "validation")) == ["sub-00"]
    assert "1 studies are too few to split; validation uses all of them" in caplog.text
    assert split["validation"] == split["test"] == []


def test_training_studies_of_a_datalist(dataset_dir: Path, tmp_path: Path) -> None:
    datalist = write_datalist(tmp_path / "datalist.json", dataset_dir)
    content = json.loads(datalist.read_text())
    for name, section in (("sub-01", "training"), ("sub-02", "validation")):
        members = {member: str(dataset_dir / name / f"{member}.nii.gz") for member in ("pre", "low", "high")}
        content[section] = [{"study_id": name, **members}]
    datalist.write_text(json.dumps(content))
    split = bundle.training_split(tmp_path / "unused", datalist)
    assert [ids(split[section]) for section in ("training", "validation", "test")] == [
        ["sub-01"],
        ["sub-02"],
        ["sub-03"],
    ]
    assert "high" in str(split["test"][0].problems[0])  # needed to train, not there
    del content["test"]
    datalist.write_text(json.dumps(content))
    assert bundle.training_split(tmp_path / "unused", datalist)["test"] == []
    del content["validation"]
    datalist.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="no studies under 'validation'"):
        bundle.training_split(tmp_path / "unused", datalist)


def test_options_that_reach_into_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.nested_options() == {}
    given = {"epochs": 3, "train::trainer::max_epochs": 2, "train#dataset#seed": 1}
    monkeypatch.setattr(bundle, "options_of_this_run", lambda: (given, {}))
    assert bundle.nested_options() == {"train::trainer::max_epochs": 2, "train#dataset#seed": 1}


def test_solver_by_name() -> None:
    assert bundle.make_solver("paper").describe() == {"name": "paper", "max_iterations": 150, "step_size": 0.01}
    assert bundle.make_solver("paper", 20).max_iterations == 20
    assert bundle.make_solver("proximal").describe() == ProximalSolver().describe()
    assert bundle.make_solver("proximal", 7).describe() == {**ProximalSolver().describe(), "max_iterations": 7}


@pytest.mark.parametrize("iterations", [0, -5, 2.5, "many", True])
def test_iterations_that_cannot_be_used(iterations: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_iterations: expected a whole number of at least 1, got "):
        bundle.make_solver("paper", iterations)  # type: ignore[arg-type]


def test_solver_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="solver: expected 'proximal' or 'paper', got 'newton'"):
        bundle.make_solver("newton")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook of this process comes back afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


def report(error: Exception) -> None:
    """What Python does with an exception that nobody catches, wrapped as MONAI's config parser wraps it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("Failed to evaluate '$load()'") from inner
    except RuntimeError as outer:
        sys.excepthook(type(outer), outer, outer.__traceback__)


@pytest.mark.usefixtures("hook")
def test_prepared_errors_for_the_user_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/site-packages/monai/bundle/__main__.py", "run"])
    bundle.prepare()
    bundle.prepare()
    report(WeightsError("no weights"))
    assert capsys.readouterr().err == "error: no weights\n"
    report(ZeroDivisionError("a bug"))
    lines = capsys.readouterr().err
    assert "Traceback (most recent call last):" in lines
    assert "ZeroDivisionError: a bug" in lines


@pytest.mark.usefixtures("hook")
def test_programs_of_others_keep_their_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["server.py"])
    bundle.prepare()
    assert sys.excepthook is sys.__excepthook__


def wrapped(known: Exception) -> None:
    try:
        raise known from OSError("disk")
    except Exception as inner:
        raise RuntimeError("Failed to evaluate '$run()'") from inner


def test_reported_gives_the_known_error_at_the_root() -> None:
    known = StudyError("too small", study="a")
    with pytest.raises(StudyError, match="study a: too small") as caught, bundle.reported():
        wrapped(known)
    assert caught.value is known
    assert isinstance(known.__cause__, OSError)  # no circle
    with pytest.raises(WeightsError), bundle.reported():
        raise WeightsError("no weights")
    with pytest.raises(RuntimeError, match="Failed to evaluate"), bundle.reported():
        wrapped(ZeroDivisionError("a bug"))
    with bundle.reported():
        pass


RUNS = {
    "fine": ("$None", 0),
    "failed study": ("$sys.exit(1)", 1),
    "stopped without an error": ("$sys.exit()", 0),
}


def make_runnable(folder: Path, *run: str) -> None:
    make_bundle(folder)
    config = {
        "imports": ["$import sys", "$from pathlib import Path", "$import monai_lipcar", "$import monai_lipcar.errors"],
        "dataset_dir": "default",
        "output_dir": "default",
        "alpha": 0.006,
        "run": list(run),
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", RUNS)
def test_run_bundle_returns_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    expression, status = RUNS[case]
    make_runnable(tmp_path / NAME, expression)
    monkeypatch.chdir(tmp_path / NAME)
    assert bundle.run_bundle(NAME, "data", "out") == status


def test_run_bundle_overrides_what_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runnable(tmp_path / NAME, "$Path('noted').write_text(' '.join([@dataset_dir, @output_dir, str(@alpha)]))")
    monkeypatch.chdir(tmp_path / NAME)
    bundle.run_bundle(NAME, tmp_path / "data", "out", alpha=None)
    assert Path("noted").read_text() == f"{tmp_path / 'data'} out 0.006"
    bundle.run_bundle(NAME, "data", "out", alpha=0.5)
    assert Path("noted").read_text() == "data out 0.5"


def test_run_bundle_raises_the_known_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runnable(tmp_path / NAME, "$(_ for _ in ()).throw(monai_lipcar.errors.WeightsError('no weights'))")
    monkeypatch.chdir(tmp_path / NAME)
    with pytest.raises(WeightsError, match="^no weights$"):
        bundle.run_bundle(NAME, "data", "out")
