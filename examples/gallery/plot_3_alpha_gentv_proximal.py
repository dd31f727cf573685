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
What alpha does
===============

:math:`\alpha` says how much the prior counts beside the data. Too small, and the noise of the low dose comes through,
times one over the dose fraction; too large, and small enhancement is smoothed away.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
from gallery_study import DOSE_FRACTION, Difference, sample_slice, sample_volumes, show

from monai_lipcar.metrics import enhancement_recovery, psnr
from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import GeneralizedTotalVariation, LearnedInverseProblem, ProximalSolver, discrepancy
from monai_lipcar.transforms import EstimateNoise

slice_ = sample_slice()
sigma = EstimateNoise()(sample_volumes()["low"])
problem = LearnedInverseProblem(
    SignalEquationOperator(DOSE_FRACTION), slice_.low, GeneralizedTotalVariation(slice_.pre), alpha=0.0, pre=slice_.pre
)
alphas = [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3]
images, quality, recovery, residual = [], [], [], []
for alpha in alphas:
    image = ProximalSolver().solve(problem.at_alpha(alpha), slice_.low).image
    images.append(image)
    quality.append(psnr(image[0], slice_.high[0], slice_.head[0]))
    recovery.append(enhancement_recovery(image, slice_.pre, slice_.high, slice_.lesion))
    residual.append(discrepancy(problem, image, slice_.head))

show(
    [
        {
            f"alpha {alpha:g}\n{slice_.score(image)}": image
            for alpha, image in zip(alphas[::2], images[::2], strict=True)
        },
        {
            f"error, {alpha:g}": Difference(image - slice_.high)
            for alpha, image in zip(alphas[::2], images[::2], strict=True)
        },
    ]
)

# %%
# How to choose it
# ----------------
#
# Without the truth, the noise level of the low dose is what there is to go by, which is estimated from the images
# themselves: the residual of the right image is noise. On this slice it reaches the noise level at an alpha that is
# near the best one. Calibrated bundles take alpha in proportion to the noise level (``--alpha auto``), see
# :doc:`/priors`.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
curves = {"PSNR in the head (dB)": quality, "enhancement recovery, lesions": recovery, "residual": residual}
for place, (label, values) in zip(axes, curves.items(), strict=True):
    place.semilogx(alphas, values, marker="o")
    place.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas], rotation=45)
    place.minorticks_off()
    place.set(xlabel="alpha", ylabel=label)
axes[1].axhline(1.0, color="0.5", linestyle=":")
axes[2].axhline(sigma, color="0.5", linestyle=":", label="noise level, estimated")
axes[2].legend()
figure.tight_layout()
