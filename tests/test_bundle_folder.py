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
"""What the folder of a bundle says; more in ``test_bundle.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from monai_lipcar.bundle import domain_ranges
from monai_lipcar.bundle_folder import adaptive_prior
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.networks import save_weights


@pytest.mark.parametrize(
    ("metadata", "expected"), [({"domain": {"noise": [None, 0.1]}}, {"noise": [None, 0.1]}), ({"version": "0"}, {})]
)
def test_the_ranges_of_the_training(metadata: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    assert domain_ranges(tmp_path) == expected


def make_bundle(folder: Path, measured: dict[str, Any] | None = None) -> Path:
    (folder / "configs").mkdir(parents=True)
    metadata = {"bundle": folder.name, **({} if measured is None else {"adaptive_prior": measured})}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_the_adaptive_prior_is_the_bundle_s(tmp_path: Path) -> None:
    files = [tmp_path / "model.pt", tmp_path / "guess.pt"]
    checksums = [save_weights(nn.Conv2d(1, seed + 1, 3), file) for seed, file in enumerate(files)]
    measured = {
        "alpha_rule": {"operator_error": 0.004, "kappa": 0.0, "ratio": 0.3, "scale": 0.02},
        "guess_rule": {"error": 0.02, "gain": 1.0},
        **{"dose_fraction": 0.2, "weights_sha256": checksums[0], "guess_weights_sha256": checksums[1]},
    }
    folder = make_bundle(tmp_path / "tests_own", measured)
    assert adaptive_prior("gentv", folder, 0.2, *files) is None
    chosen = adaptive_prior("adaptive", folder, 0.2, *files)
    assert chosen == {"alpha_rule": measured["alpha_rule"], "guess_rule": measured["guess_rule"]}
    half = adaptive_prior("adaptive", folder, 0.1, *files)
    assert half is not None
    assert half["alpha_rule"] == {"operator_error": 0.004, "kappa": 0.0, "ratio": 0.15, "scale": 0.01}
    assert half["guess_rule"] == {"error": 0.02, "gain": 2.0}
    with pytest.raises(ConfigurationError, match="^prior: expected 'gentv' or 'adaptive', got 'tv'"):
        adaptive_prior("tv", folder, 0.2, *files)
    for others in ((files[1], files[1]), (files[0], files[0])):
        with pytest.raises(
            ConfigurationError, match="'adaptive' was calibrated for other weights of the bundle tests_own"
        ):
            adaptive_prior("adaptive", folder, 0.2, *others)
    with pytest.raises(
        ConfigurationError, match="'adaptive' has not been calibrated for the bundle tests_own_too; choose"
    ):
        adaptive_prior("adaptive", make_bundle(tmp_path / "tests_own_too"), 0.2, *files)
