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
"""Draw the figure of the phantom page: a study of each anatomy, as ``python -m monai_lipcar phantom`` writes it.

python tools/draw_phantom.py docs/images/phantom.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from monai_lipcar.data.phantom import simulate_study

STUDIES = {"rat": 7, "mni152": 5, "random": 8}
PANELS = ("pre", "low", "high", "enhancement")
TITLES = ("pre", "low dose", "full dose", "enhancement (full dose - pre)")


def main() -> None:
    """Run it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--seed", type=int, default=2024)
    arguments = parser.parse_args()

    figure, axes = pyplot.subplots(len(STUDIES), len(PANELS), figsize=(8.8, 7.0), squeeze=False)
    for row, (anatomy, number) in zip(axes, STUDIES.items(), strict=True):
        maps, volumes = simulate_study(anatomy, number, seed=arguments.seed, tumor_free_fraction=0.0)
        index = int(np.argmax(maps.lesion.sum(axis=(0, 1))))
        slices = {name: np.rot90(volume[..., index]) for name, volume in volumes.items()}
        slices["enhancement"] = slices["high"] - slices["pre"]
        window = float(np.percentile(slices["high"], 99.5))
        for axis, name in zip(row, PANELS, strict=True):
            axis.imshow(slices[name], cmap="gray", vmin=0.0, vmax=0.6 * window if name == "enhancement" else window)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(anatomy)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(arguments.figure, dpi=100)


if __name__ == "__main__":
    main()
