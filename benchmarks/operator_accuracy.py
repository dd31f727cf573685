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
"""What makes a learned operator accurate: one choice changed at a time, all with the same number of training steps.

    python -m benchmarks.operator_accuracy --output runs/accuracy

The studies are a quarter of those that the shipped operators are trained on (``SHARE``), and their validation studies,
written into the output folder; nothing that anything is tested on is looked at. ``ph2l`` is trained on the studies
without noise and displacement, one scanner or many, and for one variant on those of the end-to-end operators; ``pl2h``
on those. Beside PSNR and SSIM of whole slices of the validation studies, the table has the error in enhancing tissue
and the gain of the operator, which is the largest eigenvalue of J^T J for its Jacobian J in the dose image:
whole-slice numbers hide what an inversion multiplies by one over the dose fraction. Two more rows with other seeds say
which differences mean something.

Writes ``benchmarks/results/operator_accuracy.json``; a variant that is in there or in the output folder with the same
settings (``made_with``) is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import monai_lipcar
from benchmarks.paper import training_cohort
from benchmarks.paper.training import KINDS
from monai_lipcar.bundle import training_studies
from monai_lipcar.data import Study, load_datalist, write_datalist
from monai_lipcar.data.atomic import write_json, write_text
from monai_lipcar.engines import AutocastInferer, recalibrate_batch_norm
from monai_lipcar.metrics import enhancement_recovery, enhancing_tissue, psnr, relative_error, ssim
from monai_lipcar.problem import operator_gain

OPERATORS = ("ph2l", "pl2h")
SHARE = 0.25
"""Of the training studies: the patches of all steps together are a fraction of what these hold."""
EVERY = 4
"""Of the validation slices every fourth is judged: neighbors are alike."""
REPOSITORY = Path(__file__).resolve().parent.parent
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One choice that differs from the recommended configuration.

    Args:
        options: overrides of the bundle's ``train.json``.
        schedule: ``"cosine"`` or ``"constant"`` learning rate.
        ema: decay of the moving average of the weights, 0 for none.
        recalibrate: average the batch norm statistics anew after the training.
        without: transforms of the training samples to leave out, by what their name begins with.
        studies: what the ids of the training studies begin with.
        one_dose: only studies of the dose fraction 0.2.
        every: only every so many of those studies.
        loss: ``"SSIM + L1"`` as configured, or ``"MSE"``.
        shipped_initialization: False starts the last layers as MONAI's VNet does.
        activation: False leaves out the final ReLU.
        seed: of the weights that training starts from, of the order of the slices, and of the augmentation.
        steps: of the training; by default as many as all.
    """

    options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    ema: float = 0.0
    recalibrate: bool = True
    without: tuple[str, ...] = ()
    studies: tuple[str, ...] = ("fixed", "vary")
    one_dose: bool = False
    every: int = 1
    loss: str = "SSIM + L1"
    shipped_initialization: bool = True
    activation: bool = True
    seed: int = 0
    steps: int | None = field(default=None, repr=False)  # the fingerprint has the number


def variants(operator: str) -> dict[str, Variant]:
    """The variants of an operator, by what they change."""
    linear = {"ph2l": "physics", "pl2h": "extrapolation"}[operator]
    forward = {
        "skeleton: signal equation, the image corrected": Variant({"skeleton": "signal"}),
        "data: noise and displacement in the inputs": Variant(studies=("noisy",)),
    }
    paper = Variant(
        {"skeleton": "none", "l1_weight": 0.0, "learning_rate": 1e-4, "network_def::dropout": 0.5},
        schedule="constant",
        recalibrate=False,
        without=("Rand",),
        studies=("fixed-rat",),
        one_dose=True,
        shipped_initialization=False,
    )
    return {
        "recommended": Variant(),
        "recommended, seed 1": Variant(seed=1),
        "recommended, seed 2": Variant(seed=2),
        "untrained: the skeleton alone": Variant(steps=0, recalibrate=False),
        "paper's: all of its choices": paper,
        "skeleton: none": Variant({"skeleton": "none"}),
        "skeleton: none, VNet's own initialization": Variant({"skeleton": "none"}, shipped_initialization=False),
        "skeleton: the dose image (skip)": Variant({"skeleton": "identity"}),
        "skeleton: linear dose": Variant({"skeleton": linear}),
        **(forward if operator == "ph2l" else {}),
        "final ReLU: none": Variant(activation=False),
        "dropout 0.1": Variant({"network_def::dropout": 0.1}),
        "batch norm: not recalibrated": Variant(recalibrate=False),
        "loss: SSIM": Variant({"l1_weight": 0.0}),
        "loss: MSE": Variant(loss="MSE"),
        "learning rate: constant": Variant(schedule="constant"),
        "learning rate: 3e-4": Variant({"learning_rate": 3e-4}),
        "weights: moving average": Variant(ema=0.98),
        "augmentation: none": Variant(without=("RandFlip", "RandRotate", "RandScale")),
        "noise on the inputs: none": Variant(without=("RandRician", "RandGaussian")),
        "data: rats, one scanner": Variant(studies=("fixed-rat",)),
        "data: human heads, one scanner": Variant(studies=("fixed-mni152",)),
        "data: random anatomy, one scanner": Variant(studies=("fixed-random",)),
        "data: all anatomies, one scanner": Variant(studies=("fixed",)),
        "data: all anatomies, varied scanners": Variant(studies=("vary",)),
        "data: one dose": Variant(one_dose=True),
        "data: a quarter as many studies": Variant(every=4),
    }


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("monai_lipcar").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--only", nargs="+", help="names of variants, or how they begin")
    results = REPOSITORY / "benchmarks" / "results" / "operator_accuracy.json"
    parser.add_argument("--results", type=Path, default=results)
    arguments = parser.parse_args()

    for kind in sorted(set(KINDS.values())):
        training_cohort.write(cohort(kind, arguments), kind, SHARE)
    everything = [(operator, *variant) for operator in OPERATORS for variant in variants(operator).items()]
    begins = tuple(arguments.only or [""])
    jobs = [job for job in everything if job[0] in arguments.operators and job[1].startswith(begins)]
    for operator in arguments.operators:
        write_datalist(datalist(operator, arguments), studies(operator, arguments))
    for operator, name, variant in tqdm(jobs, desc="variants"):
        rows = finished(everything, arguments)
        if (operator, name) not in rows:
            row = rows[operator, name] = evaluate(operator, variant, arguments)
            write_text(place(operator, variant, arguments), json.dumps(row))
        logger.info("%s, %s: %s", operator, name, rows[operator, name])
        publish(finished(everything, arguments), arguments)


