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
"""Which guess the generalized total variation takes, by the noise: a mean of the end-to-end and the pre-dose image."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["GuessRule"]


@dataclass(frozen=True)
class GuessRule:
    r"""How much the end-to-end image counts in the guess, by the noise of the low dose and of the pre-dose image.

    The guess is a mean of two images,

    .. math:: \bar x_H = w \, \Lambda(x_P, y) + (1 - w) \, x_P,
        \qquad w = \frac{e^2 + \sigma_P^2}{e^2 + \sigma_P^2 + g^2 \sigma^2}.

    As a guess the pre-dose image is wrong by its noise :math:`\sigma_P` and by e, where enhancement that it lacks has
    edges; the end-to-end image :math:`\Lambda(x_P, y)` by g times the noise :math:`\sigma` of the low dose. The mean
    with these weights has the least variance.

    Args:
        error: e, on the [0, 1] scale.
        gain: g; in inverse proportion to the dose fraction.

    Raises:
        ValueError: a number that is not positive.

    Example:
        >>> rule = GuessRule(error=0.02)
        >>> rule.end_to_end(sigma=0.0, sigma_pre=0.0), round(rule.end_to_end(sigma=0.04, sigma_pre=0.0), 6)
        (1.0, 0.2)
        >>> round(rule.end_to_end(sigma=0.04, sigma_pre=0.04), 6)
        0.555556
    """

    error: float
    gain: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value!r}")

    def end_to_end(self, sigma: float, sigma_pre: float) -> float:
        """Weight w of the end-to-end image at these noise levels; the pre-dose image has 1 - w."""
        pre = self.error**2 + sigma_pre**2
        return pre / (pre + (self.gain * sigma) ** 2)
