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
"""Tests of the T1 that is told from one image, by hand and on heads whose T1 is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.data.phantom import AcquisitionOptions, TissueMaps, acquire, mni152_head, random_head
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import CONVENTIONAL, DoseProtocol, SpinEcho, SpoiledGradientEcho
from monai_lipcar.transforms import SimulateLowDose
from monai_lipcar.transforms.tissue_t1 import BRAIN_T1_MS, estimate_t1

ONE_MM = np.ones(3)
GRADIENT_ECHO = SpoiledGradientEcho(8.0, 3.0, 20.0)


def box(inside: float = 100.0) -> np.ndarray:
    """A head of one tissue, 300 units, with a part of ``inside`` percent of its signal."""
    volume = np.zeros((40, 40, 12))
    volume[6:34, 6:34] = 300.0
    volume[16:22, 16:22, 4:8] *= inside / 100.0
    return volume


def head(kind: str) -> TissueMaps:
    """A small head of known tissue."""
    if kind == "random labels":  # the median of its tissue is 1110 ms, about the reference's
        return random_head(np.random.default_rng(2), shape=(96, 96, 8))
    rng = np.random.default_rng(1)
    stripped = float(kind == "skull-stripped")
    return mni152_head(rng, 2, shape=(80, 96, 12), spacing=(2.4, 2.4, 8.0), brain_extracted_fraction=stripped)


def test_by_hand() -> None:
    # TE = 0: 1 - exp(-TR / T1) is 80 % of that of 1052 ms, 0.28979: 0.23183; T1 = -360 / ln(1 - 0.23183) = 1365.0 ms
    t1 = estimate_t1(box(80.0), ONE_MM, SpinEcho(360.0, 0.0))
    assert float(t1[18, 18, 6]) == pytest.approx(1365.0, abs=5.0)
    assert float(t1[8, 8, 6]) == pytest.approx(BRAIN_T1_MS, abs=5.0)
    assert t1.dtype == np.float32


def test_stays_in_the_range() -> None:
    for inside, expected in ((10.0, 3000.0), (190.0, 700.0)):
        t1 = estimate_t1(box(inside), ONE_MM, t1_range_ms=(700.0, 3000.0))
        assert float(t1[18, 18, 6]) == pytest.approx(expected, rel=1e-4)
    assert float(t1[0, 0, 0]) == pytest.approx(3000.0, rel=1e-4)  # air


def test_neither_gain_nor_coil_sensitivity_count() -> None:
    maps = head("skull-stripped")
    options = AcquisitionOptions(bias_field=0.0, texture=0.0, blur_voxels=0.0, noise_level=0.0)
    pre = acquire(maps, np.random.default_rng(0), signal_model=GRADIENT_ECHO, options=options)["pre"].astype(float)
    plain = estimate_t1(pre, np.array(maps.spacing), GRADIENT_ECHO)
    np.testing.assert_allclose(estimate_t1(0.01 * pre, np.array(maps.spacing), GRADIENT_ECHO), plain, rtol=1e-3)
    x = np.linspace(-1.0, 1.0, pre.shape[0])[:, None, None]
    shaded = estimate_t1(pre * np.exp(0.15 * x), np.array(maps.spacing), GRADIENT_ECHO)
    brain = maps.proton_density > 0.5
    # left as it is, a field of +-15 % would move T1 by up to 20 %
    assert float(np.median(np.abs(np.log(shaded / plain))[brain])) < 0.04


def test_without_a_head_everything_is_the_reference() -> None:
    np.testing.assert_array_equal(estimate_t1(np.zeros((8, 8, 8)), ONE_MM), np.float32(BRAIN_T1_MS))


@pytest.mark.parametrize("kind", ["whole head", "skull-stripped", "random labels"])
def test_the_low_dose_is_nearer_to_the_true_one_than_with_one_tissue(kind: str) -> None:
    maps = head(kind)
    still = AcquisitionOptions(motion_voxels=0.0, rotation_deg=0.0, gain=0.0, noise_level=0.0)
    for fraction in (0.1, 0.2, 0.33):
        study = acquire(
            maps,
            np.random.default_rng(0),
            signal_model=GRADIENT_ECHO,
            agent=CONVENTIONAL,
            protocol=DoseProtocol(0.1 * fraction, 0.1),
            options=still,
        )
        pre, low, high = (
            MetaTensor(torch.from_numpy(study[name])[None], affine=torch.from_numpy(maps.affine))
            for name in ("pre", "low", "high")
        )
        enhancing = (high - pre) > 0.2 * torch.quantile(pre[0][torch.from_numpy(maps.head)], 0.995)
        assert int(enhancing.sum()) > 50

        def error(low: MetaTensor, simulated: torch.Tensor, enhancing: torch.Tensor) -> float:
            return float((simulated - low)[enhancing].square().mean().sqrt())

        one = SimulateLowDose(fraction, 0.0, GRADIENT_ECHO, CONVENTIONAL)(pre, high)
        own = SimulateLowDose(
            fraction, 0.0, GRADIENT_ECHO, CONVENTIONAL, t1_ms=BRAIN_T1_MS, t1_range_ms=(600.0, 4000.0)
        )(pre, high)
        assert error(low, own, enhancing) < 0.8 * error(low, one, enhancing)


def test_t1_is_ordered_as_the_tissues_are() -> None:
    maps = head("whole head")
    study = acquire(maps, np.random.default_rng(0), signal_model=GRADIENT_ECHO)
    t1 = estimate_t1(study["pre"], np.array(maps.spacing), GRADIENT_ECHO)
    tissue = maps.proton_density > 0.5
    assert float(np.corrcoef(np.log(t1[tissue]), np.log(maps.t1_ms[tissue]))[0, 1]) > 0.8


def test_refuses_what_makes_no_sense() -> None:
    for t1_range in ((600.0, 1000.0), (1100.0, 4000.0), (0.0, 4000.0)):
        with pytest.raises(ConfigurationError, match="shortest < median < longest"):
            estimate_t1(box(), ONE_MM, t1_range_ms=t1_range)
    with pytest.raises(ConfigurationError, match="smoothing"):
        estimate_t1(box(), ONE_MM, smoothing_mm=0.0)
