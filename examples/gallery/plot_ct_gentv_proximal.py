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
Iodine in computed tomography
=============================

The frame is not bound to MR. In CT, attenuation is linear in the iodine concentration,

.. math:: \mathrm{HU} = \mathrm{HU}_0 + k\, C,

so at a fraction :math:`f` of the dose the forward operator is exactly :math:`x_P + f (x - x_P)`:
:class:`~monai_lipcar.physics.LinearDoseOperator`, for which nothing is trained. This example simulates an abdomen at a
third of the iodine and inverts that, with nothing but what the package offers.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch
from gallery_study import Difference, show

from monai_lipcar.inferers import LIPInferer
from monai_lipcar.metrics import enhancement_recovery
from monai_lipcar.physics import IodineCT, LinearDoseOperator, add_gaussian_noise, linear_extrapolation
from monai_lipcar.problem import ProximalSolver
from monai_lipcar.transforms import ScaleIntensityByReferenced

# %%
# A phantom
# ---------
#
# An abdomen of ellipses, drawn one over the other: HU without iodine, and iodine in mg/mL at the full dose. The vessels
# and the kidneys take up most; one lesion of the liver takes up more than the liver, one less.

SHAPES = {  # center and radii in fractions of the image, HU, iodine
    "fat": ((0.50, 0.50), (0.44, 0.34), -90.0, 0.0),
    "muscle": ((0.50, 0.50), (0.40, 0.30), 50.0, 0.4),
    "inside": ((0.50, 0.52), (0.36, 0.25), -80.0, 0.0),
    "liver": ((0.34, 0.56), (0.18, 0.17), 55.0, 2.0),
    "spleen": ((0.76, 0.48), (0.07, 0.11), 50.0, 3.0),
    "right kidney": ((0.36, 0.34), (0.05, 0.06), 32.0, 6.0),
    "left kidney": ((0.64, 0.34), (0.05, 0.06), 32.0, 6.0),
    "spine": ((0.50, 0.32), (0.06, 0.05), 250.0, 0.2),
    "aorta": ((0.52, 0.42), (0.025, 0.025), 40.0, 11.0),
    "vena cava": ((0.45, 0.43), (0.03, 0.022), 40.0, 7.0),
    "bowel": ((0.60, 0.62), (0.08, 0.06), 35.0, 1.0),
    "lesion that enhances": ((0.29, 0.60), (0.022, 0.022), 45.0, 4.5),
    "lesion that does not": ((0.40, 0.64), (0.03, 0.026), 30.0, 0.3),
}


def abdomen(size: int = 192) -> tuple[torch.Tensor, torch.Tensor]:
    """HU without iodine, and iodine in mg/mL at the full dose, (1, size, size, 1)."""
    x, y = np.meshgrid(*[np.linspace(0.0, 1.0, size)] * 2, indexing="ij")
    native, iodine = np.full((size, size), -1000.0), np.zeros((size, size))
    for center, radii, attenuation, concentration in SHAPES.values():
        inside = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 < 1
        native[inside], iodine[inside] = attenuation, concentration
    return torch.from_numpy(native).float()[None, ..., None], torch.from_numpy(iodine).float()[None, ..., None]


DOSE_FRACTION, NOISE_HU = 1 / 3, 12.0
native, iodine = abdomen()
ct, generator = IodineCT(hu_per_mg_ml=25.0), torch.Generator().manual_seed(0)
study: dict[Hashable, torch.Tensor] = {
    name: add_gaussian_noise(ct.attenuation(native, fraction * iodine).float(), noise, generator)
    for name, fraction, noise in (
        ("pre", 0.0, NOISE_HU),
        ("low", DOSE_FRACTION, NOISE_HU),
        ("high", 1.0, 0.0),  # without noise: the truth
    )
}

# %%
# The inversion
# -------------
#
# Empty space is -1000 HU, which the scale has to know (``offset``). The guess of the prior is the image before
# contrast: the enhancement is what has few edges.

scaled = ScaleIntensityByReferenced(["pre", "low", "high"], offset=-1000.0)(study)
pre, low, high = (scaled[name][None].as_tensor() for name in ("pre", "low", "high"))
inputs = torch.cat([pre, low], dim=1)
operator = LinearDoseOperator(DOSE_FRACTION)
inferer = LIPInferer(alpha=1.5e-3, guess="pre", solver=ProximalSolver(), slice_axis=2, progress=False)
result = inferer(inputs, operator)
extrapolated = linear_extrapolation(pre, low, DOSE_FRACTION)

# %%
# In HU again
# -----------
#
# Soft tissue from -160 to 240 HU. Linear extrapolation multiplies the noise of the low dose by three; most of what is
# left in the inversion is the noise of the image before contrast, which its guess brings along.


def window(image: torch.Tensor) -> torch.Tensor:
    """HU above -160, in thousands, of the slice."""
    return ((image[..., 0] * scaled["scale"] - 1000.0 + 160.0) / 1000.0).clamp_min(0.0)


def enhancement(image: torch.Tensor) -> torch.Tensor:
    """Difference to the image before contrast in thousands of HU."""
    return (image - pre)[..., 0] * scaled["scale"] / 1000.0


images = {"a third of the iodine": low, "linear extrapolation": extrapolated, "inversion": result, "truth": high}
show(
    [
        {"before contrast": window(pre)} | {name: window(image) for name, image in images.items()},
        {
            f"enhancement:\n{name}": Difference(enhancement(image), 0.15)
            for name, image in images.items()
            if name != "truth"
        }
        | {"enhancement:\ntruth": Difference(ct.hu_per_mg_ml * iodine[None, ..., 0] / 1000.0, 0.15)},
    ],
    top=0.4,
)

# %%
# Noise and what is recovered, in the liver and in its lesion that enhances:

for name in ("liver", "lesion that enhances"):
    attenuation, concentration = SHAPES[name][2:]
    region = ((native == attenuation) & (iodine == concentration))[None]
    for label, image in images.items():
        values = image[region] * scaled["scale"] - 1000.0
        recovered = enhancement_recovery(image, pre, high, region)
        print(f"{name}, {label}: {values.mean():.1f} +- {values.std():.1f} HU, recovery {recovered:.2f}")
