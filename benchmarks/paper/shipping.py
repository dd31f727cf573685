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

"""Put the operators that the training stage made into their bundles: weights, checksum, and what the card says."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import write_json, write_text
from monai_lipcar.errors import LipcarError
from monai_lipcar.networks import file_sha256

from .settings import REPOSITORY
from .training import Training

__all__ = ["ship", "training_section"]

logger = logging.getLogger(__name__)

SECTION = re.compile(r"(?<=\n## Training\n\n).*?(?=\n## )", re.DOTALL)
WEIGHTS = "models/model.pt"
NOISE = {
    "ph2l": "the same noise on all images of every second training patch",
    "h2l": "no noise added",
    "pl2h": "Rician noise on the inputs",
    "l2h": "Rician noise on the input",
}
IMAGES = {
    **dict.fromkeys(("ph2l", "h2l"), "without noise and displacement"),
    **dict.fromkeys(("pl2h", "l2h"), "with the noise of an acquisition and what registration leaves of a displacement"),
}


def ship(trainings: Sequence[Training], bundles: Path = REPOSITORY / "bundles") -> None:
    """Copy the weights of finished trainings, and say in metadata and model card where they come from.

    Args:
        trainings: as the training stage has them.
        bundles: folder of the bundles.

    Raises:
        LipcarError: one of them is not finished, or its weights are not those that it recorded.
    """
    for training in trainings:
        if not training.finished:
            raise LipcarError(f"the training of {training.operator} is not finished: {training.folder}")
        record = json.loads((training.folder / "training.json").read_text(encoding="utf-8"))
        weights = training.folder / "model.pt"
        if file_sha256(weights) != record["sha256"]:
            raise LipcarError(f"{weights} is not what {training.folder / 'training.json'} says; train again")
        curve = [json.loads(line) for line in (training.folder / "curve.jsonl").read_text().splitlines()]
        validated = len(json.loads((training.folder / "datalist.json").read_text(encoding="utf-8"))["validation"])
        bundle = bundles / training.operator
        shutil.copyfile(weights, bundle / WEIGHTS)
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        metadata["weights_sha256"][WEIGHTS] = record["sha256"]
        for name in ("dose_fraction", "dose_fractions"):
            metadata.pop(name, None)
        low, high = _dose_fractions(record)
        metadata.update({"dose_fractions": [low, high]} if low < high else {"dose_fraction": low})
        write_json(bundle / "configs" / "metadata.json", metadata, indent=4)
        card = bundle / "docs" / "README.md"
        parts = SECTION.split(card.read_text(encoding="utf-8"))
        if len(parts) != 2:
            raise LipcarError(f"{card}: expected one section '## Training', found {len(parts) - 1}")
        write_text(card, training_section(training.operator, record, curve, validated).join(parts))
        logger.info("%s: weights %s", bundle, record["sha256"][:12])


def training_section(
    operator: str, record: Mapping[str, Any], curve: Sequence[Mapping[str, float]], validated: int
) -> str:
    """What the model card says about a training, in Markdown.

    Args:
        operator: bundle.
        record: content of ``training.json``.
        curve: entries of ``curve.jsonl``.
        validated: number of validation studies.
    """
    low, high = _dose_fractions(record)
    doses = f"dose fractions {low:.2g} to {high:.2g}" if low < high else f"dose fraction {low:g}"
    fixed, varied = (_counts(folder, record["training"]) for folder in ("fixed", "vary"))
    left_out = " (those of another dose are left out)" if low == high else ""
    varied = f", {varied} of scanners, agents and doses of their own{left_out}" if varied else ""
    epochs = f"{record['epochs']} epoch{'s' * (record['epochs'] > 1)} ({record['iterations']} steps)"
    rows = [[str(entry["epoch"]), f"{entry['loss']:.4f}", *_validation(entry)] for entry in curve]
    rows.append(["final, batch normalization recalibrated", "", *_validation(record["validation"])])
    patch = "x".join(map(str, record["patch_size"]))
    network = (
        "MONAI's VNet (2-D, 9.4 million parameters, dropout removed, ReLU output) on the "
        f"`{record['skeleton']}` skeleton, SSIM + {record['l1_weight']:g} L1, Adam {record['learning_rate']:g} falling "
        f"along half a cosine, batches of {record['batch_size']} patches of {patch}, "
        f"{NOISE[operator]}, {record['precision']}, seed {record['seed']}, **{epochs}**: a short training (the "
        "configuration's default is 80 epochs)."
    )
    data = (
        f"Training data: simulated studies, {doses}, {IMAGES[operator]}: {fixed} of the scanner that the configuration "
        f"names{varied}. Human heads are skull-stripped in 35 % of the studies. Cohort and training "
        "are made, from the repository, by"
    )
    validation = (
        f"Validation is over whole slices of {validated} studies of another seed; {record['slices_per_second']:g} "
        f"slices/s in the last epoch on two CPU cores. SHA-256 of `{WEIGHTS}`: `{record['sha256']}`."
    )
    command = "```bash\npython -m benchmarks.paper --weights train --stages training --output runs/paper\n```"
    table = [
        "| epoch | training loss (mean of the epoch) | validation PSNR (dB) | validation SSIM |",
        "| ---: | ---: | ---: | ---: |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n\n".join([network, data, command, "\n".join(table), validation]) + "\n"


def _dose_fractions(record: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest of the studies that were trained on."""
    low, high = record.get("dose_fractions") or [record["dose_fraction"]] * 2
    return round(float(low), 4), round(float(high), 4)


def _validation(entry: Mapping[str, float]) -> list[str]:
    if "val_psnr" not in entry:
        return ["", ""]
    return [f"{entry['val_psnr']:.2f}", f"{entry['val_ssim']:.4f}"]


def _counts(folder: str, studies: Sequence[str]) -> str:
    """Studies of a folder by their anatomy, of ids such as ``vary-random-0001``."""
    counts = Counter(study.split("-")[1] for study in studies if study.startswith(f"{folder}-"))
    return " and ".join(f"{count} `{anatomy}`" for anatomy, count in counts.items()).replace(" and ", ", ", 1)
