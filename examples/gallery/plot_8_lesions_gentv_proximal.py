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
Lesions: recovered, missed, invented
====================================

Averages over the head say little about what a reader looks for. With a mask of the lesions, results are judged in them:
is the enhancement there, by how much, and does anything enhance that should not?
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from gallery_study import DOSE_FRACTION, sample_volumes

from monai_lipcar.inferers import LIPInferer
from monai_lipcar.metrics import study_metrics
from monai_lipcar.physics import SignalEquationOperator, linear_extrapolation
from monai_lipcar.problem import ProximalSolver
from monai_lipcar.transforms import head_mask

# %%
# The five slices of the sample study, inverted by :class:`~monai_lipcar.inferers.LIPInferer` with two alphas. Metrics
# take slices first, (S, H, W).

volumes = sample_volumes()
pre, low, high = (volumes[key].as_tensor() for key in ("pre", "low", "high"))
operator, inputs = SignalEquationOperator(DOSE_FRACTION), torch.cat([pre, low])[None]
images = {"low dose": low, "linear extrapolation": linear_extrapolation(pre, low, DOSE_FRACTION)}
for alpha in (1e-3, 5e-3):
    inferer = LIPInferer(
        alpha=alpha, guess="pre", solver=ProximalSolver(max_iterations=10), slice_axis=2, progress=False
    )
    images[f"inversion, alpha {alpha:g}"] = inferer(inputs, operator)[0]


def slices(volume: torch.Tensor) -> torch.Tensor:
    """(1, X, Y, Z) as (Z, X, Y)."""
    return volume[0].movedim(-1, 0)


scores = study_metrics(
    {name: slices(image) for name, image in images.items()},
    target=slices(high),
    head=slices(torch.from_numpy(head_mask(low.numpy()[0]))[None]),
    pre=slices(pre),
    lesion=slices(volumes["lesion"].as_tensor() > 0),
    spacing=(6.0, 1.2, 1.2),
)

# %%
# What a reader would ask, for each image: the share of the lesions' enhancement (1 is right), the contrast-to-noise
# ratio of the lesions (that of the acquired full dose is the line), the lesions that cannot be seen any more, and the
# largest thing that enhances where nothing should; here, nothing does.

questions = {
    "enhancement_recovery_lesion": "enhancement recovery",
    "cnr_lesion": "contrast to noise",
    "missed_lesions": "share of lesions missed",
    "false_enhancement_mm": "largest false enhancement (mm)",
}
figure, axes = plt.subplots(1, len(questions), figsize=(11, 2.6), sharey=True)
for place, (key, label) in zip(axes, questions.items(), strict=True):
    bars = place.barh(list(images), [scores[name][key] for name in images], color="0.6")
    place.bar_label(bars, fmt="%.2g", padding=3, fontsize=8)
    place.margins(x=0.25)
    place.set_title(label, fontsize=9)
axes[0].invert_yaxis()
axes[3].set_xlim(0.0, 10.0)
axes[0].axvline(1.0, color="C3")
axes[1].axvline(scores["high"]["cnr_lesion"], color="C3")
figure.tight_layout()

for name in images:
    print(name, {key: round(scores[name][key], 3) for key in questions})
