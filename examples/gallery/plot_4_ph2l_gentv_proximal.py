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
The learned operator, and its guess
===================================

The operators that ship were trained on simulated heads: PH2L from full to low dose, which is inverted here, and PL2H
from low to full dose, end to end. The end-to-end image is an answer by itself, and can be the guess of the generalized
total variation, as the paper has it; so can the image before contrast.
"""

from __future__ import annotations

from pathlib import Path

import torch
from gallery_study import DOSE_FRACTION, Difference, sample_slice, show

import monai_lipcar.bundle
from monai_lipcar.networks import DoseOperator, Skeleton, load_weights, prepare_for_inversion
from monai_lipcar.problem import GeneralizedTotalVariation, LearnedInverseProblem, ProximalSolver, TotalVariation

# %%
# The networks, with the weights of the bundles:


def network(name: str, skeleton: Skeleton) -> torch.nn.Module:
    """One of the operators that ship."""
    weights = Path(monai_lipcar.bundle.bundle_root(name)) / "models" / "model.pt"
    operator = DoseOperator(in_channels=2, skeleton=skeleton, dose_fraction=DOSE_FRACTION)
    return prepare_for_inversion(load_weights(operator, weights, operator=name))


slice_ = sample_slice()
ph2l, pl2h = network("ph2l", "kept"), network("pl2h", "signal_extrapolation")
with torch.no_grad():
    end_to_end = pl2h(torch.cat([slice_.pre, slice_.low], dim=1))

# %%
# The same data, three guesses:

images = {"end to end": end_to_end}
for name, prior in {
    "no guess": TotalVariation(),
    "guess: end to end": GeneralizedTotalVariation(end_to_end),
    "guess: before contrast": GeneralizedTotalVariation(slice_.pre),
}.items():
    problem = LearnedInverseProblem(ph2l, slice_.low, prior, alpha=1e-3, pre=slice_.pre)
    solution = ProximalSolver().solve(problem, initial=slice_.low)
    images[name] = solution.image
    print(f"{name}: {solution.status[0]}, {solution.network_evaluations} evaluations of the network")

show(
    [
        {f"low dose\n{slice_.score(slice_.low)}": slice_.low}
        | {f"{name}\n{slice_.score(image)}": image for name, image in images.items()},
        {"acquired full dose": slice_.high}
        | {f"error, {name}": Difference(image - slice_.high) for name, image in images.items()},
    ]
)
