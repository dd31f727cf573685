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
"""Training speed of the shipped configuration against MONAI's plain defaults, in one run on one machine.

    python benchmarks/training.py

Each step is a forward pass, loss, backward pass and Adam step on the same random batch (16 slices of 128x128, as in
``train.json``). The variants take turns, so that a machine whose speed drifts slows all of them. Writes
``benchmarks/results/training.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.inferers import SimpleInferer
from monai.networks.nets import VNet
from tqdm import tqdm

import monai_lipcar
from monai_lipcar.engines import AutocastInferer
from monai_lipcar.networks import DoseOperator, SSIML1Loss

RESULTS = Path(__file__).resolve().parent / "results" / "training.json"


def make_step(
    network: torch.nn.Module, inferer: Callable[..., torch.Tensor], image: torch.Tensor, target: torch.Tensor
) -> Callable[[], float]:
    """A training step that returns its seconds."""
    loss = SSIML1Loss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        loss(inferer(image, network), target).backward()
        optimizer.step()
        if image.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return step


def main() -> None:
    """Run the benchmark."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="counted steps of each variant, after two that are not")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    size = (arguments.patch_size, arguments.patch_size)
    image = torch.rand(arguments.batch_size, 2, *size, device=device)
    target = torch.rand(arguments.batch_size, 1, *size, device=device)
    plain = VNet(spatial_dims=2, in_channels=2, out_channels=1).to(device)
    last = torch.channels_last
    layout = DoseOperator(skeleton="physics").to(device).to(memory_format=last)  # type: ignore[call-overload]
    shipped = DoseOperator(skeleton="physics").to(device).to(memory_format=last)  # type: ignore[call-overload]
    variants = {
        "MONAI's VNet, plain defaults": make_step(plain, SimpleInferer(), image, target),
        "channels last, float32": make_step(layout, AutocastInferer(enabled=False), image, target),
        "shipped: channels last, bfloat16": make_step(shipped, AutocastInferer(), image, target),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for count in tqdm(range(arguments.steps + 2), desc="steps"):
        for name, step in variants.items():
            seconds = step()
            if count >= 2:
                times[name].append(seconds)
    baseline = statistics.median(times["MONAI's VNet, plain defaults"])
    rows = {
        name: {
            "slices_per_second": round(arguments.batch_size / statistics.median(values), 2),
            "times_faster": round(baseline / statistics.median(values), 2),
            "seconds_min": round(min(values), 4),
            "seconds_median": round(statistics.median(values), 4),
            "seconds_max": round(max(values), 4),
        }
        for name, values in times.items()
    }
    content = {
        "batch_size": arguments.batch_size,
        "patch_size": arguments.patch_size,
        "steps": arguments.steps,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "versions": {"monai_lipcar": monai_lipcar.__version__, "torch": torch.__version__},
        "variants": rows,
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name, row in rows.items():
        logging.info("%-36s %7.1f slices/s  %5.2f times", name, row["slices_per_second"], row["times_faster"])


if __name__ == "__main__":
    main()
