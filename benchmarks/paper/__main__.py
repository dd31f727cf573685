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
"""Reproduce the paper's experiments: ``python -m benchmarks.paper`` from the repository's root.

Everything is made from seeds and kept in the output folder; a run that was stopped goes on where it was. Writes
``paper.json``, ``paper.csv`` and ``paper_rows.jsonl`` (the metrics of every slice) in ``benchmarks/results``, the
figures and the tables of ``docs/paper.md``. ``--quick`` runs every stage on hardly any data, and writes into its own
output folder only.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from monai_lipcar.errors import LipcarError
from monai_lipcar.log import quiet_readers
from monai_lipcar.networks import has_fast_bfloat16

from . import reproduction, settings, shipping, training
from .protocols import default_denoiser

WEIGHTS = "the bundles' own (default), the same trained here, or trained as the paper did on its cohort"
STAGES = ("cohort", "training", "evaluation", "theory", "report")
GO_ON = "take published rows of the same data, weights and settings instead of computing them anew"
SHARE = "evaluate share K of N (K from 1), for N processes on one output folder; at the end, run once without it"
PRECISION = "of the operators of the inverse problems on the whole test set; what bfloat16 changes is in the tables"
SHIP = "put the operators of --weights train into their bundles: weights, checksums, model cards"


def main() -> None:
    """Run it."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("benchmarks.paper").setLevel(logging.INFO)
    quiet_readers()
    parser = argparse.ArgumentParser(prog="benchmarks.paper", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="minutes instead of many hours; nothing is published")
    parser.add_argument("--output", type=Path, help="folder of cohorts, slices and rows; default: runs/paper[-quick]")
    parser.add_argument("--weights", choices=("shipped", "train", "paper"), default="shipped", help=WEIGHTS)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="default: all")
    parser.add_argument("--ship", action="store_true", help=SHIP)
    parser.add_argument("--go-on", action="store_true", help=GO_ON)
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="K/N", help=SHARE)
    parser.add_argument("--denoiser", help="of the paper's protocol; default: bm3d where it is installed, else nlm")
    parser.add_argument("--hospital-denoiser", help="of the hospital's protocol, after the noise; default: none")
    parser.add_argument("--test-set-precision", choices=("float32", "bfloat16"), default="float32", help=PRECISION)
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cuda")
    arguments = parser.parse_args()
    output = arguments.output or settings.REPOSITORY / "runs" / ("paper-quick" if arguments.quick else "paper")
    make = settings.quick if arguments.quick else settings.full
    chosen = replace(
        make(output.resolve(), arguments.weights, arguments.device),
        go_on=arguments.go_on,
        test_set_precision=arguments.test_set_precision,
    )
    if chosen.test_set_precision == "bfloat16" and not has_fast_bfloat16(torch.device(chosen.device)):
        parser.error("--test-set-precision bfloat16: this device is not faster in it; use float32")
    denoiser = arguments.denoiser or default_denoiser()
    if denoiser != "bm3d":
        logging.getLogger("benchmarks.paper").warning(
            "the paper's protocol uses %s here instead of BM3D, which is not installed or not asked for "
            "(pip install bm3d; its license allows non-commercial use only)",
            denoiser,
        )
    chosen = reproduction.place(chosen, denoiser)
    try:
        splits = reproduction.write_cohorts(chosen)
        if arguments.weights != "shipped" and "training" in arguments.stages:
            training.train(chosen, denoiser)
        if arguments.ship:
            if arguments.weights != "train":
                raise LipcarError("--ship is for --weights train: the others are not trained for the bundles")
            shipping.ship(training.trainings(chosen, denoiser))
        if {"evaluation", "theory", "report"} & {*arguments.stages}:
            run = reproduction.Reproduction(chosen, splits, denoiser, arguments.hospital_denoiser)
            if "evaluation" in arguments.stages:
                run.evaluate(*arguments.share)
            if "theory" in arguments.stages:
                run.theory()
            if "report" in arguments.stages:
                run.report()
    except LipcarError as error:
        raise SystemExit(f"error: {error}") from None


def _share(text: str) -> tuple[int, int]:
    share, _, shares = text.partition("/")
    if not (share.isdecimal() and shares.isdecimal() and 1 <= int(share) <= int(shares)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, e.g. 1/2, got {text!r}")
    return int(share) - 1, int(shares)


if __name__ == "__main__":
    main()
