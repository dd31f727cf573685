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
"""Training: exact resume, the loss falls, the weights and the record that come out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import (
    CheckpointLoader,
    CheckpointSaver,
    LrScheduleHandler,
    MeanAbsoluteError,
    ValidationHandler,
    from_engine,
)
from monai.transforms import (
    Compose,
    ConcatItemsd,
    CopyItemsd,
    LoadImaged,
    RandFlipd,
    RandGaussianNoised,
    RandSpatialCropd,
    ScaleIntensityRanged,
    SelectItemsd,
)
from torch import Tensor, nn

from monai_lipcar.data import SliceDataset, SliceSampler, Study
from monai_lipcar.engines import (
    AutocastInferer,
    EpochSeed,
    FinalWeights,
    Throughput,
    attach_handlers,
    latest_checkpoint,
)
from monai_lipcar.errors import WeightsError
from monai_lipcar.networks import DoseOperator, SSIML1Loss, file_sha256, load_weights

KEYS = ["pre", "low", "high"]


@pytest.mark.parametrize(
    ("enabled", "capabilities", "computed_in"),
    [
        (True, {"avx512_bf16": True}, torch.bfloat16),
        (True, {"bf16": True, "sve_bf16": False}, torch.bfloat16),
        (True, {"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        (True, {"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),  # slower in it
        (True, {"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),  # would imitate it, slowly
        (False, {"avx512_bf16": True}, torch.float32),
    ],
)
def test_autocast_inferer_computes_in_bfloat16_where_there_is_one_and_returns_float32(
    enabled: bool, capabilities: dict[str, bool | str], computed_in: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    inner: list[torch.dtype] = []
    layer = nn.Conv2d(2, 1, 3)
    layer.register_forward_hook(lambda module, inputs, output: inner.append(output.dtype))
    images = torch.rand(2, 2, 8, 8)
    output = AutocastInferer(enabled)(images, layer)
    assert output.dtype == torch.float32
    assert inner == [computed_in]
    exact = layer(images)
    torch.testing.assert_close(output, exact, atol=0.02 if computed_in == torch.bfloat16 else 1e-6, rtol=0)
    output.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_autocast_inferer_passes_arguments_and_volumes_on() -> None:
    volumes = torch.ones(1, 1, 2, 3, 4)
    output = AutocastInferer(False)(volumes, lambda x, factor, offset: factor * x + offset, 2.0, offset=1.0)
    assert torch.equal(output, torch.full_like(volumes, 3.0))


class Parts:
    """Notes the epochs it is told."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_epoch_seed_tells_every_item() -> None:
    first, second = Parts(), Parts()
    engine = Engine(lambda engine, batch: None)
    EpochSeed([first, second]).attach(engine)
    engine.run([0, 1], max_epochs=3)
    assert first.epochs == second.epochs == [1, 2, 3]


def test_throughput_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("monai_lipcar.engines.training.time.perf_counter", lambda: now[0])

    def step(engine: Engine, batch: int) -> None:
        now[0] += 0.5

    def validate(engine: Engine) -> None:
        now[0] += 60.0

    engine, throughput = Engine(step), Throughput(batch_size=8)
    throughput.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    engine.run([0, 1, 2, 3], max_epochs=2)
    assert throughput.slices_per_second == pytest.approx(4 * 8 / 2.0)


def test_attach_handlers_leaves_out_what_is_disabled() -> None:
    attached: list[Engine] = []

    class Handler:
        def attach(self, engine: Engine) -> None:
            attached.append(engine)

    engine = Engine(lambda engine, batch: None)
    attach_handlers(engine, [Handler(), None, Handler()])  # type: ignore[list-item]
    assert attached == [engine, engine]


@pytest.mark.parametrize(("skeleton", "factor"), [("none", 0.6), ("physics", 0.9)])  # one starts nearly right
def test_a_few_steps_lower_the_loss(cohort: list[Study], tmp_path: Path, skeleton: str, factor: float) -> None:
    training = Training(cohort, tmp_path, tmp_path / "cache", seed=0, epochs=5, skeleton=skeleton)
    training.run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert len(losses) == 5
    assert losses[-1] < factor * losses[0]


