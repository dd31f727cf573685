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
"""The variants of the accuracy study change what they name and nothing else, and no row is taken for another's."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from benchmarks import operator_accuracy as study
from benchmarks.operator_accuracy import Variant, variants
from monai_lipcar.data import find_studies, write_datalist
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.networks import SSIML1Loss
from monai_lipcar.physics import Acquisition, SignalEquationOperator

OPERATORS = ("ph2l", "pl2h")
IDS = ("fixed-rat-1", "fixed-mni152-1", "fixed-random-1", "vary-rat-1", "vary-random-1")
SOME = IDS[:4]
"""All but the last have the dose fraction 0.2."""
RATE, FLIPS, SCALE = 1e-3, ("RandFlipd", "RandFlipd", "RandRotate90d"), ("RandScaleIntensityd",)
CROP = ("RandSpatialCropd",)

CONFIGURED: dict[str, dict[str, Any]] = {
    "recommended": {},
    "recommended, seed 1": {"seed": 1},
    "recommended, seed 2": {"seed": 2},
    "untrained: the skeleton alone": {},
    "paper's: all of its choices": {
        **{"skeleton": "none", "dropout": {0.5}, "l1_weight": 0.0, "learning_rate": 1e-4},
        **{"random": (), "studies": ("fixed-rat-1",)},
    },
    "skeleton: none": {"skeleton": "none"},
    "skeleton: none, VNet's own initialization": {"skeleton": "none"},
    "skeleton: the dose image (skip)": {"skeleton": "identity"},
    "skeleton: signal equation, the image corrected": {"skeleton": "signal"},
    "data: noise and displacement in the inputs": {"studies": tuple(f"noisy-{name}" for name in IDS)},
    "final ReLU: none": {},
    "dropout 0.1": {"dropout": {0.1}},
    "batch norm: not recalibrated": {},
    "loss: SSIM": {"l1_weight": 0.0},
    "loss: MSE": {},
    "learning rate: constant": {},
    "learning rate: 3e-4": {"learning_rate": 3e-4},
    "weights: moving average": {},
    "data: rats, one scanner": {"studies": ("fixed-rat-1",)},
    "data: human heads, one scanner": {"studies": ("fixed-mni152-1",)},
    "data: random anatomy, one scanner": {"studies": ("fixed-random-1",)},
    "data: all anatomies, one scanner": {"studies": IDS[:3]},
    "data: all anatomies, varied scanners": {"studies": IDS[3:]},
    "data: one dose": {"studies": SOME},
    "data: a quarter as many studies": {"studies": (IDS[0], IDS[4])},
}
"""What is configured otherwise than recommended; what only the training does is tested there."""
OF_OPERATOR: dict[str, dict[str, dict[str, Any]]] = {
    "ph2l": {
        "skeleton: linear dose": {"skeleton": "physics"},
        "augmentation: none": {"random": (*CROP, "RandGaussianNoised")},
        "noise on the inputs: none": {"random": (*CROP, *FLIPS, *SCALE)},
    },
    "pl2h": {
        "skeleton: linear dose": {"skeleton": "extrapolation"},
        "augmentation: none": {"random": (*CROP, "RandRicianNoised")},
        "noise on the inputs: none": {"random": (*CROP, *FLIPS, *SCALE)},
    },
}
ALL = [(operator, name) for operator in OPERATORS for name in variants(operator)]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """One small study under the names of all kinds."""
    folder = tmp_path_factory.mktemp("accuracy")
    cohorts = folder / "out" / "cohorts"
    data = cohorts / "forward" / "fixed"
    write_cohort(data, "random", 1, seed=3, anatomy_options={"shape": (48, 48, 3)}, progress=False)
    (one,) = find_studies(data, ("pre", "low", "high"))
    named = [replace(one, study_id=name) for name in IDS]
    named[-1] = replace(named[-1], acquisition=Acquisition(dose_fraction=0.3))
    for kind in ("forward", "end_to_end"):
        (cohorts / kind).mkdir(exist_ok=True)
        sections = {"training": named, "validation": [replace(one, study_id="valvary-1")]}
        write_datalist(cohorts / kind / "datalist.json", sections)
    given = Namespace(output=folder / "out", steps=80, results=folder / "results.json")
    for operator in OPERATORS:
        write_datalist(study.datalist(operator, given), study.studies(operator, given))
    return given


def configured(operator: str, variant: Variant, arguments: Namespace) -> dict[str, Any]:
    config = study.configure(operator, variant, arguments)
    network = config.get_parsed_content("network")
    dropout = (torch.nn.Dropout2d, torch.nn.Dropout3d)
    return {
        "skeleton": network.skeleton,
        "dropout": {module.p for module in network.modules() if isinstance(module, dropout)},
        "l1_weight": config.get_parsed_content("loss").l1_weight,
        "learning_rate": config.get_parsed_content("optimizer").param_groups[0]["lr"],
        "random": tuple(
            name
            for step in config.get_parsed_content("train#preprocessing").transforms
            if (name := type(step).__name__).startswith("Rand")
        ),
        "seed": config.get_parsed_content("train#dataloader").sampler.seed,
        "studies": tuple(study.study_id for study in config.get_parsed_content("train#dataset#studies")),
    }


RECOMMENDED: dict[str, dict[str, Any]] = {
    "ph2l": {"skeleton": "kept", "random": (*CROP, *FLIPS, *SCALE, "RandGaussianNoised")},
    "pl2h": {"skeleton": "signal_extrapolation", "random": (*CROP, *FLIPS, *SCALE, "RandRicianNoised")},
}


@pytest.mark.parametrize(("operator", "name"), ALL)
def test_a_variant_changes_what_it_names(operator: str, name: str, arguments: Namespace) -> None:
    recommended = {"dropout": set(), "l1_weight": 5.0, "learning_rate": RATE, "studies": IDS, "seed": 0}
    recommended |= RECOMMENDED[operator]
    changed = {**CONFIGURED, **OF_OPERATOR[operator]}[name]
    assert all(recommended[key] != value for key, value in changed.items())
    assert configured(operator, variants(operator)[name], arguments) == {**recommended, **changed}


class Training:
    """One variant trained for a few steps on small patches, and what its training did."""

    def __init__(self, variant: Variant, arguments: Namespace, monkeypatch: pytest.MonkeyPatch, steps: int = 1) -> None:
        self.done: list[str] = []
        for kind in (torch.nn.MSELoss, SSIML1Loss):
            monkeypatch.setattr(kind, "forward", self._noting(kind))
        monkeypatch.setattr(study, "recalibrate_batch_norm", lambda *_: self.done.append("recalibrated"))
        self.config: ConfigParser = study.configure("ph2l", variant, arguments)
        self.config.update({"patch_size": [32, 32], "batch_size": 2})
        set_determinism(0)
        self.network: Any = study.train(self.config, variant, steps)
        set_determinism(None)
        self.rate = self.config.get_parsed_content("optimizer").param_groups[0]["lr"]

    def _noting(self, kind: type[torch.nn.Module]) -> Any:
        forward = kind.forward

        def noted(module: torch.nn.Module, *images: torch.Tensor) -> torch.Tensor:
            self.done.append(kind.__name__)
            result: torch.Tensor = forward(module, *images)
            return result

        return noted


@pytest.mark.parametrize(
    ("name", "rate", "done"),
    [
        ("recommended", 0.02 * RATE, ["SSIML1Loss", "recalibrated"]),
        ("learning rate: constant", RATE, ["SSIML1Loss", "recalibrated"]),
        ("batch norm: not recalibrated", 0.02 * RATE, ["SSIML1Loss"]),
        ("loss: MSE", 0.02 * RATE, ["MSELoss", "recalibrated"]),
        ("final ReLU: none", 0.02 * RATE, ["SSIML1Loss", "recalibrated"]),
        ("paper's: all of its choices", 1e-4, ["SSIML1Loss"]),
    ],
)
def test_what_only_the_training_does(
    name: str, rate: float, done: list[str], arguments: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(variants("ph2l")[name], arguments, monkeypatch)
    assert training.rate == pytest.approx(rate)
    assert training.done == done
    assert not training.network.training
    rectified = isinstance(training.network.activation, torch.nn.ReLU)
    assert rectified == (name != "final ReLU: none")


def test_first_values_of_the_last_layer(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of Adam moves them by the learning rate at most."""
    for name, shipped in (("skeleton: none", True), ("skeleton: none, VNet's own initialization", False)):
        last = Training(variants("ph2l")[name], arguments, monkeypatch).network.vnet.out_tr.conv2
        found = torch.stack([last.weight.detach().flatten(), last.bias.detach()]).flatten()
        near = (found - torch.tensor([0.2, 0.25])).abs() <= 1.01 * RATE
        assert bool(near.all()) == shipped, name


