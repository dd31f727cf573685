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
"""Tests of the low-dose simulation, against forward simulation of the same tissue and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor

from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics import CONVENTIONAL, HIGH_RELAXIVITY, IodineCT, SpinEcho, SpoiledGradientEcho
from monai_lipcar.transforms.dose import SimulateLowDose, SimulateLowDoseD, SimulateLowDosed, SimulateLowDoseDict

AFFINE = torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0], dtype=torch.float64))
SHAPE = (1, 24, 20, 6)


def scan(dose_fraction: float, sequence: Any = None, agent: Any = HIGH_RELAXIVITY) -> Tensor:
    """Noise-free scan of a box of the reference tissue in air, in scanner units around 1000, uptake up to 0.3 mM."""
    generator = torch.Generator().manual_seed(0)
    density = 4000.0 * (0.5 + torch.rand(SHAPE, generator=generator, dtype=torch.float64))
    uptake = (0.45 * torch.rand(SHAPE, generator=generator, dtype=torch.float64) - 0.15).clamp(min=0.0)
    density[:, :4] = 0.0
    return (sequence or SpinEcho()).signal(density, 1331.0, 110.0, dose_fraction * uptake, agent)


def box(value: float, shape: tuple[int, ...] = (1, 20, 20, 10)) -> MetaTensor:
    """A box in empty space: its foreground's percentiles are all ``value``."""
    volume = torch.zeros(shape)
    volume[:, 4:16, 4:16] = value
    return MetaTensor(volume, affine=AFFINE, meta={"filename_or_obj": "pre.nii.gz"})


@pytest.mark.parametrize(
    ("sequence", "agent"),
    [
        (None, HIGH_RELAXIVITY),
        (SpinEcho(600.0, 12.0), CONVENTIONAL),
        (SpoiledGradientEcho(7.0, 2.5, 15.0), CONVENTIONAL),
    ],
)
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_matches_the_forward_simulation(sequence: Any, agent: Any, fraction: float) -> None:
    pre, high, truth = (scan(f, sequence, agent) for f in (0.0, 1.0, fraction))
    low = SimulateLowDose(fraction, 0.0, sequence, agent)(pre, high)
    assert low.dtype == torch.float32
    assert float((low - truth).abs().max() / pre.max()) < 1e-3


def test_low_enhancement_is_above_the_linear_blend() -> None:
    pre, high = scan(0.0), scan(1.0)
    enhancement = SimulateLowDose(0.2, 0.0)(pre, high) - pre
    enhancing = (high - pre) > 0.05 * pre.max()
    linear = 0.2 * (high - pre)
    assert (enhancement[enhancing] > linear[enhancing]).all()
    # the strongest uptake, 0.3 mM: R1 = 1000 / 1331 + 11.6 * 0.3 = 4.2313 at full dose, 0.7513 + 0.696 = 1.4473 at 0.2;
    # S without the factor M0 exp(-TE R20), TR R1 = 1.52327 and 0.52104, TE r2 C = 0.0243 and 0.00486:
    # S(0) = 1 - exp(-0.27047) = 0.23698, S(C) = 0.78200 * 0.97599 = 0.76323, S(f C) = 0.40610 * 0.99515 = 0.40412;
    # g = 0.16714 / 0.52625 = 0.31761 = 1.588 times the linear share, which nothing may exceed
    assert (enhancement[enhancing] < 1.589 * linear[enhancing]).all()
    assert float((enhancement[enhancing] / linear[enhancing]).max()) > 1.58


def test_by_hand() -> None:
    # TE = 0, T1 1000 ms, pre 500, high 1000: q = 2, E0 = exp(-0.36) = 0.69767633, e = (1 - 2 * 0.30232367) / E0
    # = 0.56667059, g = E0 (1 - e^0.2) / 0.30232367 = 0.69767633 * 0.10738099 / 0.30232367 = 0.24780451
    # low = 500 + 0.24780451 * 500 = 623.902
    low = SimulateLowDose(0.2, 0.0, SpinEcho(360.0, 0.0), t1_ms=1000.0)(box(500.0), box(1000.0))
    assert float(low[0, 8, 8, 5]) == pytest.approx(623.902, abs=2e-3)
    assert float(low[0, 0, 0, 0]) == 0.0