class Training:
    """The parts of a bundle's ``train.json``, small."""

    def __init__(
        self,
        studies: list[Study],
        output_dir: Path,
        cache_dir: Path,
        seed: int,
        epochs: int = 3,
        skeleton: str = "physics",
    ) -> None:
        torch.manual_seed(seed)
        self.network = DoseOperator(in_channels=2, skeleton=skeleton, dose_fraction=0.2)  # type: ignore[arg-type]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=2 * epochs)
        load = Compose([
            LoadImaged(KEYS, image_only=True, ensure_channel_first=True),
            ScaleIntensityRanged(KEYS, a_min=0.0, a_max=100.0, b_min=0.0, b_max=1.0),
        ])  # fmt: skip
        pairs = [
            ConcatItemsd(["pre", "high"], name="image"),
            CopyItemsd("low", names="label"),
            SelectItemsd(["image", "label"]),
        ]
        augmentation = Compose([
            RandSpatialCropd(KEYS, roi_size=(16, 16), random_size=False),
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandGaussianNoised("pre", prob=0.5, std=0.02),
            *pairs,
        ])  # fmt: skip
        dataset = SliceDataset(studies, load, KEYS, cache_dir, augmentation, seed=0, min_foreground=0.0)
        sampler = SliceSampler(dataset, seed=0)
        self.loader = DataLoader(dataset, batch_size=4, sampler=sampler)
        validation = SliceDataset(studies[:1], load, KEYS, cache_dir, Compose(pairs), min_foreground=0.0)
        self.evaluator = SupervisedEvaluator(
            device="cpu",
            val_data_loader=DataLoader(validation, batch_size=4),
            network=self.network,
            inferer=AutocastInferer(False),
            key_val_metric={"val_mae": MeanAbsoluteError(output_transform=from_engine(["pred", "label"]))},  # type: ignore[arg-type]
        )
        self.throughput = Throughput(batch_size=4)
        self.final_weights = FinalWeights(
            self.network, self.loader, output_dir, {"operator": "ph2l", "seed": 0}, self.evaluator, self.throughput
        )
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=self.loader,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=SSIML1Loss(),
            inferer=AutocastInferer(False),
        )
        state = {
            "model": self.network,
            "optimizer": self.optimizer,
            "lr_scheduler": self.scheduler,
            "trainer": self.trainer,
        }
        checkpoint = latest_checkpoint(output_dir)
        self.resumed = checkpoint is not None
        output_dir.mkdir(exist_ok=True)
        handlers: list[Any] = [
            CheckpointLoader(checkpoint, state) if checkpoint else None,
            EpochSeed(items=[dataset, sampler]),
            self.throughput,
            LrScheduleHandler(self.scheduler, print_lr=False),
            ValidationHandler(interval=1, validator=self.evaluator),
            self.final_weights,
            CheckpointSaver(str(output_dir), state, save_interval=1, n_saved=1),
        ]
        attach_handlers(self.trainer, handlers)

    def run(self) -> None:
        self.trainer.run()


class PowerCutError(Exception):
    """The process ends here."""


def test_resume_equals_uninterrupted(cohort: list[Study], tmp_path: Path, one_thread: None) -> None:
    straight = Training(cohort, tmp_path / "straight", tmp_path / "cache", seed=0)
    straight.run()
    assert straight.trainer.state.iteration == 9

    cut = Training(cohort, tmp_path / "cut", tmp_path / "cache", seed=0)

    def power_cut(engine: Engine) -> None:
        if engine.state.iteration == 5:  # in the middle of the second epoch
            raise PowerCutError

    cut.trainer.add_event_handler(Events.ITERATION_COMPLETED, power_cut)
    with pytest.raises(PowerCutError):
        cut.run()
    assert latest_checkpoint(tmp_path / "cut") == str(tmp_path / "cut" / "checkpoint_epoch=1.pt")
    assert not (tmp_path / "cut" / "model.pt").exists()

    torch.manual_seed(123)
    resumed = Training(cohort, tmp_path / "cut", tmp_path / "cache", seed=99)  # what it starts from must not matter
    assert resumed.resumed
    resumed.run()

    expected, found = straight.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert resumed.scheduler.get_last_lr() == straight.scheduler.get_last_lr()
    moments = resumed.optimizer.state_dict()["state"]
    for index, entry in straight.optimizer.state_dict()["state"].items():
        assert all(torch.equal(entry[name], moments[index][name]) for name in entry)
    assert resumed.trainer.state.iteration == 9
    curves = [
        [json.loads(line) for line in (tmp_path / name / "curve.jsonl").read_text().splitlines()]
        for name in ("straight", "cut")
    ]
    assert curves[0] == curves[1]
    assert [entry["epoch"] for entry in curves[0]] == [1, 2, 3]

    # and a training that is finished gives the same weights again, without another step
    again = Training(cohort, tmp_path / "cut", tmp_path / "cache", seed=5)
    again.run()
    assert again.trainer.state.iteration == 9
    assert all(torch.equal(value, again.network.state_dict()[key]) for key, value in expected.items())

    check_final_weights(straight, tmp_path / "straight")


