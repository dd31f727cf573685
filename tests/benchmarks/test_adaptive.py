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
"""The rule of the adaptive prior is found where it is known, and the curve is drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adaptive
from benchmarks.adaptive import (
    BY_THE_NOISE,
    CALIBRATED,
    FOUR,
    UNDER,
    best_of_four,
    best_of_grid,
    draw,
    fit,
    mixtures,
    nearest,
    shortfalls,
)
from benchmarks.adaptive_heads import METRICS, RATIOS, WEIGHTS, average
from monai_lipcar.problem import AlphaRule, GuessRule

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "adaptive.json"
SIGMAS = dict(zip(UNDER, (0.006, 0.012, 0.022, 0.033, 0.044, 0.066, 0.022), strict=True))
PRE = 0.005


def row(ssim: float, ratio: float = 0.3, best: float = 0.3) -> dict[str, float]:
    """Less than this SSIM the further a ratio is from the best one."""
    loss = math.log(ratio / best) ** 2
    return {"ssim_head": ssim - loss, "psnr_head": 40.0 * (ssim - loss), "enhancement_recovery": 1.0 - ratio}


def curve(sigma: float, error: float, scale: float = 0.0) -> dict[str, Any]:
    """Mixtures with an SSIM of 0.9 at the weight of GuessRule(error) and the alpha of AlphaRule(0, 0, 0.3, scale)."""
    best = GuessRule(error).end_to_end(sigma, PRE)
    noise = math.hypot(sigma, PRE)
    at = 0.3 * noise / (noise + scale)
    grid = {str(one): [row(0.9 - 0.4 * (one - best) ** 2, ratio, at) for ratio in RATIOS] for one in WEIGHTS}
    four = {"ph2l_tv": [row(0.7, ratio) for ratio in RATIOS], "physics_tv": grid["0.0"], "ph2l_gentv": grid["1.0"]}
    return {"sigma": sigma, "sigma_pre": PRE, **grid, **four, "nn_pl2h": [row(0.5)]}


def curves(error: float, scale: float = 0.0) -> dict[str, dict[str, Any]]:
    return {f"{head}, {condition}": curve(sigma, error, scale) for head in "ab" for condition, sigma in SIGMAS.items()}


def proportional(ratio: float) -> AlphaRule:
    return AlphaRule(0.0, 0.0, ratio)


def test_mean_over_the_heads_that_have_a_metric() -> None:
    assert average([{"ssim_head": 0.5}, {"ssim_head": 0.7, "psnr_head": 30.0}]) == {"ssim_head": 0.6, "psnr_head": 30.0}


def test_the_four_have_their_best_alpha() -> None:
    found = best_of_four(curves(0.01), UNDER[0])
    assert list(found) == list(FOUR)
    assert found["ph2l_tv"] == {**row(0.7), "ratio": 0.3}
    assert "ratio" not in found["nn_pl2h"]


def test_between_the_weights_and_the_ratios() -> None:
    example = curve(0.02, 0.01)
    noise = math.hypot(0.02, PRE)
    rules: list[Any] = [
        (0.25, proportional(0.25)),
        (0.18, proportional(0.3)),
        (GuessRule(0.01), AlphaRule(0.0, 0.0, 0.6, scale=noise)),
        (0.25, proportional(0.05)),
    ]
    values = mixtures(example, rules, "ssim_head")
    best = GuessRule(0.01).end_to_end(0.02, PRE)
    assert values[0] == pytest.approx(example["0.25"][RATIOS.index(0.25)]["ssim_head"])
    assert values[1:3] == pytest.approx([0.9 - 0.4 * (0.18 - best) ** 2, 0.9], abs=0.003)
    assert math.isnan(values[3])  # beyond what was measured


def test_how_far_a_rule_falls_short() -> None:
    measured = curves(0.01)
    found = shortfalls(measured, [(0.0, proportional(0.3)), (1.0, proportional(0.3))])
    assert list(found) == list(UNDER)
    for condition, values in found.items():
        pre, end_to_end = (
            measured[f"a, {condition}"][weight][RATIOS.index(0.3)]["ssim_head"] for weight in ("0.0", "1.0")
        )
        best = max(pre, end_to_end, 0.7)
        assert values == pytest.approx([best - pre, best - end_to_end], abs=1e-4)


def test_the_rule_that_falls_short_least_is_found() -> None:
    measured = curves(0.015)
    (guess, alpha), worst = fit(measured, BY_THE_NOISE)
    assert isinstance(guess, GuessRule)
    assert guess.error == pytest.approx(0.015, rel=0.35)
    assert (alpha.ratio, alpha.scale) == (pytest.approx(0.3, abs=0.03), 0.0)
    assert worst < 0.005
    _, constant = fit(measured, "the same weight at every noise level")
    _, pre = fit(measured, "pre-dose image alone")
    assert worst < constant < pre
    measured = curves(0.015, scale=0.01)
    (_, alpha), worst = fit(measured, BY_THE_NOISE)
    assert (alpha.ratio, alpha.scale) == (pytest.approx(0.3, abs=0.04), pytest.approx(0.01, rel=0.3))
    _, proportionate = fit(measured, "by the noise, alpha in proportion to it")
    assert worst < 0.005 < proportionate


@pytest.mark.slow
def test_whole_slices_have_the_best_ratio_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    condition = "noise 0.033"
    monkeypatch.setattr(adaptive, "CHECKED", {"random": (6502, {"shape": (64, 64, 4)})})
    monkeypatch.setattr(adaptive, "UNDER", (condition,))
    calibrated = json.loads(RESULTS.read_text(encoding="utf-8"))
    found = adaptive.check(tmp_path, 1, calibrated, "float32")[condition]
    assert list(found) == [*FOUR, "adaptive", "shortfall"]
    assert "ratio" not in found["nn_pl2h"]
    kept = json.loads((tmp_path / "whole" / "adaptive.json").read_text())["values"]
    for approach, solved in {"ph2l_tv": "ph2l_tv", "ph2l_gentv": "1.0", "physics_tv": "physics_tv"}.items():
        tried = {
            ratio: kept[label]["rows"][0]["ssim_head"]
            for ratio in RATIOS
            if (label := f"random-0001, {condition}, {solved}, {ratio}") in kept
        }
        place = RATIOS.index(found[approach]["ratio"])
        assert set(RATIOS[max(0, place - 1) : place + 2]) <= set(tried)
        assert found[approach]["ssim_head"] == pytest.approx(max(tried.values()), abs=1e-4)
    best = max(found[approach]["ssim_head"] for approach in FOUR)
    assert found["shortfall"] == pytest.approx(best - found["adaptive"]["ssim_head"], abs=1e-4)


@pytest.mark.parametrize(("right", "start"), [(0.3, 0.3), (0.75, 0.25), (0.07, 0.15), (0.55, 0.75)])
def test_the_four_are_searched_for_until_both_neighbors_are_worse(right: float, start: float) -> None:
    asked: list[float] = []

    def measure(ratios: Sequence[float]) -> list[dict[str, float]]:
        asked.extend(ratios)
        return [row(0.9, ratio, right) for ratio in ratios]

    assert best_of_grid(measure, start) == {**row(0.9, right, right), "ratio": right}
    assert len(asked) == len(set(asked))  # each once
    place = RATIOS.index(right)
    assert set(RATIOS[max(0, place - 1) : place + 2]) <= set(asked)
    first, last = sorted((place, RATIOS.index(start)))
    assert set(asked) == set(RATIOS[max(0, first - 1) : last + 2])


def test_without_a_ratio_there_is_nothing_to_search_for() -> None:
    assert best_of_grid(lambda ratios: [{"ssim_head": 0.5 + ratio} for ratio in ratios], None) == {"ssim_head": 0.5}


def test_the_closest_condition() -> None:
    assert [nearest(condition) for condition in CALIBRATED] == list(CALIBRATED)
    assert nearest("noise 0.033") == "noise 0.022"
    assert nearest("noise 0.055") == "noise 0.066"


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    part = {
        condition: {**dict.fromkeys([*FOUR, "adaptive"], dict.fromkeys(METRICS, 0.5)), "shortfall": 0.0}
        for condition in UNDER
    }
    for parts in ({"small heads": part}, {"small heads": part, "other heads": part}):
        draw(parts, tmp_path / "images" / "curve.png")
        assert (tmp_path / "images" / "curve.png").read_bytes().startswith(b"\x89PNG")