def publish(rows: Mapping[tuple[str, str], Any], arguments: argparse.Namespace) -> None:
    """Write all rows that there are, of this run and of others, in the order of the variants."""
    content: dict[str, Any] = {
        "steps": arguments.steps,
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "operators": {},
        "made_with": {},
    }
    for operator in OPERATORS:
        for name, variant in variants(operator).items():
            if (operator, name) in rows:
                content["operators"].setdefault(operator, {})[name] = rows[operator, name]
                made_with = fingerprint(operator, variant, arguments)
                content["made_with"].setdefault(operator, {})[name] = made_with
    write_json(arguments.results, content)


def finished(jobs: list[tuple[str, str, Variant]], arguments: argparse.Namespace) -> dict[tuple[str, str], Any]:
    """Rows that were measured with these settings, here or where the published results come from."""
    published = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
    rows = {}
    for operator, name, variant in jobs:
        file = place(operator, variant, arguments)
        if file.is_file():
            rows[operator, name] = json.loads(file.read_text(encoding="utf-8"))
        elif published.get("made_with", {}).get(operator, {}).get(name) == fingerprint(operator, variant, arguments):
            rows[operator, name] = published["operators"][operator][name]
    return rows


def cohort(kind: str, arguments: argparse.Namespace) -> Path:
    """Where the studies for a kind of operators are written."""
    folder: Path = arguments.output / "cohorts" / kind
    return folder


def datalist(operator: str, arguments: argparse.Namespace) -> Path:
    """Where the datalist of an operator is written."""
    file: Path = arguments.output / f"datalist-{operator}.json"
    return file


def studies(operator: str, arguments: argparse.Namespace) -> dict[str, list[Study]]:
    """Training and validation studies; what their ids begin with is what the variants choose by."""
    files = {kind: cohort(kind, arguments) / "datalist.json" for kind in ("forward", "end_to_end")}
    kind = KINDS[operator]
    sections = {section: load_datalist(files[kind], section) for section in ("training", "validation")}
    if kind == "forward":
        noisy = load_datalist(files["end_to_end"], "training")
        sections["training"] += [replace(study, study_id=f"noisy-{study.study_id}") for study in noisy]
    return sections


def place(operator: str, variant: Variant, arguments: argparse.Namespace) -> Path:
    """Where the row of a variant is kept."""
    folder: Path = arguments.output / "variants"
    return folder / f"{fingerprint(operator, variant, arguments)}.json"


def fingerprint(operator: str, variant: Variant, arguments: argparse.Namespace) -> str:
    """Of what a variant is trained with, so that a result of other settings is not taken for it."""
    config = (REPOSITORY / "bundles" / operator / "configs" / "train.json").read_text(encoding="utf-8")
    records = sorted((arguments.output / "cohorts").rglob("cohort.json"))
    cohorts = [file.read_text(encoding="utf-8") for file in records]
    settings = f"{operator}{variant}{steps_of(variant, arguments)}{config}{cohorts}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def steps_of(variant: Variant, arguments: argparse.Namespace) -> int:
    """How long a variant is trained."""
    steps: int = arguments.steps
    return steps if variant.steps is None else variant.steps


def evaluate(operator: str, variant: Variant, arguments: argparse.Namespace) -> dict[str, float]:
    """Train one variant and judge it on all validation slices."""
    config = configure(operator, variant, arguments)
    set_determinism(variant.seed)
    network = train(config, variant, steps_of(variant, arguments))
    return {name: round(value, 5) for name, value in judge(network, operator, config).items()}


