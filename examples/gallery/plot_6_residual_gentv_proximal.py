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
r"""
Residual and certificate
========================

Two questions to a result. *Does it explain the data?* The residual :math:`\Psi(x) - y` is what it does not explain:
noise, where all is well. *Is it what was asked for?* The certificate says how much of the objective is left to gain.
"""

from __future__ import annotations

from gallery_study import DOSE_FRACTION, Difference, sample_slice, sample_volumes, show

from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import GeneralizedTotalVariation, LearnedInverseProblem, ProximalSolver
from monai_lipcar.transforms import EstimateNoise

slice_ = sample_slice()
sigma = EstimateNoise()(sample_volumes()["low"])

# %%
# The residual
# ------------
#
# With an alpha that is far too large, enhancement is flattened, and its residual shows where: the lesions stand out of
# the noise. Both are shown over the noise level, from -4 to 4.

images, residuals = {}, {}
for alpha in (1e-3, 8e-3):
    prior = GeneralizedTotalVariation(slice_.pre)
    problem = LearnedInverseProblem(SignalEquationOperator(DOSE_FRACTION), slice_.low, prior, alpha, pre=slice_.pre)
    solution = ProximalSolver().solve(problem, slice_.low)
    images[f"alpha {alpha:g}\n{slice_.score(solution.image)}"] = solution.image
    residuals[f"residual over noise,\nalpha {alpha:g}"] = Difference(problem.residual(solution.image) / sigma, 4.0)
show([{**images, **residuals}])

# %%
# The certificate
# ---------------
#
# The same problem, stopped early and solved: ``relative_model_decrease`` is the share of the objective that is still to
# be gained, by the convex model at the result; the solver stops at 0.1 %.

problem = problem.at_alpha(1e-3)
for steps in (1, 2, 30):
    solution = ProximalSolver(max_iterations=steps).solve(problem, slice_.low)
    left = float(solution.certificate["relative_model_decrease"][0])
    score = slice_.score(solution.image)
    print(f"at most {steps} steps: {solution.status[0]}, {left:.1e} of the objective left, {score}")
