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
"""
Noise, and the adaptive guess
=============================

More noise than the training has seen: the end-to-end network turns it into structure, and what the guess holds costs
nothing. The image before contrast is a guess without the noise of the low dose, but lacks the enhancement. The adaptive
prior takes a mean of both, with weights from the noise that it finds in the images
(:class:`~monai_lipcar.problem.GuessRule`), and alpha from that noise as well
(:class:`~monai_lipcar.problem.AlphaRule`).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from gallery_study import DOSE_FRACTION, sample_slice, sample_volumes, show

import monai_lipcar.bundle
from monai_lipcar.networks import DoseOperator, Skeleton, load_weights, prepare_for_inversion
from monai_lipcar.physics import add_gaussian_noise
from monai_lipcar.problem import AlphaRule, GeneralizedTotalVariation, GuessRule, LearnedInverseProblem, ProximalSolver
from monai_lipcar.transforms import EstimateNoise


def network(name: str, skeleton: Skeleton) -> torch.nn.Module:
    """One of the operators that ship."""
    weights = Path(monai_lipcar.bundle.bundle_root(name)) / "models" / "model.pt"
    operator = DoseOperator(in_channels=2, skeleton=skeleton, dose_fraction=DOSE_FRACTION)
    return prepare_for_inversion(load_weights(operator, weights, operator=name))


# %%
# The rule of the bundle ``ph2l_gentv``, as it was measured for these networks:

root = Path(monai_lipcar.bundle.bundle_root("ph2l_gentv"))
measured = json.loads((root / "configs" / "metadata.json").read_text())["adaptive_prior"]
rule, alpha_rule = GuessRule(**measured["guess_rule"]), AlphaRule(**measured["alpha_rule"])
print(rule, alpha_rule, sep="\n")

# %%
# The sample study as it is, and with noise on the low dose. ``ph2l`` is inverted, ``pl2h`` is the end-to-end network.
# All three results of a row have the same alpha.

slice_, volumes = sample_slice(), sample_volumes()
ph2l, pl2h = network("ph2l", "kept"), network("pl2h", "signal_extrapolation")
sigma_pre, sigma_low = EstimateNoise()(volumes["pre"]), EstimateNoise()(volumes["low"])
rows = []
for added in (0.0, 0.022):
    low, sigma = slice_.low, (sigma_low**2 + added**2) ** 0.5
    if added:
        low = add_gaussian_noise(low, added, torch.Generator().manual_seed(0))
    with torch.no_grad():
        direct = pl2h(torch.cat([slice_.pre, low], dim=1))
    weight = rule.end_to_end(sigma, sigma_pre)
    guesses = {
        "end to end": direct,
        "before contrast": slice_.pre,
        f"{weight:.2f} of end to end": weight * direct + (1 - weight) * slice_.pre,
    }
    row = {f"low dose, noise {sigma:.3f}\n{slice_.score(low)}": low}
    for name, guess in guesses.items():
        alpha = alpha_rule.alpha((sigma**2 + sigma_pre**2) ** 0.5)
        assert alpha is not None  # only a rule without a ratio leaves it open
        problem = LearnedInverseProblem(ph2l, low, GeneralizedTotalVariation(guess), alpha, pre=slice_.pre)
        image = ProximalSolver(max_iterations=10).solve(problem, low).image
        row[f"guess: {name}\n{slice_.score(image)}"] = image
    rows.append(row)

show(rows)

# %%
# What the rule gains and costs, on more studies and at more noise levels, is in :doc:`/priors`.
