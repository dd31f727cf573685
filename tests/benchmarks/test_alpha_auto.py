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
"""What is read off the curves: alphas, losses and kappa."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.alpha_auto import Parts, at, best, fit, fit_all, losses, of_rule
from monai_lipcar.problem import AlphaRule


def curve(sigma: float) -> dict[str, Any]:
    """Discrepancy 10 alpha; PSNR 40 dB where it is the root of sigma^2 + 4 * 0.01^2, and 10 dB less a decade away."""
    right = math.hypot(sigma, 0.02)
    alphas = [10.0 ** (-1 - step / 40) for step in range(121)]
    return {
        "sigma": sigma,
        "rows": [[a, 40.0 - 10.0 * abs(math.log10(10 * a / right)), 10 * a] for a in alphas],
    }


CURVES = {f"head-{sigma}": curve(sigma) for sigma in (0.005, 0.01, 0.03, 0.06)}


def test_between_the_alphas_of_the_grid() -> None:
    example = {"sigma": 0.01, "rows": [[1e-2, 30.0, 0.04], [1e-3, 40.0, 0.02], [1e-4, 20.0, 0.01]]}
    assert at(example, 10**-2.5) == pytest.approx(35.0)
    assert at(example, 1.0) == 30.0
    assert of_rule(example, 0.02 * 2**0.5) == pytest.approx(10**-2.5)
    assert of_rule(example, 1.0) == pytest.approx(1e-2)
    assert of_rule(example, 1e-5) == pytest.approx(1e-4)
    assert best(example) == 40.0


def test_the_rule_that_loses_least_is_found() -> None:
    start = AlphaRule(operator_error=0.01, kappa=1.0)
    rule = fit(CURVES, start, (None,))
    assert rule.kappa == pytest.approx(4.0, rel=0.15)
    assert max(losses(CURVES, rule).values()) == pytest.approx(0.0, abs=0.3)
    without = losses(CURVES, AlphaRule(operator_error=0.01, kappa=0.0))
    assert without["head-0.005"] > 5.0
    assert without["head-0.06"] < 0.5
    proportional = fit(CURVES, start, (0.05, 0.1, 0.2))
    assert proportional == replace(rule, ratio=0.1)
    kinds = fit_all(CURVES, start)
    assert kinds["discrepancy"] == rule
    assert kinds["proportional"].ratio == pytest.approx(0.1, rel=0.1)
    assert kinds["discrepancy, kappa 1"] == start


def test_results_are_kept_for_the_same_settings_only(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    assert Parts(file, {"grid": [1]}).get("curve", lambda: [1.0, 2.0]) == [1.0, 2.0]
    assert Parts(file, {"grid": [1]}).get("curve", lambda: pytest.fail("computed again")) == [1.0, 2.0]
    assert Parts(file, {"grid": [2]}).get("curve", lambda: [3.0]) == [3.0]
    assert json.loads(file.read_text())["values"] == {"curve": [3.0]}
