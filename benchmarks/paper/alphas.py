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
"""The weight of the prior at a noise level: the paper's logarithmic schedule, or the best on validation slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["CLEAN", "NOISIEST", "NOISIEST_LEVEL", "RULES", "SWEEP_RULES", "best_alpha", "scheduled"]

RULES = ("schedule", "validation")
SWEEP_RULES = (*RULES, "auto")
"""Of the noise sweep: there every slice gets an alpha of its own as well, as by ``--alpha auto`` of the bundles."""
CLEAN, NOISIEST, NOISIEST_LEVEL = 6e-3, 0.1, 0.099
"""The authors' code: ten values from 6e-3 to 0.1, evenly spaced in their logarithm, the fourth one at noise 0.033."""


def scheduled(clean_alpha: float, noise_level: float) -> float:
    """The paper's schedule, starting from an alpha for data without added noise.

    alpha(sigma) = alpha(0) (0.1 / 0.006)^(sigma / 0.099). With alpha(0) = 6e-3 this passes through the authors' values:
    ``logspace(log10(6e-3), log10(0.1), 10)[i]`` at sigma = 0.011 i.

    Example:
        >>> round(scheduled(6e-3, 0.033), 5)
        0.01533
    """
    return float(clean_alpha * (NOISIEST / CLEAN) ** (noise_level / NOISIEST_LEVEL))


def best_alpha(rows: Mapping[float, Mapping[str, Mapping[str, float]]], metric: str = "ssim_head") -> float:
    """The alpha with the highest mean over slices; the smaller one of equals.

    Args:
        rows: alpha to slice to metrics, every alpha with the same slices.
        metric: what counts: the headline.
    """
    means = {alpha: float(np.mean([row[metric] for row in slices.values()])) for alpha, slices in rows.items()}
    return max(sorted(means), key=means.__getitem__)
