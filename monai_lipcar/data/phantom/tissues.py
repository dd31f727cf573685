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
"""Tissue properties of the human head at 3 T.

Relaxation times: Stanisz et al., Magn Reson Med 54:507 (2005): blood, muscle, cartilage-like skin; Wansapura et al., J
Magn Reson Imaging 9:531 (1999): gray and white matter; Gold et al., AJR 183:343 (2004): fat and yellow marrow; Lin et
al., J Comput Assist Tomogr 25:62 (2001): cerebrospinal fluid. Proton densities relative to water: Tofts, Quantitative
MRI of the Brain (2003), chapter 4, rounded. Cortical bone and air give no signal at clinical echo times.

Uptake is the concentration in tissue minutes after 0.05 mmol/kg. A small molecule that stays outside the cells spreads
over about 0.15 L/kg of extracellular water, that is 0.3 mmol/L in plasma at first; tissue has its extracellular share
of it, normal brain only its blood volume (2-4 %) because of the blood-brain barrier.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HUMAN_TISSUES", "Tissue"]


@dataclass(frozen=True)
class Tissue:
    """Properties of one tissue.

    Args:
        name: for people.
        proton_density: relative to water, 0 to 1.
        t1_ms: longitudinal relaxation time in ms.
        t2_ms: transverse relaxation time in ms.
        uptake_mm: concentration of the agent at the full dose, mmol/L of tissue.

    Example:
        >>> HUMAN_TISSUES["white_matter"].t1_ms
        832.0
    """

    name: str
    proton_density: float
    t1_ms: float
    t2_ms: float
    uptake_mm: float


HUMAN_TISSUES: dict[str, Tissue] = {
    tissue.name: tissue
    for tissue in (
        Tissue("air", 0.0, 1000.0, 50.0, 0.0),
        Tissue("bone", 0.05, 1000.0, 10.0, 0.0),
        Tissue("marrow", 0.55, 420.0, 100.0, 0.008),
        Tissue("fat", 0.75, 371.0, 133.0, 0.004),
        Tissue("skin", 0.55, 900.0, 35.0, 0.05),
        Tissue("muscle", 0.80, 1412.0, 50.0, 0.022),
        Tissue("mucosa", 0.85, 1400.0, 80.0, 0.10),
        Tissue("dura", 0.50, 1100.0, 40.0, 0.06),
        Tissue("cerebrospinal_fluid", 1.0, 4163.0, 1500.0, 0.001),
        Tissue("gray_matter", 0.82, 1331.0, 110.0, 0.004),
        Tissue("white_matter", 0.70, 832.0, 80.0, 0.002),
        Tissue("venous_blood", 0.80, 1932.0, 150.0, 0.16),
        Tissue("choroid_plexus", 0.88, 1800.0, 150.0, 0.11),
        Tissue("gland", 0.85, 1500.0, 90.0, 0.12),
        Tissue("vitreous", 1.0, 4000.0, 1200.0, 0.0),
        Tissue("lens", 0.70, 1200.0, 30.0, 0.0),
        Tissue("tumor", 0.85, 1500.0, 130.0, 0.09),
        Tissue("necrosis", 0.95, 2600.0, 400.0, 0.001),
        Tissue("edema", 0.85, 1450.0, 150.0, 0.003),
    )
}
"""Tissues of the human head by their names, at 3 T; sources in the text of the module."""
