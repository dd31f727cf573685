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
Why a regularized inversion
===========================

The full dose can be extrapolated from the low one: multiply the enhancement by one over the dose fraction. That
multiplies the noise as well. The inversion asks for an image that explains the low dose and is plausible, and does not.
"""

from __future__ import annotations

from gallery_study import DOSE_FRACTION, Difference, sample_slice, show

from monai_lipcar.physics import SignalEquationOperator, linear_extrapolation
from monai_lipcar.problem import GeneralizedTotalVariation, LearnedInverseProblem, ProximalSolver, TotalVariation

slice_ = sample_slice()
operator = SignalEquationOperator(DOSE_FRACTION)
images = {"linear extrapolation": linear_extrapolation(slice_.pre, slice_.low, DOSE_FRACTION)}

# %%
# Two priors. The total variation asks for an image with few edges; the generalized one, around the image before
# contrast, for an enhancement with few edges: the anatomy then costs nothing.

for name, prior in {
    "total variation": TotalVariation(),
    "total variation of the enhancement": GeneralizedTotalVariation(guess=slice_.pre),
}.items():
    problem = LearnedInverseProblem(operator, slice_.low, prior, alpha=1e-3, pre=slice_.pre)
    solution = ProximalSolver().solve(problem, initial=slice_.low)
    images[name] = solution.image
    print(f"{name}: {solution.status[0]} after {solution.iterations[0]} steps")

show(
    [
        {f"low dose\n{slice_.score(slice_.low)}": slice_.low}
        | {f"{name}\n{slice_.score(image)}": image for name, image in images.items()},
        {"acquired full dose": slice_.high}
        | {f"error,\n{name}": Difference(image - slice_.high) for name, image in images.items()},
    ]
)
