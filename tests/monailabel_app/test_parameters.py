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

import json
import re
from typing import Any

import pytest
from lib.parameters import EXTENSIONS, defaults, read_extension, read_options, read_volume

from monai_lipcar.errors import ConfigurationError

from .conftest import ROOT

BUNDLES = sorted(folder.name for folder in (ROOT / "bundles").iterdir())


def config_of(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "bundles" / name / "configs" / "inference.json").read_text(encoding="utf-8")))


CONFIG = config_of("ph2l_gentv")


@pytest.mark.parametrize("name", BUNDLES)
def test_defaults_are_the_bundles_own(name: str) -> None:
    config = config_of(name)
    shown = defaults(config, ("pre",), ("high_sim",))
    assert shown["pre"] == ""
    assert ("alpha" in shown) == ("alpha" in config)
    # sent back as a viewer does, they change nothing
    options = read_options(shown, config)
    assert options == {key: config[key] for key in options}
    assert {"dose_fraction", "registration_policy", "match_intensity"} <= options.keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"alpha": 0.004}, 0.004),
        ({"alpha": 1}, 1.0),
        ({"alpha": "0.004"}, 0.004),
        ({"alpha": "auto"}, "auto"),
        ({"solver": "paper"}, "paper"),
        ({"solver": ["paper", "proximal"]}, "paper"),
        ({"prior": "adaptive"}, "adaptive"),
        ({"out_of_domain": "refuse"}, "refuse"),
        ({"max_iterations": 3}, 3),
        ({"max_iterations": "3"}, 3),
        ({"denoise": "nlm"}, "nlm"),
        ({"precision": ["auto", "float32"]}, "auto"),
        ({"match_intensity": False}, False),
        ({"match_intensity": "false"}, False),
    ],
)
def test_values_of_the_right_kind(given: dict[str, Any], expected: object) -> None:
    ((name, _),) = given.items()
    options = read_options(given, CONFIG)
    assert options == {name: expected}
    assert type(options[name]) is type(expected)


@pytest.mark.parametrize("nothing", ["", None])
def test_what_is_empty_stays_as_the_bundle_has_it(nothing: str | None) -> None:
    assert read_options({"alpha": nothing, "max_iterations": nothing, "solver": nothing}, CONFIG) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": "much"}, "alpha: expected a number or 'auto', got 'much'"),
        ({"alpha": -0.1}, "alpha: expected a number that is not negative or 'auto', got -0.1"),
        ({"alpha": "nan"}, "alpha: expected a number or 'auto', got 'nan'"),
        ({"alpha": float("inf")}, "alpha: expected a number or 'auto', got inf"),
        ({"alpha": True}, "alpha: expected a number or 'auto', got True"),
        ({"alpha": {"$": 1}}, "alpha: expected a number or 'auto', got {'$': 1}"),
        (
            {"alpha": "$__import__('os').getcwd()"},
            "alpha: expected a number or 'auto', got \"$__import__('os').getcwd()\"",
        ),
        ({"alpha": "@dose_fraction"}, "alpha: expected a number or 'auto', got '@dose_fraction'"),
        ({"solver": "%configs/train.json"}, "solver: expected 'proximal' or 'paper', got '%configs/train.json'"),
        ({"solver": "best"}, "solver: expected 'proximal' or 'paper', got 'best'"),
        ({"precision": "half"}, "precision: expected 'float32' or 'auto', got 'half'"),
        ({"max_iterations": 2.5}, "max_iterations: expected a whole number, got 2.5"),
        ({"max_iterations": "1e400"}, "max_iterations: expected a whole number, got '1e400'"),
        ({"match_intensity": "$1"}, "match_intensity: expected true or false, got '$1'"),
        ({"alhpa": 0.1}, "unknown parameter 'alhpa'; did you mean 'alpha'?"),
        ({"iterations": 3}, "unknown parameter 'iterations'; did you mean 'max_iterations'?"),
    ],
)
def test_values_that_cannot_be_meant(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_options(given, CONFIG)


def test_what_viewers_send_besides_is_passed_over() -> None:
    sent = {"client_id": "u", "result_dtype": "uint8", "result_extension": ".nrrd", "restore_label_idx": False}
    told = {"model": "ph2l_gentv", "image": "rat_low", "device": "cuda", "logging": "INFO", "checkpoint": "/x"}
    assert read_options({**sent, **told, "output_dir": "/x", "bundle_root": "/x"}, CONFIG) == {}


def test_alpha_of_an_operator() -> None:
    with pytest.raises(ConfigurationError, match="the bundle ph2l applies an operator, it has no prior"):
        read_options({"alpha": 0.1}, config_of("ph2l"))


def test_volume() -> None:
    assert read_volume({}, ("high_sim", "residual")) == "high_sim"
    assert read_volume({"volume": ["residual", "high_sim"]}, ("high_sim", "residual")) == "residual"
    with pytest.raises(ConfigurationError, match="volume: expected 'low_sim', got 'residual'"):
        read_volume({"volume": "residual"}, ("low_sim",))


def test_extension() -> None:
    assert read_extension({}) == ".nii.gz"
    assert [read_extension({"result_extension": extension}) for extension in EXTENSIONS] == list(EXTENSIONS)
    for wrong in (".seg.nrrd", "nrrd", "/../x.nii", 1):
        with pytest.raises(ConfigurationError, match="result_extension: expected one of .nii.gz, .nii, .nrrd, .mha"):
            read_extension({"result_extension": wrong})
