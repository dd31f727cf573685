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
"""Options are looked at before anything is computed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import pytest

from monai_lipcar import options
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.options import check_options, is_true, options_of_this_run

CONFIG: dict[str, Any] = {
    "imports": ["$import os"],
    "dataset_dir": "data",
    "epochs": 80,
    "seed": 0,
    "alpha": 0.002,
    "amp": True,
    "patch_size": [128, 128],
    "max_iterations": None,
    "train": {"trainer": {"_target_": "SupervisedTrainer", "max_epochs": "@epochs"}, "sizes": {"batch": 4}},
    "handlers": [{"_target_": "StatsHandler", "tag_name": "loss"}],
    "run": ["$@train#trainer.run()"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset_dir", 5),
        ("epochs", 1),
        ("epochs", "$2 * 40"),
        ("epochs", "@seed"),
        ("seed", 0),
        ("alpha", 0),
        ("alpha", 1e-3),
        ("alpha", "auto"),
        ("amp", "false"),
        ("amp", True),
        ("patch_size", [64, 64]),
        ("max_iterations", "anything"),
        ("train#trainer#max_epochs", 3),
        ("train::sizes::batch", 3),
        ("train::trainer::amp", True),  # a further argument of a component
        ("handlers#0#tag_name", "x"),
        ("handlers::0::iteration_log", False),
        ("imports", []),
        ("run", []),
        ("finalize", []),
        ("_meta_::version", "1"),
        ("+patch_size", [1]),
        ("device", "cpu"),
        ("device", "$torch.device('cuda')"),
    ],
)
def test_options_that_can_be_used(name: str, value: Any) -> None:
    check_options({name: value}, {**CONFIG, "device": "$None"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epoch", 1, "unknown option --epoch; did you mean --epochs?"),
        ("train#sizes#bach", 1, "unknown option --train#sizes#bach; did you mean --train#sizes#batch?"),
        ("train::szes", 1, "unknown option --train::szes; did you mean --train::sizes?"),
        ("handlers::1::tag_name", "x", "unknown option --handlers::1::tag_name; did you mean --handlers::0::tag_name?"),
        (
            "zzz",
            1,
            "unknown option --zzz; there are --dataset_dir, --epochs, --seed, --alpha, --amp, --max_iterations",
        ),
        ("device", "cpu", "unknown option --device; there are "),
        ("epochs", 0, "epochs: expected a whole number of at least 1, got 0"),
        ("epochs", 2.0, "epochs: expected a whole number of at least 1, got 2.0"),
        ("epochs", True, "epochs: expected a whole number of at least 1, got True"),
        ("epochs", "many", "epochs: expected a whole number of at least 1, got 'many'"),
        ("seed", -1, "seed: expected a whole number of at least 0, got -1"),
        ("alpha", "auot", "alpha: expected a number that is not negative or 'auto', got 'auot'"),
        ("alpha", -0.1, "alpha: expected a number that is not negative or 'auto', got -0.1"),
        ("alpha", float("nan"), "alpha: expected a number that is not negative or 'auto', got nan"),
        ("epochs", "auto", "epochs: expected a whole number of at least 1, got 'auto'"),
        ("amp", "flase", "amp: expected true or false, got 'flase'"),
        ("amp", 1, "amp: expected true or false, got 1"),
    ],
)
def test_options_that_cannot(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_options({name: value}, CONFIG)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["alpha", "alpha_rule", "solver", "max_iterations"])
def test_options_of_an_inverse_problem_for_an_operator(name: str) -> None:
    message = f"^{name}: the bundle h2l applies an operator, it has no prior and no solver; leave the option out"
    with pytest.raises(ConfigurationError, match=message):
        check_options({name: 1}, {"dataset_dir": "data", "writer": {"_target_": "W", "bundle": "h2l"}})


def test_dimensions_of_an_operator_that_has_none() -> None:
    message = "^spatial_dims: the bundle physics_tv inverts an operator that acts on every voxel .* --across_slices t"
    with pytest.raises(ConfigurationError, match=message):
        check_options({"spatial_dims": 3}, {"alpha": 0.1, "writer": {"_target_": "W", "bundle": "physics_tv"}})


@pytest.mark.parametrize("bundle", ["h2l", "physics_tv"])
def test_options_for_a_network_that_is_not_inverted(bundle: str) -> None:
    for name, value in {"precision": "auto", "compile": True}.items():
        with pytest.raises(ConfigurationError, match=f"^{name}: the bundle {bundle} inverts no network; leave the opt"):
            check_options({name: value}, {"alpha": 0.1, "writer": {"_target_": "W", "bundle": bundle}})


@pytest.mark.parametrize("option", [{"alpha": 0.01}, {"alpha": "auto"}, {"alpha_rule": {"kappa": 1.0}}])
def test_the_adaptive_prior_chooses_alpha(option: dict[str, Any]) -> None:
    config = {"prior": "gentv", "alpha": 0.002, "alpha_rule": "$None"}
    check_options({"prior": "gentv", **option}, config)
    check_options({"prior": "adaptive"}, config)
    message = (
        f"^{next(iter(option))}: the adaptive prior chooses alpha from the noise of the study; leave the option out"
    )
    with pytest.raises(ConfigurationError, match=message):
        check_options({"prior": "adaptive", **option}, config)


def test_a_choice_of_priors_is_of_one_bundle() -> None:
    with pytest.raises(
        ConfigurationError, match="^prior: the bundle ph2l_tv has no choice of a prior; leave the option out"
    ):
        check_options({"prior": "adaptive"}, {"alpha": 0.1, "writer": {"_target_": "W", "bundle": "ph2l_tv"}})


def test_device_is_tried() -> None:
    with pytest.raises(ConfigurationError, match="device: 'cuda:99' cannot be used .*; choose cpu"):
        check_options({"device": "cuda:99"}, {"device": "$None"})


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("true", True), ("True", True), ("false", False)])
def test_switches(value: bool | str, expected: bool) -> None:
    assert is_true(value) is expected


def test_outside_of_a_run_there_are_no_options() -> None:
    assert options_of_this_run() is None


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What :func:`options_of_this_run` gives inside of a run of a config of two files."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(options, "_seen", lambda: found.update(given=options_of_this_run()), raising=False)
    first = {
        "imports": ["$import monai_lipcar", "$import monai_lipcar.options"],
        "alpha": 1.0,
        "initialize": ["$monai_lipcar.options._seen()"],
    }
    second = {"beta": 2.0, "run": []}
    for name, content in (("first", first), ("second", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found["files"] = [str(tmp_path / "first.json"), str(tmp_path / "second.json")]
    return found


def test_options_are_told_from_the_config(seen: dict[str, Any]) -> None:
    monai.bundle.run(config_file=seen["files"], logging_file=False, meta_file=None, alpha=3.0, gamma=4.0)
    given, config = seen["given"]
    assert given == {"alpha": 3.0, "gamma": 4.0}
    assert config["alpha"] == 1.0
    assert config["beta"] == 2.0
    assert "gamma" not in config


def test_options_of_a_file_of_arguments(seen: dict[str, Any], tmp_path: Path) -> None:
    arguments = tmp_path / "arguments.json"
    arguments.write_text(json.dumps({"config_file": seen["files"], "logging_file": False, "alpha": 3.0}))
    monai.bundle.run(args_file=str(arguments), gamma=4.0)
    assert seen["given"][0] == {"alpha": 3.0, "gamma": 4.0}


@pytest.fixture
def paths_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a config sees of its paths, given options and a command line."""
    config = {
        "imports": [
            "$import monai_lipcar",
            "$import monai_lipcar.bundle",
            "$import monai_lipcar.options",
            "$from pathlib import Path",
        ],
        "dataset_dir": "data",
        "datalist_file": None,
        "output_dir": "out",
        "cache_dir": "$Path(@output_dir) / 'cache'",
        "initialize": ["$monai_lipcar.bundle.prepare()"],
        "run": ["$monai_lipcar.options._seen(@dataset_dir, @datalist_file, @output_dir, @cache_dir)"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))

    def paths(argv: list[str], **given: Any) -> tuple[Any, ...]:
        found: list[tuple[Any, ...]] = []
        monkeypatch.setattr(options, "_seen", lambda *values: found.append(values), raising=False)
        monkeypatch.setattr(sys, "argv", ["program", *argv])
        monai.bundle.run(config_file=str(tmp_path / "config.json"), logging_file=False, meta_file=None, **given)
        return found[0]

    return paths


def test_paths_that_python_reads_as_numbers(paths_of: Any) -> None:
    assert paths_of([], dataset_dir=2024, output_dir=Path("here")) == ("2024", None, "here", Path("here/cache"))
    argv = ["--dataset_dir", "2024_11", "--output-dir=1e3", "--datalist_file", "a,b"]
    given = {"dataset_dir": 202411, "output_dir": 1000.0, "datalist_file": ("a", "b")}
    assert paths_of(argv, **given) == ("2024_11", "a,b", "1e3", Path("1e3/cache"))
    assert paths_of([], dataset_dir="2024", cache_dir=7) == ("2024", None, "out", "7")


def test_path_that_is_not_given(paths_of: Any) -> None:
    for argv in (["--dataset_dir"], ["--dataset_dir", "--output_dir", "x"]):
        with pytest.raises(RuntimeError) as caught:
            paths_of(argv, dataset_dir=True)
        assert "dataset_dir: expected a path, got nothing; give it after --dataset_dir" in str(caught.value.__cause__)