def test_extreme_fractions() -> None:
    pre, high = scan(0.0).float(), scan(1.0).float()
    torch.testing.assert_close(SimulateLowDose(0.0, 0.0)(pre, high), pre, rtol=1e-6, atol=0)
    torch.testing.assert_close(SimulateLowDose(1.0, 0.0)(pre, high), high, rtol=1e-5, atol=1e-3)
    # f -> 1: at most 0.1 % of the dose's signal is missing
    assert float((SimulateLowDose(0.999, 0.0)(pre, high) - high).abs().max() / pre.max()) < 2e-3


def test_noise_level_is_relative_to_the_bright_foreground_of_pre() -> None:
    # every foreground voxel of pre is 800: P99.5 = 800, sigma = 0.02 * 800 = 16; head far above it, so Gaussian there
    pre, high = box(800.0, (1, 40, 40, 40)), box(800.0, (1, 40, 40, 40))
    low = SimulateLowDose(0.2, 0.02)(pre, high)
    assert isinstance(low, MetaTensor)
    assert low.meta["noise_sigma"] == pytest.approx(16.0, rel=1e-6)
    head = low[pre > 0]
    # 5760 voxels: standard error of the deviation 16 / sqrt(11520) = 0.15
    assert float(head.std()) == pytest.approx(16.0, abs=0.6)
    assert float(head.mean()) == pytest.approx(800.0 + 16.0**2 / 1600.0, abs=0.9)


def test_noise_is_rician_in_air_and_nothing_where_both_are_masked_out() -> None:
    pre, high = box(800.0, (1, 40, 40, 40)), box(900.0, (1, 40, 40, 40))
    pre[:, 20:], high[:, 20:] = 1e-3, 1e-3
    low = SimulateLowDose(0.2, 0.02)(pre, high)
    # Rayleigh: 16 sqrt(pi / 2) = 20.05
    assert float(low[:, 20:].mean()) == pytest.approx(20.05, abs=0.3)
    assert float(low[:, :4].abs().max()) == 0.0


def test_ct_is_linear_with_gaussian_noise() -> None:
    native = torch.full((1, 30, 30, 30), -1000.0)
    native[:, 5:25] = 50.0
    high = native.clone()
    high[:, 5:15] = 150.0
    low = SimulateLowDose(0.25, 0.0, IodineCT())(native, high)
    # 50 + 0.25 * 100 = 75 HU
    assert float(low[0, 10, 3, 3]) == pytest.approx(75.0, abs=1e-3)
    assert float(low[0, 20, 3, 3]) == pytest.approx(50.0, abs=1e-3)
    # the 99.5th percentile is 1050 HU above air: sigma 0.01 * 1050 = 10.5 HU, in air as everywhere, mean 0
    noise = SimulateLowDose(0.25, 0.01, IodineCT())(native, high) - low
    assert float(noise[:, :5].std()) == pytest.approx(10.5, abs=0.5)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.4)


def test_metatensor_in_metatensor_out() -> None:
    pre, high = box(800.0), box(1200.0)
    low = SimulateLowDose(0.2, 0.01)(pre, high)
    assert isinstance(low, MetaTensor)
    assert torch.equal(low.affine, AFFINE)
    assert low.meta["filename_or_obj"] == "pre.nii.gz"
    assert (low.meta["dose_fraction"], low.meta["noise_level"]) == (0.2, 0.01)
    assert "dose_fraction" not in pre.meta
    assert float(pre.max()) == 800.0
    assert float(high.max()) == 1200.0


def test_arrays_are_welcome() -> None:
    pre, high = box(800.0).numpy(), box(1200.0).numpy()
    low = SimulateLowDose(0.2, 0.0)(pre.astype(np.int16), high.astype(np.int16))
    assert low.shape == (1, 20, 20, 10)
    assert 880.0 < float(low.max()) < 1000.0  # the linear blend is 880


def test_noise_depends_on_seed_and_study_alone() -> None:
    pre, high = box(800.0), box(1200.0)

    def low(seed: int, study: str) -> Tensor:
        d = SimulateLowDosed(noise_level=0.02, seed=seed)({"study_id": study, "pre": pre, "high": high})
        return d["low"].as_tensor()

    simulate = SimulateLowDosed(noise_level=0.02, seed=1)
    simulate({"study_id": "b", "pre": pre, "high": high})
    after = simulate({"study_id": "a", "pre": pre, "high": high})["low"]
    assert torch.equal(after.as_tensor(), low(1, "a"))
    assert not torch.equal(low(1, "a"), low(1, "b"))
    assert not torch.equal(low(1, "a"), low(2, "a"))


