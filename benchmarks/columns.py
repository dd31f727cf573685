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
"""Titles and digits of the columns of published tables, and names of their rows."""

from __future__ import annotations

ACCURACY = {
    "psnr_enhancing": ("PSNR, enhancing tissue (dB)", 2),
    "enhancement_recovery": ("share of the target's enhancement", 3),
    "gain": ("gain", 3),
    "psnr": ("PSNR, whole image (dB)", 2),
    "ssim": ("SSIM, whole image", 4),
    "relative_error": ("relative error", 4),
}
FALSE = {
    "false_enhancement_3mm": ("studies with a component of 3 mm or more, %", 2),
    "false_enhancement_mm": ("largest component (mm)", 2),
    "false_enhancement_per_cm3": ("components per cm³", 4),
}
LESIONS = {
    "cnr_lesion": ("contrast-to-noise ratio", 2),
    "lbr_lesion": ("lesion-to-brain ratio", 3),
    "cep_lesion": ("contrast enhancement (percent)", 1),
    "missed_lesions": ("visible lesions missed, %", 0),
    "false_enhancement_per_cm3": ("false components per cm³", 3),
}
REAL_LESION = {
    **{name: LESIONS[name] for name in ("cnr_lesion", "lbr_lesion", "cep_lesion", "missed_lesions")},
    "false_enhancement_mm": ("largest false component (mm)", 2),
}
BASELINES = {
    "low": "low dose",
    "linear_extrapolation": "linear extrapolation",
    "linear_extrapolation_bm3d": "linear extrapolation after BM3D",
    "linear_extrapolation_nlm": "linear extrapolation after non-local means",
    "high": "full dose",
    "linear_dose_model": "linear dose model",
    "signal_equation": "signal equation, untrained",
}

RACE = {
    "slices": ("slices", 0),
    "evaluations_to_adam": ("evaluations to Adam's objective, median", 1),
    "reached_adam": ("slices that reach it, %", 0),
    "seconds_to_adam": ("s / slice to it, median", 2),
    "evaluations": ("evaluations in all, median", 1),
    "evaluations_most": ("at most", 0),
    "seconds": ("s / slice in all, median", 2),
    "objective_over_adam": ("objective over Adam's, median", 3),
    "psnr_head": ("PSNR, head (dB)", 2),
    "ssim_head": ("SSIM, head", 3),
    "inside_network": ("time in the network, %", 1),
    "of_matrix_product": ("its GFLOP/s over the matrix product's, %", 0),
}
SAVED = {
    "slices": ("slices", 0),
    "reached": ("that reach Adam's objective, %", 0),
    "times_fewer_evaluations": ("times fewer evaluations to it", 1),
    "times_faster": ("times faster to it", 1),
    "times_faster_than_batched": ("than batched Adam", 1),
    "psnr_head_difference": ("PSNR, head, difference (dB)", 2),
    "ssim_head_difference": ("SSIM, head, difference", 4),
    "outside_network": ("time outside of the network, %", 1),
}
MAP = {
    "weight": ("weight", 4),
    "prox_tv_ms": ("`prox_tv` (ms)", 1),
    "prox_tv_steps": ("steps", 0),
    "prox_tv_gap": ("gap reached", 5),
    "warm_ms": ("from the dual of the map before (ms)", 1),
    "warm_steps": ("steps", 0),
    "warm_gap": ("gap reached", 5),
    "deepinv_ms": ("deepinv (ms)", 0),
    "deepinv_excess": ("above the minimum", 5),
    "times_faster": ("times faster than it, both cold", 1),
}
QUALITY = {
    "slices": ("slices", 0),
    "alpha_adam": ("alpha: Adam", 4),
    "alpha_proximal": ("`ProximalSolver`", 4),
    "psnr_head_adam": ("PSNR, head: Adam (dB)", 2),
    "psnr_head_proximal": ("`ProximalSolver` (dB)", 2),
    "psnr_head_difference": ("difference (dB)", 3),
    "psnr_head_least": ("least of a slice (dB)", 3),
    "ssim_head_adam": ("SSIM, head: Adam", 4),
    "ssim_head_proximal": ("`ProximalSolver`", 4),
    "ssim_head_difference": ("difference", 4),
    "ssim_head_least": ("least of a slice", 4),
    "objective_over_adam": ("objective over Adam's, median", 3),
    "evaluations": ("evaluations, median", 1),
    "converged": ("converged, %", 0),
}
WHOLE = {
    "slices": ("slices", 0),
    "seconds": ("s in all", 1),
    "study_seconds": ("of them for the study", 1),
    "cpu_seconds": ("processor seconds", 1),
    "peak_mib": ("peak memory (MiB)", 0),
    "network_evaluations": ("evaluations of a batch", 0),
    "times_faster": ("times faster than the published solver", 1),
}
RACE_IMAGE = "![Objective over network evaluations and over time](images/solver.png)"
ADAPTIVE = {"nn_pl2h": "NN-PL2H", "ph2l_tv": "PH2L-TV", "ph2l_gentv": "PH2L-GenTV", "physics_tv": "`physics_tv`"}
ADAPTIVE_KINDS = {
    "ratio": ("r", 2),
    "scale": ("s", 4),
    "shortfall": ("SSIM below the best of the four, worst condition", 4),
}
ADAPTIVE_METRICS = {"ssim_head": 3, "psnr_head": 2, "enhancement_recovery": 3}
ADAPTIVE_PARTS = ("small_heads", "other_model", "whole_slices", "real")
ADAPTIVE_IMAGE = "![SSIM and PSNR over the head by the noise that was added](images/adaptive.png)"
ADAPTIVE_REAL_IMAGE = "![SSIM and PSNR over the head of real examinations](images/adaptive_real.png)"
COHORT_COLUMNS = {
    "seconds_one": ("one study (s)", 1),
    "seconds_all": ("all studies (s)", 1),
    "seconds_each": ("each further study (s)", 2),
    "studies_per_hour": ("studies / hour", 0),
    "hours_cohort": ("1,000 studies, extrapolated (hours)", 2),
    "peak_mib_one": ("peak memory, one study (MiB)", 0),
    "peak_mib_all": ("all studies (MiB)", 0),
    "growth_mib_each": ("left behind by a small study (MiB)", 2),
    "peak_mib_cohort": ("1,000, extrapolated (MiB)", 0),
    "written_gib_cohort": ("written, 1,000 extrapolated (GiB)", 1),
}
ALPHA_AUTO = {
    "best_psnr_head": ("PSNR, head, of the best alpha (dB)", 2),
    "auto": ("`auto` below it (dB)", 2),
    "auto_worst": ("worst head", 2),
    "auto_left_out": ("fitted without the head", 2),
    "schedule": ("schedule of the paper", 2),
    "default": ("default alpha", 2),
}
ALPHA_KINDS = {
    "loss": ("below the best alpha, mean (dB)", 2),
    "worst": ("worst", 2),
    "left_out": ("fitted without the head, mean", 2),
}
