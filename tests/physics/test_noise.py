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
"""Noise against the moments of its distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import add_gaussian_noise, add_rician_noise, rician_mean

Noise = Callable[[Tensor, float, torch.Generator], Tensor]
BOTH = pytest.mark.parametrize("noise", [add_gaussian_noise, add_rician_noise])
COUNT = 200_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_moments() -> None:
    noisy = add_gaussian_noise(torch.full((COUNT,), 0.5), 0.1, seeded())
    # standard error of the mean 0.1 / sqrt(200000) = 0.00022, of the deviation 0.00016: 5 of them allowed
    assert float(noisy.mean()) == pytest.approx(0.5, abs=1.1e-3)
    assert float(noisy.std()) == pytest.approx(0.1, abs=0.8e-3)


def test_rician_noise_in_air_is_rayleigh() -> None:
    air = add_rician_noise(torch.zeros(COUNT), 0.1, seeded())
    # Rayleigh: mean 0.1 sqrt(pi / 2) = 0.12533, deviation 0.1 sqrt(2 - pi / 2) = 0.06551
    assert float(air.mean()) == pytest.approx(0.1 * math.sqrt(math.pi / 2), abs=1e-3)
    assert float(air.std()) == pytest.approx(0.1 * math.sqrt(2 - math.pi / 2), abs=1e-3)
    assert float(air.min()) >= 0


def test_rician_second_moment_is_exact_at_any_signal() -> None:
    # E[x^2] = A^2 + 2 sigma^2 = 0.04 + 0.02 = 0.06 for A = 0.2, sigma = 0.1; a Gaussian of that level gives 0.05
    noisy = add_rician_noise(torch.full((COUNT,), 0.2), 0.1, seeded())
    assert float((noisy**2).mean()) == pytest.approx(0.06, abs=6e-4)


def test_rician_noise_far_above_the_noise_is_gaussian() -> None:
    noisy = add_rician_noise(torch.ones(COUNT), 0.01, seeded())
    # mean A + sigma^2 / (2 A) = 1.00005
    assert float(noisy.mean()) == pytest.approx(1.00005, abs=1.1e-4)
    assert float(noisy.std()) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.1, 0.2, 0.5, 2.0])
def test_rician_mean_against_draws(signal: float) -> None:
    draws = add_rician_noise(torch.full((COUNT,), signal, dtype=torch.float64), 0.1, seeded())
    # standard error at most 0.1 / sqrt(200000) = 0.00022: 5 of them allowed
    assert float(rician_mean(torch.tensor(signal, dtype=torch.float64), 0.1)) == pytest.approx(
        float(draws.mean()), abs=1.1e-3
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rician_mean_from_air_to_bright_tissue(dtype: torch.dtype) -> None:
    from scipy.stats import rice

    signal = torch.cat([torch.zeros(1), torch.logspace(-4, 1, 200)]).to(dtype)
    tolerance = 1e-6 if dtype is torch.float32 else 1e-9
    mean = rician_mean(signal, 0.3)
    assert mean.dtype == dtype
    assert mean.numpy() == pytest.approx(rice.mean(signal.double().numpy() / 0.3, scale=0.3), rel=tolerance)
    assert float(mean[0]) == pytest.approx(0.3 * math.sqrt(math.pi / 2), rel=tolerance)
    assert (mean.diff() >= -tolerance).all()


@pytest.mark.parametrize("level", [1e-30, 1e-8, 1e-3, 0.999e-3, 1.001e-3, 0.01])
def test_rician_mean_far_above_the_noise(level: float) -> None:
    mean = float(rician_mean(torch.ones((), dtype=torch.float64), level))
    # the next term of the series is sigma^4 / (8 A^3)
    assert mean == pytest.approx(1 + level**2 / 2, rel=level**4 / 8 + 1e-12)


def test_rician_mean_without_noise_is_the_signal() -> None:
    signal = torch.rand(5, generator=seeded())
    assert torch.equal(rician_mean(signal, 0.0), signal)
    with pytest.raises(ConfigurationError, match="expected a noise level >= 0, got -1"):
        rician_mean(signal, -1.0)


@BOTH
def test_the_generator_alone_decides(noise: Noise) -> None:
    image = torch.rand(8, 8, generator=seeded(5))
    before = image.clone()
    assert torch.equal(noise(image, 0.1, seeded(1)), noise(image, 0.1, seeded(1)))
    assert not torch.equal(noise(image, 0.1, seeded(1)), noise(image, 0.1, seeded(2)))
    assert torch.equal(image, before)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_noise_is_the_identity(noise: Noise, dtype: torch.dtype) -> None:
    image = torch.rand(8, 8, generator=seeded(5), dtype=dtype)
    result = noise(image, 0.0, seeded())
    assert result.dtype == dtype
    assert torch.equal(result, image)


@BOTH
@pytest.mark.parametrize("level", [-0.1, float("nan")])
def test_negative_level_is_refused(noise: Noise, level: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a noise level >= 0, got"):
        noise(torch.ones(2), level, seeded())
