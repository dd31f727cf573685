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
"""Which guess the generalized total variation takes, by the noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_lipcar.problem import GuessRule


def test_less_of_the_end_to_end_image_the_more_noise_in_the_low_dose() -> None:
    rule = GuessRule(error=0.01)
    assert rule.end_to_end(0.0, 0.0) == 1.0
    assert rule.end_to_end(0.01, 0.0) == pytest.approx(0.5)
    assert rule.end_to_end(0.03, 0.0) == pytest.approx(0.1)


def test_more_of_it_the_more_noise_in_the_pre_dose_image() -> None:
    rule = GuessRule(error=0.01)
    assert rule.end_to_end(0.03, 0.03) == pytest.approx(10 / 19)
    assert rule.end_to_end(0.03, 0.3) > 0.99


def test_twice_the_gain_is_twice_the_noise() -> None:
    assert GuessRule(0.01, gain=2.0).end_to_end(0.02, 0.03) == pytest.approx(GuessRule(0.01).end_to_end(0.04, 0.03))


@given(error=st.floats(0.001, 0.1), sigma=st.floats(0.001, 0.2), pre=st.floats(0.0, 0.2), other=st.floats(0.0, 1.0))
def test_it_is_the_mean_of_least_variance(error: float, sigma: float, pre: float, other: float) -> None:
    def variance(weight: float) -> float:
        return weight**2 * sigma**2 + (1 - weight) ** 2 * (error**2 + pre**2)

    assert variance(GuessRule(error).end_to_end(sigma, pre)) <= variance(other) * (1 + 1e-9)


@pytest.mark.parametrize("error", [0.0, -0.1, math.nan, math.inf, True, "0.1"])
def test_an_error_that_cannot_be_meant(error: Any) -> None:
    with pytest.raises(ValueError, match=f"error: expected a positive number, got {error!r}"):
        GuessRule(error)
