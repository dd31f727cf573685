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
"""The MONAI metrics: each against the function it stands for, in every way MONAI calls them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler
from torch import Tensor

from monai_lipcar import metrics
from monai_lipcar.metrics import (
    ContrastEnhancementPercentageMetric,
    ContrastToNoiseMetric,
    EnhancementBiasMetric,
    EnhancementRecoveryMetric,
    EnhancementSlopeMetric,
    FalseEnhancementMetric,
    HeadPSNRMetric,
    HeadSSIMMetric,
    LesionToBrainRatioMetric,
    MissedEnhancementMetric,
    StudyMetric,
    study_metrics,
)

SPACING = (1.0, 1.0, 5.0)
"""Slices on the last axis, as MONAI has them."""
METRICS: list[tuple[StudyMetric, str]] = [
    (HeadSSIMMetric(), "ssim_head"),
    (HeadPSNRMetric(), "psnr_head"),
    (EnhancementRecoveryMetric(), "enhancement_recovery"),
    (FalseEnhancementMetric(), "false_enhancement_per_cm3"),
    (FalseEnhancementMetric("per_cm3", "small"), "false_enhancement_per_cm3_small"),
    (FalseEnhancementMetric("diameter_mm"), "false_enhancement_mm"),
    (FalseEnhancementMetric("lesion_like"), "false_enhancement_3mm"),
]
for size in ("all", "small", "large"):
    ending = "" if size == "all" else f"_{size}"
    METRICS += [
        (ContrastToNoiseMetric(size), f"cnr_lesion{ending}"),
        (LesionToBrainRatioMetric(size), f"lbr_lesion{ending}"),
        (ContrastEnhancementPercentageMetric(size), f"cep_lesion{ending}"),
        (EnhancementSlopeMetric(size), f"enhancement_slope_lesion{ending}"),
        (EnhancementBiasMetric(size), f"enhancement_bias_lesion{ending}"),
        (MissedEnhancementMetric(size), f"missed_lesions{ending}"),
    ]


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    """Two heads of 48x48 pixels and 3 slices: two lesions, one of them missed in the second; something invented."""
    generator = torch.Generator().manual_seed(0)
    head = torch.zeros(2, 1, 48, 48, 3)
    head[:, :, 3:45, 3:45] = 1
    lesion = torch.zeros_like(head)
    lesion[:, :, 20:29, 20:28, 1] = 1
    lesion[:, :, 36:39, 10:14, 1] = 1
    pre = head * (0.3 + 0.01 * torch.randn(head.shape, generator=generator))
    high = pre + 0.2 * lesion * (1 + torch.rand(head.shape, generator=generator))
    simulated = pre + 0.8 * (high - pre)
    simulated[0, :, 8:12, 30:35, 0] += 0.2
    simulated[1, :, 36:39, 10:14, 1] = pre[1, :, 36:39, 10:14, 1]
    return {"simulated": simulated, "high": high, "pre": pre, "lesion": lesion, "head": head}


@pytest.fixture(scope="module")
def tables(batch: dict[str, Tensor]) -> list[dict[str, float]]:
    """What study_metrics says of each."""
    result = []
    for index in range(2):
        volumes = {name: volume[index, 0].movedim(-1, 0) for name, volume in batch.items()}
        head, lesion = volumes["head"] > 0.5, volumes["lesion"] > 0.5
        images = {"simulated": volumes["simulated"]}
        table = study_metrics(images, volumes["high"], head, volumes["pre"], lesion, (5.0, 1.0, 1.0))
        result.append(table["simulated"])
    return result


def members(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("pre", "lesion", "head")}


@pytest.mark.parametrize(("metric", "name"), METRICS, ids=[name for _, name in METRICS])
def test_each_is_the_row_of_study_metrics(
    metric: StudyMetric, name: str, batch: dict[str, Tensor], tables: list[dict[str, float]]
) -> None:
    metric.reset()
    values = metric(batch["simulated"], batch["high"], spacing=SPACING, **members(batch))
    assert values.shape == (2, 1)
    expected = [table[name] for table in tables]
    assert values.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected), rel=1e-5)  # type: ignore[union-attr]
    metric.reset()
    assert metric.get_buffer() is None


@pytest.mark.parametrize(("metric", "name"), METRICS, ids=[name for _, name in METRICS])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_measured(
    metric: StudyMetric, name: str, value: float, batch: dict[str, Tensor], tables: list[dict[str, float]]
) -> None:
    simulated = batch["simulated"].clone()
    simulated[1, 0, 22, 22, 1] = value
    metric.reset()
    first, second = metric(simulated, batch["high"], spacing=SPACING, **members(batch)).flatten().tolist()
    metric.reset()
    assert first == pytest.approx(tables[0][name], rel=1e-5)
    assert np.isnan(second)


def test_the_scene_has_what_the_metrics_are_about(tables: list[dict[str, float]]) -> None:
    assert [table["missed_lesions"] for table in tables] == [0.0, 0.5]
    assert [table["missed_lesions_small"] for table in tables] == [0.0, 1.0]
    assert [table["false_enhancement_3mm"] for table in tables] == [1.0, 0.0]
    assert tables[0]["enhancement_slope_lesion"] == pytest.approx(0.8, rel=1e-4)


def test_lists_of_images_and_of_members(batch: dict[str, Tensor], tables: list[dict[str, float]]) -> None:
    expected = [table["cep_lesion"] for table in tables]
    metric = ContrastEnhancementPercentageMetric()
    lists: dict[str, Any] = {name: list(volume) for name, volume in members(batch).items()}
    found = metric(list(batch["simulated"]), list(batch["high"]), spacing=[SPACING, SPACING], **lists)
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    found = metric(batch["simulated"], batch["high"], spacing=SPACING, **lists)
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    none = {**lists, "head": None}
    by_itself = metric(list(batch["simulated"]), list(batch["high"]), spacing=[SPACING, SPACING], **none)
    assert torch.equal(by_itself, metric(batch["simulated"], batch["high"], spacing=SPACING, **{**lists, "head": None}))
    with pytest.raises(ValueError, match="expected as many acquired as simulated images, got 1"):
        metric(list(batch["simulated"]), list(batch["high"][:1]), **lists)


def test_members_as_channels_of_y_through_an_ignite_handler(
    batch: dict[str, Tensor], tables: list[dict[str, float]]
) -> None:
    affine = np.diag([*SPACING, 1.0])
    together = torch.cat([batch[name] for name in ("high", "pre", "lesion", "head")], dim=1)
    output = [
        {"pred": simulated, "members": MetaTensor(volumes, affine=affine)}
        for simulated, volumes in zip(batch["simulated"], together, strict=True)
    ]
    evaluator = Engine(lambda engine, one: [one])
    channels = ("high", "pre", "lesion", "head")
    for name, metric in (
        ("missed", MissedEnhancementMetric("small", channels=channels)),
        ("false", FalseEnhancementMetric("diameter_mm", channels=channels)),
    ):
        IgniteMetricHandler(
            metric, output_transform=lambda out: ([one["pred"] for one in out], [one["members"] for one in out])
        ).attach(evaluator, name)
    evaluator.state.metric_details = {}
    state = evaluator.run(output)
    assert state.metrics["missed"] == pytest.approx(0.5)
    assert state.metrics["false"] == pytest.approx(tables[0]["false_enhancement_mm"] / 2)
    assert evaluator.state.metric_details["missed"].flatten().tolist() == [0.0, 1.0]


def test_millimeters_from_the_affine_the_argument_and_the_call(batch: dict[str, Tensor]) -> None:
    simulated, high = batch["simulated"][:1], batch["high"][:1]
    others = {name: volume[:1] for name, volume in members(batch).items()}

    def diameter(target: Tensor, spacing: Any = None, **options: Any) -> float:
        keywords = others if spacing is None else {**others, "spacing": spacing}
        return float(FalseEnhancementMetric("diameter_mm", **options)(simulated, target, **keywords))

    unit = 2 * math.sqrt(20 / math.pi)
    affine = torch.diag(torch.tensor([0.5, 0.5, 4.0, 1.0]))
    assert diameter(high, slice_axis=2) == pytest.approx(unit)
    assert diameter(MetaTensor(high, affine=affine)) == pytest.approx(unit / 2)
    assert diameter(MetaTensor(high, affine=affine[None])) == pytest.approx(unit / 2)
    assert diameter(MetaTensor(high, affine=affine), spacing=[3.0, 3.0, 9.0]) == pytest.approx(3 * unit)
    assert diameter(high, spacing=2.0, slice_axis=-1) == pytest.approx(2 * unit)
    assert diameter(high, spacing=[[2.0, 2.0, 5.0]]) == pytest.approx(2 * unit)
    # slices on another axis
    simulated, others = simulated.movedim(-1, 2), {name: volume.movedim(-1, 2) for name, volume in others.items()}
    assert diameter(high.movedim(-1, 2), spacing=[5.0, 2.0, 2.0]) == pytest.approx(2 * unit)


def test_a_batch_of_single_slices(batch: dict[str, Tensor]) -> None:
    flat = {name: volume[..., 0] for name, volume in batch.items()}
    metric = FalseEnhancementMetric("diameter_mm", spacing=(0.5, 0.5))
    values = metric(flat["simulated"], flat["high"], pre=flat["pre"], head=flat["head"])
    assert values.flatten().tolist() == pytest.approx([math.sqrt(20 / math.pi), 0.0])


def test_without_a_head_it_is_found(batch: dict[str, Tensor]) -> None:
    with_head = HeadPSNRMetric()(batch["simulated"], batch["high"], head=batch["head"])
    found = HeadPSNRMetric()(batch["simulated"], batch["high"])
    assert found.flatten().tolist() == pytest.approx(with_head.flatten().tolist(), abs=0.05)


def test_images_without_lesions_are_left_out(batch: dict[str, Tensor], tables: list[dict[str, float]]) -> None:
    lesion = batch["lesion"].clone()
    lesion[1] = 0
    metric = LesionToBrainRatioMetric(get_not_nans=True)
    arguments: dict[str, Any] = {"pre": batch["pre"], "head": batch["head"], "spacing": SPACING}
    values = metric(batch["simulated"], batch["high"], lesion=lesion, **arguments)
    assert values[1].isnan().all()
    for _ in range(2):  # MONAI's own reduction overwrites the buffer
        value, count = metric.aggregate()
        assert value.item() == pytest.approx(tables[0]["lbr_lesion"], rel=1e-5)
        assert count.item() == 1
    metric.reset()
    metric(batch["simulated"], batch["high"], lesion=0 * lesion, **arguments)
    assert metric.aggregate()[0].isnan()
    empty = HeadSSIMMetric()(batch["simulated"], batch["high"], head=0 * lesion)
    assert empty.isnan().all()


def test_refusals(batch: dict[str, Tensor]) -> None:
    simulated, high = batch["simulated"], batch["high"]
    with pytest.raises(ValueError, match="MissedEnhancementMetric needs pre: as a keyword, or as a channel of y"):
        MissedEnhancementMetric()(simulated, high, lesion=batch["lesion"])
    with pytest.raises(ValueError, match=r"expected pre, lesion, head or spacing, got low"):
        HeadPSNRMetric()(simulated, high, low=high)
    with pytest.raises(ValueError, match=r"has \(2, 1, 48, 48, 3\), head has \(2, 1, 48, 48\)"):
        HeadPSNRMetric()(simulated, high, head=batch["head"][..., 0])
    with pytest.raises(ValueError, match="expected the channels high, head in y, got 1 channels"):
        HeadPSNRMetric(channels=("high", "head"))(simulated, high)
    with pytest.raises(ValueError, match="the acquired image y is missing"):
        HeadPSNRMetric()(simulated)
    with pytest.raises(ValueError, match="expected channels of high, pre, lesion, head, with high, got pre"):
        HeadPSNRMetric(channels=("pre",))
    with pytest.raises(ValueError, match="expected a size of all, small, large, got 'tiny'"):
        MissedEnhancementMetric("tiny")
    with pytest.raises(ValueError, match="expected a value of per_cm3, diameter_mm, lesion_like, got 'share'"):
        FalseEnhancementMetric("share")
    with pytest.raises(ValueError, match="expected a size"):
        FalseEnhancementMetric("lesion_like", "small")
    with pytest.raises(ValueError, match="there is nothing to aggregate: the metric was not called"):
        HeadPSNRMetric().aggregate()


def test_every_metric_is_tested() -> None:
    classes = {name for name in metrics.__all__ if name.endswith("Metric")} - {"StudyMetric"}
    assert classes == {type(metric).__name__ for metric, _ in METRICS}
