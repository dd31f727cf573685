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
"""How the observed low dose comes about: what is denoised when, and where the noise enters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

from monai_lipcar.physics import add_gaussian_noise
from monai_lipcar.transforms import DenoiseSlices

from .slices import Sample

__all__ = ["COMPARED", "FREE_DENOISER", "Protocol", "default_denoiser", "noise_generator", "protocols"]

COMPARED = ("paper", "hospital")
"""The protocols of all tables and figures."""
FREE_DENOISER = "nlm"


@dataclass(frozen=True)
class Protocol:
    """Where the data y of the inverse problem, and the input of the end-to-end networks, come from.

    Args:
        name: ``"paper"``, ``"hospital"`` or ``"denoised"``.
        member: what the noise is added to: ``"denoised"`` (the paper's: the low dose after BM3D) or ``"low"``.
        before: method of the denoised member, or None.
        after: method that is applied after the noise, or None.
        cache_dir: folder of what that made; nothing is kept by default.
    """

    name: str
    member: str
    before: str | None = None
    after: str | None = None
    cache_dir: Path | None = field(default=None, repr=False, compare=False)

    def observe(self, sample: Sample, noise_level: float, seed: int) -> torch.Tensor:
        """y of one slice, (1, H, W); at every noise level the same noise, times the level."""
        data: torch.Tensor = sample[self.member]
        if noise_level > 0:
            data = add_gaussian_noise(data, noise_level, noise_generator(sample, seed))
        if self.after is None:
            return data
        denoise = DenoiseSlices(self.after, cache_dir=self.cache_dir)  # type: ignore[arg-type]
        return denoise(data).as_subclass(torch.Tensor)

    def key(self) -> dict[str, str | None]:
        """What a result depends on."""
        return {"member": self.member, "before": self.before, "after": self.after}


def protocols(
    denoiser: str, hospital_denoiser: str | None = None, cache_dir: Path | None = None
) -> dict[str, Protocol]:
    """The protocols: the two ``COMPARED`` ones, and the hospital's with the denoiser after the noise.

    Args:
        denoiser: of the paper's protocol, and of the third.
        hospital_denoiser: what a pipeline would do to its low dose; nothing by default, as the bundles.
        cache_dir: see :class:`Protocol`.
    """
    return {
        "paper": Protocol("paper", "denoised", before=denoiser),
        "hospital": Protocol("hospital", "low", after=hospital_denoiser, cache_dir=cache_dir),
        "denoised": Protocol("denoised", "low", after=denoiser, cache_dir=cache_dir),
    }


def default_denoiser() -> str:
    """``"bm3d"``, as in the paper, where it is installed (non-commercial use only); else the free ``"nlm"``."""
    return "bm3d" if find_spec("bm3d") else FREE_DENOISER


def noise_generator(sample: Sample, seed: int) -> torch.Generator:
    """Source of the noise of one slice: depends on the slice and the seed only."""
    text = f"{seed} {sample['study_id']} {sample['slice_index']}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
    return torch.Generator().manual_seed(number)