def configure(operator: str, variant: Variant, arguments: argparse.Namespace) -> ConfigParser:
    """The bundle's training with the variant's overrides; the preprocessed slices are shared by all."""
    config = ConfigParser()
    config.read_config(str(REPOSITORY / "bundles" / operator / "configs" / "train.json"))
    config.update(
        {
            "bundle_root": str(REPOSITORY / "bundles" / operator),
            "datalist_file": str(datalist(operator, arguments).resolve()),
            "output_dir": str(arguments.output.resolve()),
            "cache_dir": str((arguments.output / "cache").resolve()),
            "registration_policy": "none",
            "match_intensity": False,
            "seed": variant.seed,
            **variant.options,
        }
    )
    transforms = config["train#preprocessing#transforms"]
    config["train#preprocessing#transforms"] = [
        transform for transform in transforms if not transform["_target_"].startswith(variant.without or "-")
    ]
    trained_on = training_studies(config.get_parsed_content("split"), "training", 0.2 if variant.one_dose else None)
    chosen = [study for study in trained_on if study.study_id.startswith(variant.studies)]
    if not chosen:
        raise SystemExit(f"no training study's id begins with {' or '.join(variant.studies)}")
    config["train#dataset#studies"] = chosen[:: variant.every]
    return config


def train(config: ConfigParser, variant: Variant, steps: int) -> torch.nn.Module:
    """Train for a number of steps, whatever the size of the data set."""
    network: torch.nn.Module = config.get_parsed_content("network")
    if not variant.shipped_initialization:
        network.vnet.out_tr.conv2.reset_parameters()  # type: ignore[union-attr, operator]
    loss = config.get_parsed_content("loss") if variant.loss != "MSE" else torch.nn.MSELoss()
    optimizer = config.get_parsed_content("optimizer")
    factor = (
        (lambda step: 0.51 + 0.49 * math.cos(math.pi * step / max(steps, 1))) if variant.schedule == "cosine" else None
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor or (lambda step: 1.0))
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(variant.ema)) if variant.ema else None
    loader = config.get_parsed_content("train#dataloader")
    infer = AutocastInferer(enabled=False)  # float32: rows of one table may come from several machines
    network.train()
    if not variant.activation:
        network.activation = torch.nn.Identity()
    for batch in tqdm(batches(loader, steps), total=steps, desc="steps", leave=False):
        optimizer.zero_grad()
        output = infer(batch["image"], network, **extra(batch))
        loss(output, batch["label"].as_subclass(torch.Tensor)).backward()
        optimizer.step()
        scheduler.step()
        if average is not None:
            average.update_parameters(network)
    if average is not None:
        network.load_state_dict(average.module.state_dict())
    if variant.recalibrate:
        recalibrate_batch_norm(network, batches(loader, 40))
    return network.eval()


def batches(loader: torch.utils.data.DataLoader[Any], count: int) -> Iterator[dict[str, Any]]:
    """That many training batches, over as many epochs as it takes."""
    epoch = 0
    while count > 0:
        epoch += 1
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            yield batch
            count -= 1
            if count == 0:
                return


def extra(batch: dict[str, Any]) -> dict[str, Any]:
    """What the network takes beside the image."""
    return {"response": batch["response"]} if "response" in batch else {}


def judge(network: torch.nn.Module, operator: str, config: ConfigParser) -> dict[str, float]:
    """Mean over the slices of the validation studies."""
    crop = {**config["validate#preprocessing#transforms"][0], "keys": ["pre", "low", "high"]}
    config["validate#preprocessing#transforms"] = [crop]
    members: dict[str, list[torch.Tensor]] = {"pre": [], "low": [], "high": [], "output": []}
    dose = "high" if operator.endswith("h2l") else "low"
    gains = []
    dataset = config.get_parsed_content("validate#dataset")
    for number in tqdm(range(0, len(dataset), EVERY), desc="validation", leave=False):
        sample = dataset[number]
        pair = torch.cat([sample["pre"], sample[dose]])[None].as_subclass(torch.Tensor).float()
        given = {"response": sample["response"][None]}
        with torch.inference_mode():
            sample["output"] = network(pair, **given)[0]
        for name, kept in members.items():
            kept.append(sample[name].as_subclass(torch.Tensor)[0])
        if number % (10 * EVERY) == 0:
            gains.append(float(operator_gain(lambda image, given=given: network(image, **given), pair)))  # type: ignore[misc]
    pre, low, high, result = (torch.stack(members[name]) for name in ("pre", "low", "high", "output"))
    enhancing = enhancing_tissue(pre, high)
    target = low if operator.endswith("h2l") else high
    return {
        "psnr": psnr(result, target),
        "ssim": ssim(result, target),
        "relative_error": relative_error(result, target),
        "psnr_enhancing": psnr(result, target, enhancing),
        "enhancement_recovery": enhancement_recovery(result, pre, target, enhancing),
        "gain": sum(gains) / len(gains),
    }


if __name__ == "__main__":
    main()