def test_dictionary_keys_and_aliases() -> None:
    d = SimulateLowDosed("t1", "t1ce", "t1low", noise_level=0.0)({"t1": box(500.0), "t1ce": box(900.0), "age": 61})
    assert set(d) == {"age", "t1", "t1ce", "t1low"}
    assert torch.equal(d["t1low"], SimulateLowDose(noise_level=0.0)(box(500.0), box(900.0)))
    assert SimulateLowDoseD is SimulateLowDoseDict is SimulateLowDosed


def test_it_can_be_written_in_a_bundle_config() -> None:
    simulate = ConfigParser(
        {
            "t": {
                "_target_": "monai_lipcar.transforms.dose.SimulateLowDosed",
                "dose_fraction": 0.25,
                "signal_model": {
                    "_target_": "monai_lipcar.physics.SpoiledGradientEcho",
                    "repetition_time_ms": 7.0,
                    "echo_time_ms": 2.5,
                    "flip_angle_deg": 15.0,
                },
            }
        }
    ).get_parsed_content("t")
    assert simulate.simulator.dose_fraction == 0.25


def bad_study(case: str) -> dict[Any, Any]:
    d: dict[Any, Any] = {"study_id": "rat-0007", "pre": box(500.0), "high": box(900.0)}
    if case == "missing":
        del d["high"]
    elif case == "shape":
        d["high"] = box(900.0, (1, 20, 20, 9))
    elif case == "affine":
        d["high"].affine = torch.eye(4, dtype=torch.float64)
    elif case == "nan high":
        d["high"][0, 8, 8, 5] = float("nan")
    elif case == "nan pre":
        d["pre"][0, 8, 8, 5] = float("nan")
    elif case == "constant":
        d["pre"][:] = 500.0
    return d


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "study rat-0007: no high volume to simulate the low dose from; the study needs pre and high"),
        (
            "shape",
            r"study rat-0007, high: expected .* of one shape, got \[1, 20, 20, 10\] and \[1, 20, 20, 9\]",
        ),
        ("affine", "study rat-0007, high: expected pre and high of one affine.*register and resample"),
        ("nan high", "study rat-0007, high: the volume contains NaN"),
        ("nan pre", "study rat-0007, pre: the volume contains NaN"),
        ("constant", "study rat-0007, pre: the volume is constant"),
    ],
)
def test_bad_studies_get_one_clear_line(case: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        SimulateLowDosed()(bad_study(case))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a noise level >= 0"):
        SimulateLowDosed(noise_level=-0.1)
    with pytest.raises(ConfigurationError, match="between 0 and 1, got 20"):
        SimulateLowDosed(dose_fraction=20)
    with pytest.raises(ConfigurationError, match="no range of T1 for CT"):
        SimulateLowDosed(signal_model=IodineCT(), t1_range_ms=(600.0, 4000.0))
    with pytest.raises(ConfigurationError, match="range of T1 around 1331"):
        SimulateLowDosed(t1_range_ms=(1500.0, 4000.0))


def test_each_voxel_has_its_own_t1() -> None:
    # two tissues that enhance by the same factor: the darker one, of longer T1, is less saturated
    pre = box(500.0)
    pre[:, 8:10, 8:10, 3:6] = 350.0
    settings = {"signal_model": SpoiledGradientEcho(7.0, 2.5, 15.0), "agent": CONVENTIONAL, "t1_ms": 1000.0}
    low = SimulateLowDose(0.2, 0.0, **settings, t1_range_ms=(600.0, 4000.0))(pre, 3.0 * pre)
    one = SimulateLowDose(0.2, 0.0, **settings)(pre, 3.0 * pre)
    kept, kept_by_one = (low - pre) / (2.0 * pre), (one - pre) / (2.0 * pre)
    assert float(kept[0, 5, 5, 5]) == pytest.approx(float(kept_by_one[0, 5, 5, 5]), abs=2e-3)
    assert 0.2 < float(kept[0, 9, 9, 4]) < float(kept_by_one[0, 9, 9, 4]) - 0.01
    assert float(low[0, 0, 0, 0]) == 0.0
    with pytest.raises(ValueError, match="expected a volume"):
        SimulateLowDose(t1_range_ms=(600.0, 4000.0))(pre[..., 0], pre[..., 0] * 2)
