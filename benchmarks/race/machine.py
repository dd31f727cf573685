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
"""What the machine can do, and what a solve asks of it: arithmetic and memory."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from monai_lipcar.problem import LearnedInverseProblem, frozen

from ..paper.settings import REPOSITORY
from .meter import Meter

__all__ = ["describe", "matrix_product_rate", "passes_gflop", "peak_memory"]

SIDE = 2048


def describe() -> dict[str, Any]:
    """Processor, threads, versions."""
    cuda = torch.cuda.is_available()
    name = platform.processor() or platform.machine()
    if not cuda and Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def matrix_product_rate(device: str = "cpu", repeats: int = 5) -> float:
    """GFLOP/s of the best of some float32 matrix products, the yardstick for what a network reaches."""
    left, right = (torch.rand(SIDE, SIDE, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        product = left @ right
        if product.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2.0 * SIDE**3 / best / 1e9


def passes_gflop(problem: LearnedInverseProblem, meter: Meter) -> float:
    """GFLOP of all passes that were counted; counted on one slice, forwards and with the gradient in the image."""
    single = problem.select(torch.zeros(1, dtype=torch.int64, device=problem.observed.device))
    image = single.observed.clone().requires_grad_(True)
    assert isinstance(problem.operator, torch.nn.Module)
    with frozen(problem.operator), torch.enable_grad():
        with FlopCounterMode(display=False) as forward:
            simulated = single.simulate_low(image)
        with FlopCounterMode(display=False) as backward:
            simulated.sum().backward()
    total = meter.forward_slices * forward.get_total_flops() + meter.backward_slices * backward.get_total_flops()
    return float(total / 1e9)


def peak_memory(arguments: list[str]) -> float:
    """MiB that a process with these arguments of Python's had at most; it prints them as the last line of JSON."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def own_peak() -> float:
    """MiB that this process had at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
