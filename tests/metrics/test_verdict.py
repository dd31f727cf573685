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
"""The verdict: explained where the operator fits the study, and not where something else is in it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from monai_lipcar.data.phantom.acquisition import AcquisitionOptions, acquire
from monai_lipcar.data.phantom.randomized import random_head
from monai_lipcar.inferers import LIPInferer
from monai_lipcar.metrics import enhancement_recovery, enhancing_tissue, expected_residual, judge, with_findings
from monai_lipcar.metrics.verdict import WINDOW_LIMIT
from monai_lipcar.physics import DoseProtocol, SignalEquationOperator
from monai_lipcar.problem import ProximalSolver
from monai_lipcar.transforms import EstimateNoise
from monai_lipcar.transforms.foreground import head_mask

SIGMA, ALPHA, SHAPE = 0.01, 1e-3, (12, 80, 80)
HEAD = np.zeros(SHAPE, dtype=bool)
HEAD[:, 10:70, 10:70] = True
EXPECTED = expected_residual(SIGMA, ALPHA, 0.2)


def made(**changes: Any) -> dict[str, Any]:
    """Arguments for a study that is right: noise is all that is left, and one corner enhances."""
    rng = np.random.default_rng(0)
    pre = np.where(HEAD, 0.3, 0.0)
    simulated = pre.copy()
    simulated[:, 20:40, 20:40] += 0.2
    low = pre + 0.2 * (simulated - pre) + rng.normal(scale=SIGMA, size=SHAPE)
    residual = rng.normal(scale=SIGMA, size=SHAPE)
    given = {"residual": residual, "head": HEAD, "sigma": SIGMA, "alpha": ALPHA, "pre": pre, "low": low}
    return {**given, "simulated": simulated, **changes}


def test_noise_is_explained() -> None:
    verdict = judge(**made())
    assert verdict["level"] == "explained"
    assert verdict["places"] == []
    measures = verdict["measures"]
    assert measures["residual_head"] == pytest.approx(SIGMA / EXPECTED, rel=0.02)
    assert 1.0 < measures["residual_window"] / measures["residual_head"] < 1.5
    assert measures["darker_window"] < 0.6
    assert measures["flagged_share"] == 0.0
    assert measures["strongest_enhancement"] == pytest.approx(0.2 / 0.3, rel=0.01)
    assert len(verdict["slices"]["residual_head"]) == SHAPE[0]


def test_what_is_outside_the_head_does_not_count() -> None:
    given = made()
    given["residual"][~HEAD] = 1.0
    assert judge(**given)["level"] == "explained"


def test_a_residual_in_one_place_is_found_there() -> None:
    given = made()
    given["residual"][1, 30:42, 50:62] += 0.08
    verdict = judge(**given)
    assert verdict["level"] == "look"
    (place,) = verdict["places"]
    assert (place["kind"], place["slice"]) == ("residual", 1)
    assert place["rows"][0] <= 36 < place["rows"][1]
    assert place["columns"][0] <= 56 < place["columns"][1]
    assert place["value"] == pytest.approx(verdict["measures"]["residual_window"] / WINDOW_LIMIT, rel=1e-3)
    assert "in one place, the worst in slice 2, the low dose is not explained" in verdict["reasons"][0]
    assert verdict["slices"]["residual_window"][1] > WINDOW_LIMIT > verdict["slices"]["residual_window"][0]


def test_the_same_residual_in_the_noise_of_a_poor_scanner_is_explained() -> None:
    given = made(sigma=0.08)
    given["residual"][1, 30:42, 50:62] += 0.08
    assert judge(**given)["level"] == "explained"


def test_the_prior_leaves_more_where_alpha_is_larger() -> None:
    given = made(alpha=0.02)
    given["residual"][1, 30:42, 50:62] += 0.08
    assert judge(**given)["level"] == "explained"


def test_tissue_does_not_become_darker() -> None:
    given = made()
    for name, change in (("low", -0.03), ("simulated", -0.15)):
        given[name][2, 50:62, 50:62] += change
    verdict = judge(**given)
    assert verdict["level"] == "look"
    (place,) = verdict["places"]
    assert (place["kind"], place["slice"]) == ("darker", 2)
    assert "tissue becomes darker" in verdict["reasons"][0]


def test_darker_by_less_than_can_be_seen_is_no_concern() -> None:
    given = made(sigma=0.001)
    given["low"] = given["pre"] + 0.2 * (given["simulated"] - given["pre"])
    given["residual"] = 0.1 * given["residual"]
    for name, change in (("low", -0.004), ("simulated", -0.02)):
        given[name][2, 50:62, 50:62] += change
    verdict = judge(**given)
    assert verdict["measures"]["darker_window"] == pytest.approx(4.0, rel=0.01)
    assert verdict["measures"]["untrusted_enhancement"] < 0.1
    assert verdict["level"] == "explained"


def differing(depth: float) -> dict[str, Any]:
    """A study whose volumes differ by fine stripes besides contrast agent: up to ``depth`` in the low dose."""
    given = made()
    stripes = -depth * np.sin(np.arange(SHAPE[2]) * 2 * np.pi / 40)
    given["low"] = given["low"] + stripes
    given["simulated"] = given["simulated"] + stripes / 0.2
    return given


def test_what_the_volumes_differ_by_everywhere_is_no_place_to_look_at() -> None:
    verdict = judge(**differing(0.02))
    assert verdict["level"] == "explained"
    assert verdict["places"] == []
    measures = verdict["measures"]
    # a window of 9 averages a sine of period 40 down to 0.92 of it
    assert measures["untrusted_enhancement"] == pytest.approx(0.92 * 0.02 / 0.2 / 0.3, rel=0.03)
    assert measures["darker_window"] > 1.2  # what noise alone is allowed to make
    assert measures["darker_window_limit"] == pytest.approx(5.0 * measures["mismatch"], rel=1e-3)
    assert "enhancement of less than 31 % of the tissue's brightness is not to be trusted" in verdict["reasons"][-1]


def test_a_place_that_stands_out_of_it_is_found() -> None:
    given = differing(0.005)
    for name, change in (("low", -0.08), ("simulated", -0.25)):
        given[name][2, 50:62, 50:62] += change
    verdict = judge(**given)
    assert verdict["level"] == "look"
    (place,) = verdict["places"]
    assert (place["kind"], place["slice"]) == ("darker", 2)


def test_volumes_that_differ_by_more_than_half_of_the_tissue_are_of_another_kind() -> None:
    verdict = judge(**differing(0.05))
    assert verdict["level"] == "out_of_domain"
    assert verdict["places"] == []
    assert "the operator does not describe this study" in verdict["reasons"][0]
    assert "not to be trusted (limit 55 %)" in verdict["reasons"][-1]


def test_enhancement_that_is_not_to_be_trusted_is_none() -> None:
    given = differing(0.02)
    given["simulated"][:, 20:40, 20:40] -= 0.2
    verdict = judge(**given)
    assert verdict["level"] == "look"
    assert verdict["reasons"][0].startswith(
        "nothing enhances by as much as 31 % of the tissue's brightness beyond what"
    )


def test_nothing_enhances() -> None:
    given = made()
    given["simulated"] = given["pre"] + np.random.default_rng(1).normal(scale=0.05, size=SHAPE)
    verdict = judge(**given)
    assert verdict["level"] == "look"
    assert verdict["reasons"][0].startswith("nothing enhances by as much as 10 % of the tissue's brightness")


@pytest.mark.parametrize(
    ("recovery", "level"), [(0.5, "look"), (0.95, "explained"), (1.8, "look"), (None, "explained")]
)
def test_the_acquired_full_dose_has_a_say(recovery: float | None, level: str) -> None:
    verdict = judge(**made(recovery=recovery))
    assert verdict["level"] == level
    assert ("enhancement_recovery" in verdict["measures"]) == (recovery is not None)


def test_a_study_of_something_else() -> None:
    given = made()
    given["residual"] = 8.0 * given["residual"]
    verdict = judge(**given)
    assert verdict["level"] == "out_of_domain"
    assert "the operator does not describe this study" in verdict["reasons"][0]
    assert len(verdict["places"]) <= 20


@pytest.mark.parametrize("sigma", [None, 0.0, float("nan")])
def test_without_a_noise_level_there_is_no_verdict(sigma: float | None) -> None:
    verdict = judge(**made(sigma=sigma))
    assert verdict["level"] == "not_judged"
    assert "noise level" in verdict["reasons"][0]


@pytest.mark.parametrize("rows", [slice(0), slice(30, 33)], ids=["empty", "too thin for a window"])
def test_without_a_head_there_is_no_verdict(rows: slice) -> None:
    head = np.zeros(SHAPE, dtype=bool)
    head[:, rows] = True
    assert judge(**made(head=head))["level"] == "not_judged"


def test_an_operator_without_pre_dose_image_is_judged_by_its_residual() -> None:
    given = {key: value for key, value in made().items() if key not in ("pre", "low", "simulated")}
    verdict = judge(**given)
    assert verdict["level"] == "explained"
    assert "darker_window" not in verdict["measures"]
    assert verdict["measures"]["expected_residual"] == pytest.approx(expected_residual(SIGMA, ALPHA, 1.0), rel=1e-3)


@cache
def examination(noise: float, dose_fraction: float = 0.2, pre_fraction: float | None = None) -> dict[str, np.ndarray]:
    """Simulated pre, low and high of one head, (S, H, W) on the [0, 1] scale."""
    maps = random_head(np.random.default_rng(7), lesions=2, shape=(112, 112, 4))
    options = AcquisitionOptions(motion_voxels=0.0, rotation_deg=0.0, gain=0.0, noise_level=noise)

    def acquired(fraction: float, options: AcquisitionOptions) -> dict[str, np.ndarray]:
        protocol = DoseProtocol(0.05 * fraction, 0.05)
        return acquire(maps, np.random.default_rng(8), protocol=protocol, options=options)

    volumes = acquired(dose_fraction, options)
    if pre_fraction is not None:
        # the pre-dose image after some contrast agent, with noise of its own
        clean = acquired(pre_fraction, replace(options, noise_level=0.0))["low"]
        sigma = EstimateNoise(2)(volumes["low"][None])
        parts = np.random.default_rng(9).normal(scale=sigma, size=(2, *clean.shape))
        volumes["pre"] = np.hypot(clean + parts[0], parts[1])
    scale = 2.0 * float(np.percentile(volumes["pre"], 99.5))
    return {
        name: np.moveaxis(np.asarray(volumes[name], dtype=np.float32), 2, 0) / scale for name in ("pre", "low", "high")
    }


def verdict_on(volumes: dict[str, np.ndarray], dose_fraction: float = 0.2, with_high: bool = False) -> dict[str, Any]:
    """Solve for the full dose as the bundle without training does, and judge."""
    both = torch.from_numpy(np.stack([volumes["pre"], volumes["low"]], axis=1))
    inferer = LIPInferer(ALPHA, guess="pre", solver=ProximalSolver(), progress=False)
    simulated = inferer(both, SignalEquationOperator(dose_fraction))
    assert inferer.residual is not None
    head = np.ascontiguousarray(head_mask(volumes["low"], axis=0))
    recovery = None
    if with_high:
        pre, high = torch.from_numpy(volumes["pre"]), torch.from_numpy(volumes["high"])
        recovery = enhancement_recovery(simulated[:, 0], pre, high, enhancing_tissue(pre, high, torch.from_numpy(head)))
    return judge(
        inferer.residual[:, 0].numpy(),
        head,
        EstimateNoise(0)(volumes["low"][None]),
        ALPHA,
        pre=volumes["pre"],
        low=volumes["low"],
        simulated=simulated[:, 0].numpy(),
        dose_fraction=dose_fraction,
        recovery=recovery,
    )


@pytest.mark.parametrize("noise", [0.01, 0.033])
def test_an_examination_that_fits_is_explained(noise: float) -> None:
    verdict = verdict_on(examination(noise), with_high=True)
    assert verdict["level"] == "explained", verdict["reasons"]


def test_contrast_agent_in_the_pre_dose_image() -> None:
    verdict = verdict_on(examination(0.01, pre_fraction=0.2))
    assert verdict["level"] == "look"
    assert verdict["reasons"][0].startswith("nothing enhances")


def test_another_dose_fraction_shows_against_the_acquired_full_dose() -> None:
    volumes = examination(0.01, dose_fraction=0.08)
    verdict = verdict_on(volumes, with_high=True)
    assert verdict["level"] == "look"
    assert "another dose fraction than assumed" in verdict["reasons"][-1]
    # and, as the documentation says, without it the image explains the low dose all the same
    assert verdict_on(volumes)["level"] == "explained"


def test_a_bright_lesion_that_moved() -> None:
    volumes = {name: volume.copy() for name, volume in examination(0.01).items()}
    rows, columns = np.mgrid[:112, :112]
    brightness = float(np.median(volumes["pre"][head_mask(volumes["pre"], axis=0)]))

    def lesion(column: int) -> np.ndarray:
        return brightness * np.exp(-((rows - 56) ** 2 + (columns - column) ** 2) / 4.5)

    volumes["pre"][2] += lesion(52).astype(np.float32)
    volumes["low"][2] += lesion(62).astype(np.float32)
    verdict = verdict_on(volumes)
    assert verdict["level"] == "look"
    worst = verdict["places"][0]
    assert (worst["kind"], worst["slice"]) == ("darker", 2)
    assert worst["rows"][0] <= 56 < worst["rows"][1]
    assert worst["columns"][0] <= 52 < worst["columns"][1]


def test_a_low_dose_upside_down() -> None:
    volumes = dict(examination(0.01))
    volumes["low"] = volumes["low"][:, ::-1].copy()
    assert verdict_on(volumes)["level"] == "out_of_domain"


def test_a_study_of_another_kind() -> None:
    verdict = verdict_on(dict(examination(0.01)))
    assert with_findings(verdict, []) == verdict
    refused = with_findings(verdict, ["too wide", "too noisy"])
    assert refused["level"] == "out_of_domain"
    assert refused["reasons"] == ["too wide", "too noisy", *verdict["reasons"]]
    assert refused["measures"] == verdict["measures"]