def test_the_moving_average_lags_behind(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def last(variant: Variant, steps: int) -> torch.Tensor:
        weight: torch.Tensor = Training(variant, arguments, monkeypatch, steps).network.vnet.out_tr.conv2.weight
        return weight.detach()

    # at a constant rate the first of two steps is the one of one
    constant = Variant(schedule="constant")
    first, second = last(constant, 1), last(constant, 2)
    averaged = last(replace(constant, ema=variants("ph2l")["weights: moving average"].ema), 2)
    assert not torch.equal(first, second)
    torch.testing.assert_close(averaged, 0.98 * first + 0.02 * second, rtol=1e-5, atol=1e-9)


def test_without_training_it_is_the_skeleton(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the signal equation of the paper's sequence."""
    untrained = variants("ph2l")["untrained: the skeleton alone"]
    training = Training(untrained, arguments, monkeypatch, study.steps_of(untrained, arguments))
    assert training.done == []
    pair = torch.rand(2, 2, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(training.network(pair), SignalEquationOperator(0.2)(pair))


def test_steps_go_on_over_epochs(arguments: Namespace) -> None:
    config = study.configure("ph2l", Variant(studies=("fixed-rat",)), arguments)
    config.update({"patch_size": [32, 32], "batch_size": 2})
    loader = config.get_parsed_content("train#dataloader")
    counts = [len(loader), len(list(study.batches(loader, 3))), len(list(study.batches(loader, 0)))]
    assert counts == [1, 3, 0]
    assert int(loader.sampler.epoch) == 3


def test_fingerprints_tell_everything_apart(arguments: Namespace, tmp_path: Path) -> None:
    def fingerprints(given: Namespace) -> set[str]:
        return {study.fingerprint(operator, variants(operator)[name], given) for operator, name in ALL}

    found = fingerprints(arguments)
    assert len(found) == len(ALL)
    assert fingerprints(arguments) == found
    of_none = {study.fingerprint(op, variants(op)["untrained: the skeleton alone"], arguments) for op in OPERATORS}
    assert found & fingerprints(Namespace(**{**vars(arguments), "steps": 81})) == of_none
    (tmp_path / "cohorts").mkdir()
    (tmp_path / "cohorts" / "cohort.json").write_text("{}", encoding="utf-8")
    assert not found & fingerprints(Namespace(**{**vars(arguments), "output": tmp_path}))
    # where results are kept does not matter
    assert fingerprints(Namespace(**{**vars(arguments), "results": tmp_path})) == found


def test_a_published_row_is_taken_with_its_settings_only(arguments: Namespace, tmp_path: Path) -> None:
    given = Namespace(**{**vars(arguments), "output": tmp_path, "results": tmp_path / "results.json"})
    other = Namespace(**{**vars(given), "steps": 7})
    jobs = [("ph2l", name, variants("ph2l")[name]) for name in ("recommended", "dropout 0.1", "loss: MSE")]
    assert study.finished(jobs, given) == {}
    rows = {"recommended": {"psnr": 40.0}, "dropout 0.1": {"psnr": 30.0}}
    made_with = {
        "recommended": study.fingerprint("ph2l", Variant(), given),
        "dropout 0.1": study.fingerprint("ph2l", jobs[1][2], other),
    }
    content = {"operators": {"ph2l": rows}, "made_with": {"ph2l": made_with}}
    given.results.write_text(json.dumps(content), encoding="utf-8")
    assert study.finished(jobs, given) == {("ph2l", "recommended"): rows["recommended"]}
    assert study.finished(jobs, other) == {("ph2l", "dropout 0.1"): rows["dropout 0.1"]}
    # of another operator, or without settings
    assert study.finished([("pl2h", "recommended", Variant())], given) == {}
    given.results.write_text(json.dumps({"operators": {"ph2l": rows}}), encoding="utf-8")
    assert study.finished(jobs, given) == {}
    file = study.place("ph2l", jobs[2][2], given)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"psnr": 20.0}), encoding="utf-8")
    assert study.finished(jobs, given) == {("ph2l", "loss: MSE"): {"psnr": 20.0}}
    assert study.finished(jobs, other) == {}


def test_rows_of_other_runs_stay(arguments: Namespace, tmp_path: Path) -> None:
    given = Namespace(**{**vars(arguments), "output": tmp_path, "results": tmp_path / "results.json"})
    jobs = [(operator, name, variants(operator)[name]) for operator, name in ALL]
    study.publish({("ph2l", "loss: MSE"): {"psnr": 20.0}, ("ph2l", "recommended"): {"psnr": 40.0}}, given)
    study.publish({**study.finished(jobs, given), ("pl2h", "loss: MSE"): {"psnr": 30.0}}, given)
    content = json.loads(given.results.read_text(encoding="utf-8"))
    expected = {"ph2l": {"recommended": {"psnr": 40.0}, "loss: MSE": {"psnr": 20.0}}}
    assert content["operators"] == {**expected, "pl2h": {"loss: MSE": {"psnr": 30.0}}}
    assert list(content["operators"]["ph2l"]) == ["recommended", "loss: MSE"]
