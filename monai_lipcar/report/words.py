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
"""The words of the report: names of metrics, and what each number of a result means, in a line."""

from __future__ import annotations

__all__ = [
    "CERTIFICATES",
    "EXPLANATIONS",
    "IMAGE_NAMES",
    "LESION_SIZE_NAMES",
    "LEVELS",
    "METRIC_NAMES",
    "PLACES",
    "STATUSES",
    "metric_text",
    "plain_number",
]

METRIC_NAMES = {
    "ssim_head": "SSIM, head",
    "psnr_head": "PSNR, head (dB)",
    "relative_error_head": "relative error, head",
    "ssim_enhancing": "SSIM, enhancing tissue",
    "psnr_enhancing": "PSNR, enhancing tissue (dB)",
    "relative_error_enhancing": "relative error, enhancing tissue",
    "enhancement_recovery": "enhancement recovery",
    "enhancement_slope": "enhancement slope",
    "enhancement_bias": "enhancement bias",
    "psnr_lesion": "PSNR, lesion (dB)",
    "relative_error_lesion": "relative error, lesion",
    "enhancement_recovery_lesion": "enhancement recovery, lesion",
    "enhancement_slope_lesion": "enhancement slope, lesion",
    "enhancement_bias_lesion": "enhancement bias, lesion",
    "cnr_lesion": "contrast-to-noise, lesion",
    "lbr_lesion": "lesion-to-brain ratio",
    "cep_lesion": "contrast enhancement, lesion (%)",
    "visible_lesions": "visible lesions",
    "missed_lesions": "missed lesions (share)",
    "false_enhancement_per_cm3": "false enhancement (per cm³)",
    "false_enhancement_mm": "largest false enhancement (mm)",
    "false_enhancement_3mm": "false enhancement from 3 mm (share)",
    "ssim": "SSIM, whole image",
    "psnr": "PSNR, whole image (dB)",
}
"""Labels of the metrics, in the order of the tables."""
LESION_SIZE_NAMES = {"small": "< 5 mm", "large": "≥ 5 mm"}
IMAGE_NAMES = {
    "pre": "pre-dose",
    "low": "low dose",
    "high": "high dose",
    "linear_extrapolation": "linear extrapolation",
    "linear_dose_model": "linear dose model",
    "simulated": "simulated",
}
LEVELS = {
    "explained": "Explained",
    "look": "Not explained here: look",
    "out_of_domain": "Out of domain: do not use this image",
    "not_judged": "Not judged",
    "failed": "Failed: there is no result",
}
PLACES = {
    "residual": "the low dose is not explained",
    "darker": "darker than before contrast",
}
STATUSES = {
    "converged": "no small change improves the image: the search is at its end",
    "max_iterations": "stopped by its largest number of iterations; the image is the best seen",
    "stalled": "no step improves the image although the model says so: look at the images with care",
    "non_finite": "the operator gave values that are not finite: do not use the image",
}
EXPLANATIONS = {
    "dose_fraction": "low dose over full dose that the computation assumed; it has to be that of the examination",
    "sigma": "standard deviation of the noise of the low dose, estimated in the air or in flat tissue; 1 is the full "
    "intensity range of the computation",
    "alpha": "weight of the prior against the data: the larger, the smoother the image, and the more of the low dose "
    "stays unexplained",
    "alpha_choice": "residual over the head that noise and operator explain, and the one that is left with the alpha "
    "that was chosen from the noise",
    "guess_choice": "shares of the end-to-end network's image and of the image before contrast in the guess, which the "
    "prior keeps the result close to: the more noise, the less of the network",
    "solver": "the algorithm that searched the image which explains the low dose",
    "status": "why the search ended, in the worst slice",
    "objective": "what the search makes small: half the squared residual plus alpha times the prior, summed over the "
    "slices, at its start and at its end",
    "discrepancy": "root mean square of the residual, the air included; of the order of sigma where the image explains "
    "the low dose and nothing more",
    "scale": "scanner units that are 1 in the computation",
    "seconds": "computing time of this study",
}
CERTIFICATES = {
    "relative_model_decrease": "upper bound of what could still be gained, as a share of the objective; at most 0.001 "
    "where converged",
    "prox_gradient_residual": "length of the next step over the step size; 0 at a stationary image",
    "relative_prox_gradient_residual": "the same relative to the start",
    "stationarity": "norm of the projected gradient made with the dual witness; 0 at a stationary image",
    "complementarity": "how far the dual witness is from a subgradient of the prior, in units of the objective; 0 at a "
    "stationary image",
    "projected_gradient": "norm of the projected gradient; 0 at a stationary image",
    "relative_projected_gradient": "the same relative to the start",
}


def plain_number(value: float) -> str:
    """Three digits, without an exponent.

    Example:
        >>> plain_number(1134.2), plain_number(0.04567), plain_number(12.0)
        ('1130', '0.0457', '12')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def metric_text(name: str, value: float | None) -> str:
    """A metric's value with the digits that mean something; nothing for None.

    Example:
        >>> metric_text("psnr_head", 33.333), metric_text("ssim_head", 0.98), metric_text("visible_lesions", 3.0)
        ('33.33', '0.980', '3')
    """
    if value is None:
        return ""
    if name.startswith("visible_lesions"):
        return f"{value:.0f}"
    if "psnr" in name:
        return f"{value:.2f}"
    return f"{value:.1f}" if name.startswith("cep_lesion") or name.endswith("_mm") else f"{value:.3f}"