def test_curve_of_an_interrupted_training_has_every_epoch_once(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"

    def train(start: int, losses: list[float]) -> None:
        engine = Engine(lambda engine, batch: {"loss": torch.tensor(losses[engine.state.epoch - 1])})
        # what a checkpoint brings back
        engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "epoch", start))
        FinalWeights(nn.Linear(1, 1), [], tmp_path, recalibration_batches=0).attach(engine)  # type: ignore[arg-type]
        engine.run([0], max_epochs=len(losses))

    train(0, [1.0, 0.5, 0.25])
    # killed between the note of epoch 3 and its checkpoint, and while it wrote a fourth line
    with curve.open("a") as file:
        file.write('{"epoch": 4, "lo')
    train(2, [0.0, 0.0, 0.3, 0.2])
    entries = [json.loads(line) for line in curve.read_text().splitlines()]
    assert [(entry["epoch"], round(entry["loss"], 3)) for entry in entries] == [(1, 1.0), (2, 0.5), (3, 0.3), (4, 0.2)]
    train(0, [0.75])  # killed before its first checkpoint: from the beginning
    assert [json.loads(line)["epoch"] for line in curve.read_text().splitlines()] == [1]


def test_final_weights_of_one_of_several_processes(tmp_path: Path) -> None:
    def alone(engine: Engine, batch: int) -> None:
        raise AssertionError("this process would wait for the others for ever")

    evaluator = Engine(alone)
    evaluator.state.metrics["val_mae"] = 0.25
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    FinalWeights(
        nn.Linear(1, 1),
        [],
        tmp_path,
        evaluator=evaluator,
        revalidate=False,
        recalibration_batches=0,  # type: ignore[arg-type]
    ).attach(engine)
    engine.run([0], max_epochs=1)
    assert json.loads((tmp_path / "curve.jsonl").read_text()) == {"epoch": 1, "loss": 1.0, "val_mae": 0.25}
    assert json.loads((tmp_path / "training.json").read_text())["validation"] == {}


def check_final_weights(training: Training, folder: Path) -> None:
    """What the end of a training leaves."""
    operator = DoseOperator(in_channels=2, skeleton="physics", dose_fraction=0.2)
    load_weights(operator, folder / "model.pt", operator="ph2l")
    with pytest.raises(WeightsError, match="got those of ph2l"):
        load_weights(operator, folder / "model.pt", operator="pl2h")
    images = torch.rand(1, 2, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(operator.eval()(images), training.network.eval()(images), atol=2e-3, rtol=0)
    record = json.loads((folder / "training.json").read_text())
    assert record["operator"] == "ph2l"
    assert (record["epochs"], record["iterations"]) == (3, 9)
    assert record["sha256"] == file_sha256(folder / "model.pt")
    assert record["slices_per_second"] > 0
    assert record["torch"] == torch.__version__
    assert record["validation"]["val_mae"] == pytest.approx(training.evaluator.state.metrics["val_mae"])


def test_recalibration_gives_the_statistics_of_the_final_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [{"image": 3.0 + torch.rand(4, 2, 8, 8)} for _ in range(3)]
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(batch)})

    class Loader:
        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            return iter(batches)

    kept = FinalWeights(network, Loader(), tmp_path, recalibration_batches=0)  # type: ignore[arg-type]
    kept.attach(engine)
    engine.run([0.75, 0.25], max_epochs=2)
    assert network[0].running_mean.tolist() == [0.0, 0.0]
    FinalWeights(network, Loader(), tmp_path, recalibration_batches=2)(engine)  # type: ignore[arg-type]
    means = torch.stack([batch["image"].mean(dim=(0, 2, 3)) for batch in batches[:2]]).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, means)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["validation"] == {}
    assert record["slices_per_second"] is None
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.5}]
