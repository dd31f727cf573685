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
"""What training adds to MONAI's trainer: mixed precision on any device, seeds of an epoch, speed, final weights."""

from __future__ import annotations

import itertools
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import nn

from monai_lipcar.data.atomic import write_json, write_text
from monai_lipcar.networks import has_fast_bfloat16, save_weights

__all__ = [
    "AutocastInferer",
    "EpochSeed",
    "FinalWeights",
    "Throughput",
    "attach_handlers",
    "recalibrate_batch_norm",
]

logger = logging.getLogger(__name__)


class AutocastInferer(Inferer):
    """Run the network in bfloat16 where the device is faster in it, and return float32.

    MONAI's trainers switch autocast on for CUDA only. bfloat16 has float32's range, so gradients need no scaling, and
    the same code serves CPU and GPU.

    Args:
        enabled: False computes in float32 everywhere.

    Example:
        >>> AutocastInferer()(torch.ones(1, 2), nn.Linear(2, 2)).dtype
        torch.float32
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Network output in float32, whatever it was computed in."""
        # plain tensors: each operation on a MetaTensor costs time that training has no use for
        inputs = inputs.as_subclass(torch.Tensor)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        enabled = self.enabled and has_fast_bfloat16(inputs.device)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=enabled):
            return network(inputs, *args, **kwargs).float()


class _Epochal(Protocol):
    def set_epoch(self, epoch: int) -> None:
        """Make everything random depend on this epoch."""


class EpochSeed:
    """Handler that tells datasets and samplers the epoch, on which alone (with the seed) their randomness depends.

    A training that resumes at an epoch therefore sees the slices, in the order and with the augmentation, that it
    would have seen without the interruption.

    Args:
        items: datasets and samplers with ``set_epoch``.
    """

    def __init__(self, items: Sequence[_Epochal]) -> None:
        self.items = tuple(items)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Pass the epoch on."""
        for item in self.items:
            item.set_epoch(engine.state.epoch)


class Throughput:
    """Handler that logs slices per second of each epoch, without the time of validation.

    Args:
        batch_size: slices in an iteration.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.slices_per_second = 0.0
        self._started = 0.0
        self._iterations = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before the handlers that validate."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._started, self._iterations = time.perf_counter(), 0

    def _count(self, engine: Engine) -> None:
        self._iterations += 1

    def _report(self, engine: Engine) -> None:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        self.slices_per_second = self._iterations * self.batch_size / seconds
        logger.info("epoch %d: %.1f slices/s", engine.state.epoch, self.slices_per_second)


class FinalWeights:
    """Handler that finishes a training: recalibrated batch normalization, float16 weights, a record of the training.

    The running statistics of batch normalization average over weights that were still moving; a pass over training
    batches with the final weights replaces them (:func:`recalibrate_batch_norm`).

    Args:
        network: the trained network.
        data_loader: training batches with an ``"image"``.
        output_dir: ``model.pt`` and ``training.json`` go there.
        record: what to note beside the measured numbers (seed, configuration); its ``operator`` is also noted in the
            weights file.
        evaluator: whose metrics are noted, after one more validation with the final statistics.
        throughput: whose speed is noted.
        revalidate: False leaves that validation out: only one of several processes saves, and it cannot validate alone.
        recalibration_batches: how many batches to average over; 0 leaves the statistics as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        data_loader: torch.utils.data.DataLoader,
        output_dir: str | Path,
        record: Mapping[str, Any] | None = None,
        evaluator: Engine | None = None,
        throughput: Throughput | None = None,
        revalidate: bool = True,
        recalibration_batches: int = 40,
    ) -> None:
        self.network = network
        self.data_loader = data_loader
        self.output_dir = Path(output_dir)
        self.record = dict(record or {})
        self.evaluator = evaluator
        self.throughput = throughput
        self.recalibration_batches = recalibration_batches
        self.revalidate = revalidate
        self._losses: list[float] = []
        self._curve_file = self.output_dir / "curve.jsonl"

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._continue)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self)

    def _continue(self, engine: Engine) -> None:
        # the epoch in which a training was interrupted may have been noted, and is done again
        try:
            lines = self._curve_file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        kept = [line for line in lines if 0 < _epoch(line) <= engine.state.epoch]
        write_text(self._curve_file, "".join(f"{line}\n" for line in kept))

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        last = output[0] if isinstance(output, list) else output
        self._losses.append(float(last["loss"]))

    def _note(self, engine: Engine) -> None:
        metrics = dict(self.evaluator.state.metrics) if self.evaluator is not None else {}
        entry = {"epoch": engine.state.epoch, "loss": statistics.fmean(self._losses), **metrics}
        self._losses.clear()
        with open(self._curve_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def __call__(self, engine: Engine) -> None:
        """Recalibrate, validate once more, and save."""
        if self.recalibration_batches:
            # a training that resumes at its end has no epoch any more that would have told the sampler
            set_epoch = getattr(getattr(self.data_loader, "sampler", None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(engine.state.epoch)
            recalibrate_batch_norm(self.network, itertools.islice(self.data_loader, self.recalibration_batches))
        fractions = getattr(getattr(self.data_loader, "dataset", None), "dose_fractions", None)
        if fractions is not None:
            self.network.trained_fractions = fractions
        metrics: dict[str, float] = {}
        if self.evaluator is not None and self.revalidate:
            self.evaluator.run()
            metrics = {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        path = self.output_dir / "model.pt"
        sha256 = save_weights(self.network, path, self.record.get("operator"))
        record = {
            **self.record,
            **({} if fractions is None else {"dose_fractions": list(fractions)}),
            "precision": self._precision(),
            "epochs": engine.state.epoch,
            "iterations": engine.state.iteration,
            "validation": metrics,
            "slices_per_second": round(self.throughput.slices_per_second, 2) if self.throughput else None,
            "torch": torch.__version__,
            "sha256": sha256,
        }
        write_json(self.output_dir / "training.json", record)
        logger.info("weights: %s, validation: %s", path, metrics)

    def _precision(self) -> str:
        device = next(self.network.parameters()).device
        return "bfloat16" if self.record.get("amp") and has_fast_bfloat16(device) else "float32"


def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Mapping[str, Any]]) -> None:
    """Average the running statistics of batch normalization over batches that the network will not learn from.

    torch's ``update_bn``, but for networks that take more than the image.

    Args:
        network: changed in place.
        batches: each with an ``"image"`` and, where the network takes it, a ``"response"``.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    was_training = network.training
    network.train()
    with torch.no_grad():
        for batch in batches:
            given = {"response": batch["response"].to(device)} if "response" in batch else {}
            network(batch["image"].as_subclass(torch.Tensor).to(device), **given)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


def _epoch(line: str) -> int:
    """Epoch of an entry of a learning curve, or 0 for a line that was cut short."""
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return 0


class _Handler(Protocol):
    def attach(self, engine: Engine) -> None:
        """Register with an engine."""


def attach_handlers(engine: Engine, handlers: Sequence[_Handler]) -> None:
    """Attach handlers to an engine that some of them refer to.

    A checkpoint holds the trainer's own state, so its handler needs the trainer first, and cannot be one of the
    trainer's arguments in a config.
    """
    for handler in handlers:
        if handler is not None:
            handler.attach(engine)
