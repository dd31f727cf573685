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
From dose to signal
===================

What a reduced dose leaves of the enhancement is known physics. The signal of a T1-weighted sequence grows with the
concentration :math:`C` of the agent, and flattens,

.. math:: x_L = x_P + g\,(x_H - x_P), \qquad g = \frac{S(fC) - S(0)}{S(C) - S(0)} \ge f,

so a fifth of the dose leaves a fifth of a weak enhancement, and more of a strong one.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from gallery_study import Difference, sample_slice, show

from monai_lipcar.physics import (
    HIGH_RELAXIVITY,
    DoseResponse,
    SignalEquationOperator,
    SignalModel,
    SpinEcho,
    SpoiledGradientEcho,
)

# %%
# The signal, and what a dose fraction leaves
# -------------------------------------------
#
# The signal of the spin echo has a peak, near which the concentration can hardly be told from it: the right curve is
# followed to 95 % of the way there, and stays level from then on.

sequences: dict[str, SignalModel] = {
    "spin echo, the paper's": SpinEcho(),
    "spoiled gradient echo": SpoiledGradientEcho(repetition_time_ms=8.0, echo_time_ms=3.0, flip_angle_deg=15.0),
}
concentration = torch.linspace(0.0, 2.0, 200, dtype=torch.float64)
ratio = torch.linspace(1.0, 4.0, 200)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
for name, sequence in sequences.items():
    signal = sequence.signal(1.0, 1331.0, 110.0, concentration, HIGH_RELAXIVITY)
    left.plot(concentration, signal / signal[0], label=name)
    right.plot(ratio, DoseResponse(sequence, dose_fraction=0.2)(ratio), label=name)
right.axhline(0.2, color="0.5", linestyle=":", label="linear dose model")
left.set(xlabel="agent in tissue (mM)", ylabel="signal over that without agent", title="gray matter")
right.set(xlabel="full dose over before contrast", ylabel="share of the enhancement left", title="a fifth of the dose")
left.legend()
right.legend()
figure.tight_layout()

# %%
# Lower and lower doses
# ---------------------
#
# :class:`~monai_lipcar.physics.SignalEquationOperator` does this to an image. It is the forward operator of the bundle
# ``physics_tv``, and what the learned operators correct.

slice_ = sample_slice()
inputs = torch.cat([slice_.pre, slice_.high], dim=1)
doses = {f"dose fraction {fraction:g}": SignalEquationOperator(fraction)(inputs) for fraction in (0.5, 0.2, 0.1)}
show(
    [
        {"full dose": slice_.high} | doses,
        {"enhancement at full dose": Difference(slice_.high - slice_.pre, 0.25)}
        | {f"enhancement at {name}": Difference(image - slice_.pre, 0.25) for name, image in doses.items()},
    ]
)
