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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import alpha_auto, alpha_heads, alpha_rules
from benchmarks.alpha_heads import CONDITIONS, Calibration, Parts
from benchmarks.alpha_rules import at, best, fit, fit_all, losses, of_rule, summary
from benchmarks.paper.alphas import scheduled
from monai_lipcar.networks import has_fast_bfloat16
from monai_lipcar.problem import AlphaRule

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "alpha_auto.json"


def curve(sigma: float, best_alpha: float | None = None) -> dict[str, Any]:
    """Discrepancy 10 alpha; PSNR 40 dB where it is the root of sigma^2 + 4 * 0.01^2, and 10 dB less a decade away."""
    right = 10 * best_alpha if best_alpha else math.hypot(sigma, 0.02)
    alphas = [10.0 ** (-1 - step / 40) for step in range(121)]
    return {
        "sigma": sigma,
        "rows": [[a, 40.0 - 10.0 * abs(math.log10(10 * a / right)), 10 * a] for a in alphas],
    }


SIGMAS = (0.005, 0.01, 0.03, 0.06)
CURVES = {f"head {sigma}, noise": curve(sigma) for sigma in SIGMAS}


def test_between_the_alphas_of_the_grid() -> None:
    example = {"sigma": 0.01, "rows": [[1e-2, 30.0, 0.04], [1e-3, 40.0, 0.02], [1e-4, 20.0, 0.01]]}
    assert at(example, [10**-2.5, 1.0]) == pytest.approx([35.0, 30.0])
    assert of_rule(example, 0.02 * 2**0.5) == pytest.approx(10**-2.5)
    assert of_rule(example, 1.0) == pytest.approx(1e-2)
    assert of_rule(example, 1e-5) == pytest.approx(1e-4)
    assert best(example) == 40.0


def test_the_rule_that_loses_least_is_found() -> None:
    found = fit(CURVES, "discrepancy", 0.01)
    assert (found.rule.operator_error, found.rule.ratio, found.rule.scale) == (0.01, None, 0.0)
    assert found.rule.kappa == pytest.approx(4.0, rel=0.15)
    assert list(found.lost) == list(CURVES)
    assert max(found.lost.values()) == pytest.approx(0.0, abs=0.3)
    (without,) = losses(CURVES, [AlphaRule(operator_error=0.01, kappa=0.0)]).T
    assert without[0] > 5.0
    assert without[-1] < 0.5
    proportional = fit(CURVES, "proportional", 0.01).rule
    assert (proportional.kappa, proportional.ratio) == (pytest.approx(4.0, rel=0.15), pytest.approx(0.1, rel=0.1))
    _, kinds = fit_all(CURVES, 0.01)
    assert list(kinds) == list(alpha_rules.KINDS)
    assert kinds["discrepancy"] == found
    assert kinds["discrepancy, kappa 1"].rule == AlphaRule(0.01, 1.0)


def test_a_scale_is_found_where_alpha_goes_with_the_variance_of_little_noise() -> None:
    right = AlphaRule(0.0, 0.0, ratio=0.3, scale=0.02)
    sigmas = (0.003, 0.006, 0.012, 0.024, 0.048)
    curves = {f"head {index % 3}, {sigma}": curve(sigma, right.alpha(sigma)) for index, sigma in enumerate(sigmas)}
    kind, kinds = fit_all(curves, 0.0)
    assert kind == "proportional, with a scale"
    rule = kinds[kind].rule
    assert (rule.ratio, rule.scale) == (pytest.approx(0.3, rel=0.15), pytest.approx(0.02, rel=0.3))
    assert np.mean(list(kinds["proportional"].left_out.values())) > 1.0


def test_a_head_is_judged_by_the_rule_that_is_fitted_without_it() -> None:
    some = {f"{head}, {sigma}": curve(sigma, 0.2 * sigma) for head in "abc" for sigma in SIGMAS}
    odd = {f"odd, {sigma}": curve(sigma, 1.2 * sigma) for sigma in SIGMAS}
    found = fit({**some, **odd}, "proportional", 0.0)
    expected = 10 * math.log10(6)  # of a ratio of 0.2 where 1.2 is right
    for sigma in SIGMAS:
        assert found.left_out[f"odd, {sigma}"] == pytest.approx(expected, abs=0.2)
        assert found.left_out[f"a, {sigma}"] < 0.2
    # more numbers lose less where they are fitted, not where they are not: the kind is chosen by the latter
    kind, kinds = fit_all({**some, **odd}, 0.0)
    assert all(sum(kinds[kind].left_out.values()) <= sum(one.left_out.values()) for one in kinds.values())


