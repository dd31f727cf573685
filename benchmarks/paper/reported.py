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
"""The paper's numbers: only those that could be looked up; every other cell stays empty."""

from __future__ import annotations

__all__ = ["SOURCE", "TABLE_1", "reported"]

SOURCE = "LIP-CAR, arXiv 2407.10559: its own pre-clinical images (61 rats), which are not public"

TABLE_1: dict[tuple[str, str, str], float] = {
    ("ph2l", "denoised", "psnr"): 39.05,
    ("ph2l", "denoised", "ssim"): 0.952,
    ("pl2h", "denoised", "psnr"): 29.34,
    ("pl2h", "denoised", "ssim"): 0.866,
    ("pl2h", "low", "psnr"): 28.89,
    ("pl2h", "low", "ssim"): 0.868,
    ("h2l", "denoised", "psnr"): 30.50,
    ("h2l", "denoised", "ssim"): 0.854,
    ("h2l", "low", "psnr"): 31.92,
    ("h2l", "low", "ssim"): 0.851,
    ("l2h", "denoised", "psnr"): 28.79,
    ("l2h", "denoised", "ssim"): 0.859,
    ("l2h", "low", "psnr"): 28.14,
    ("l2h", "low", "ssim"): 0.855,
}
"""(Operator, low dose, metric over the whole image) to the mean over the paper's 240 test images."""


def reported(table: str, row: str, column: str, metric: str, anatomy: str) -> float | None:
    """The paper's number for a cell, None where there is none or it is not known."""
    if table != "table 1" or anatomy != "rat":
        return None
    return TABLE_1.get((row, column, metric))