def test_what_auto_default_and_schedule_lose() -> None:
    curves = {"a, noise 0.0": curve(0.01, 0.002), "a, noise 0.033": curve(0.034, 0.02)}
    alphas = {"a, noise 0.0": 0.002, "a, noise 0.033": 0.2}
    found = summary(curves, alphas, 0.002, lambda label: scheduled(0.002, CONDITIONS[label.split(", ")[1]][0]))
    assert found["best_psnr_head"] == pytest.approx(40.0, abs=0.2)
    assert (found["auto"], found["auto_worst"]) == (pytest.approx(3.5, abs=0.3), pytest.approx(7.0, abs=0.3))
    assert found["default"] == pytest.approx(5.0, abs=0.2)
    assert 0 < found["schedule"] < found["default"]
    assert "auto_left_out" not in found
    assert summary(curves, alphas, 0.002, lambda _: 0.002, dict.fromkeys(curves, 1.5))["auto_left_out"] == 1.5


def test_the_published_rule_is_the_fit_to_the_published_curves(tmp_path: Path) -> None:
    """And a refit of the results file changes nothing that was measured."""
    before = json.loads(RESULTS.read_text(encoding="utf-8"))
    file = tmp_path / "alpha_auto.json"
    file.write_text(RESULTS.read_text(encoding="utf-8"), encoding="utf-8")
    alpha_auto.main(["--refit", "--results", str(file), "--output", str(tmp_path)])
    assert json.loads(file.read_text(encoding="utf-8")) == before


def test_a_rule_that_has_to_be_searched_with_cannot_be_refitted() -> None:
    curves: dict[str, Any] = {}
    for head, factor in zip("abc", (1.0, 3.0, 9.0), strict=True):  # the same noise, another alpha leaves it as residual
        for level, sigma in zip((0.0, 0.011, 0.033, 0.066), SIGMAS, strict=True):
            one = curve(sigma)
            one["rows"] = [[alpha / factor, psnr, left] for alpha, psnr, left in one["rows"]]
            curves[f"{head}, noise {level}"] = one
    kind, kinds = fit_all(curves, 0.01)
    assert kind == "discrepancy"
    entry: dict[str, Any] = {
        "curves": curves,
        "alpha_rule": {"operator_error": 0.01, "kappa": 0.0},
        "default_alpha": 0.002,
        "chosen": {label: {"alpha": 0.003, "solves": 2} for label in curves},
    }
    with pytest.raises(SystemExit, match="run it without --refit"):
        alpha_auto.refit(entry)
    # unless it is the one that was searched with
    same = {**entry, "alpha_rule": asdict(kinds[kind].rule)}
    assert alpha_auto.refit(same)["chosen"] == entry["chosen"]


@pytest.mark.slow
def test_other_studies_are_only_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpha_auto, "CHECKED", {"random": (6502, {"shape": (64, 64, 4)})})
    monkeypatch.setattr(alpha_auto, "CHECKED_UNDER", ("noise 0.033",))
    monkeypatch.setattr(alpha_heads, "ALPHAS", (0.02, 0.005))
    rule = {"operator_error": 0.01, "kappa": 0.0, "ratio": 0.3, "scale": 0.0, "dose_fraction": 0.2}
    found = alpha_auto.check("ph2l_tv", tmp_path, 1, "auto", rule)
    assert list(found["conditions"]) == ["noise 0.033", "all"]
    row = found["conditions"]["all"]
    assert set(row) == {"best_psnr_head", "auto", "auto_worst", "default", "schedule"}
    (one,) = found["curves"].values()
    assert one["precision"] == ("bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32")
    assert [alpha for alpha, _, _ in one["rows"]] == [0.02, 0.005]
    (chosen,) = found["chosen"].values()
    assert chosen["alpha"] == pytest.approx(0.3 * one["sigma"])
    # what was computed is found again, and belongs to its precision
    monkeypatch.setattr(Calibration, "curve", lambda *_: pytest.fail("computed again"))
    assert alpha_auto.check("ph2l_tv", tmp_path, 1, "auto", rule) == found
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        alpha_auto.check("ph2l_tv", tmp_path, 1, "float32", rule)


def test_results_are_kept_for_the_same_settings_only(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    assert Parts(file, {"grid": [1]}).get("curve", lambda: [1.0, 2.0]) == [1.0, 2.0]
    assert Parts(file, {"grid": [1]}).get("curve", lambda: pytest.fail("computed again")) == [1.0, 2.0]
    assert Parts(file, {"grid": [2]}).get("curve", lambda: [3.0]) == [3.0]
    assert json.loads(file.read_text())["values"] == {"curve": [3.0]}
