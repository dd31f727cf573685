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
"""Evaluation study by study: what one study does wrong stays with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, ConcatItemsd, LoadImaged
from torch import Tensor

from monai_lipcar.data import Study
from monai_lipcar.engines import StudyDataset, StudyEvaluator, collate_study, prepare_study
from monai_lipcar.errors import StudyError
from monai_lipcar.inferers import OperatorInferer
from monai_lipcar.physics import Acquisition


def preprocessing() -> Compose:
    keys = ["pre", "low", "high"]
    load = LoadImaged(keys, image_only=True, ensure_channel_first=True, allow_missing_keys=True)
    return Compose([load, ConcatItemsd(["pre", "low"], name="image"), lambda data: {**data, "scale": 100.0}])


class Recorder:
    """Notes what each iteration leaves in the state."""

    def __init__(self) -> None:
        self.iterations: list[dict[str, Any]] = []

    def attach(self, engine: StudyEvaluator) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: StudyEvaluator) -> None:
        state: Any = engine.state
        names = ("study", "error", "record", "output", "seconds")
        self.iterations.append({name: getattr(state, name) for name in names} | {"batch": state.batch})


def evaluate(
    studies: Sequence[Study], network: Any, transform: Any = None, postprocessing: Any = None
) -> list[dict[str, Any]]:
    dataset = StudyDataset(studies, preprocessing() if transform is None else transform)
    recorder = Recorder()
    StudyEvaluator(
        device="cpu",
        val_data_loader=DataLoader(dataset, batch_size=1, collate_fn=collate_study),
        network=network,
        inferer=OperatorInferer(),
        postprocessing=postprocessing,
        val_handlers=[recorder],
    ).run()
    return recorder.iterations


class Difference(torch.nn.Module):
    """low - pre, after which one study may fail."""

    def __init__(self, fails_at: float | None = None) -> None:
        super().__init__()
        self.fails_at = fails_at

    def forward(self, slices: Tensor) -> Tensor:
        if self.fails_at is not None and slices.mean() == self.fails_at:
            raise RuntimeError("out of memory, say")
        return slices[:, 1:] - slices[:, :1]


def test_a_study_is_computed_and_described(cohort: list[Study]) -> None:
    iterations = evaluate(cohort, Difference())
    assert [iteration["study"].study_id for iteration in iterations] == ["sub-00", "sub-01", "sub-02"]
    for iteration in iterations:
        assert iteration["error"] is None
        assert iteration["seconds"] > 0
        assert iteration["record"]["scale"] == 100.0
        prediction, batch = iteration["output"][0]["pred"], iteration["batch"][0]
        assert isinstance(prediction, MetaTensor)
        assert prediction.shape == (1, 32, 32, 4)
        assert prediction.pixdim.tolist() == [1.0, 1.0, 5.0]
        torch.testing.assert_close(prediction.as_tensor(), (batch["low"] - batch["pre"]).as_tensor())


def test_preparation_is_said_before_it_begins(cohort: list[Study], caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    def transform(data: dict[str, Any]) -> dict[str, Any]:
        said.append(caplog.messages[-1])
        return data

    dataset = StudyDataset(cohort, transform)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "monai_lipcar.engines.study"):
        for index in range(len(cohort)):
            dataset[index]
    assert said == [
        f"preparing study sub-0{index} ({index + 1} of 3): loading its volumes, registration, intensities"
        for index in range(3)
    ]


def spoil(study: Study, tmp_path: Path, how: str) -> tuple[Study, str]:
    """A study that cannot be used, and what is said of it."""
    members = dict(study.members)
    if how == "missing":
        del members["low"]
        return Study(
            study.study_id, members
        ), "study sub-01, low: the volume is missing; there is high, pre; add low.nii.gz"
    broken = tmp_path / "low.nii.gz"
    broken.write_bytes(members["low"].read_bytes()[:500] if how == "truncated" else b"")
    members["low"] = broken
    return Study(study.study_id, members), "study sub-01, low.nii.gz: "


@pytest.mark.parametrize("how", ["missing", "truncated", "empty"])
def test_a_study_that_cannot_be_prepared(cohort: list[Study], tmp_path: Path, how: str) -> None:
    bad, message = spoil(cohort[1], tmp_path, how)
    iterations = evaluate([cohort[0], bad, cohort[2]], Difference())
    assert [iteration["error"] is None for iteration in iterations] == [True, False, True]
    assert isinstance(iterations[1]["error"], StudyError)
    assert str(iterations[1]["error"]).startswith(message)
    assert "\n" not in str(iterations[1]["error"])
    assert iterations[1]["output"] == {}
    assert iterations[2]["output"][0]["pred"].shape == (1, 32, 32, 4)


def test_a_study_that_fails_in_the_network(cohort: list[Study]) -> None:
    volumes = [preprocessing()(study.to_dict())["image"] for study in cohort]
    iterations = evaluate(cohort, Difference(fails_at=volumes[1].movedim(-1, 0).as_tensor().mean()))
    assert [iteration["error"] is None for iteration in iterations] == [True, False, True]
    assert "study sub-01: the study cannot be processed: RuntimeError: out of memory, say" in str(
        iterations[1]["error"]
    )


def test_a_study_that_fails_in_a_transform_that_says_why(cohort: list[Study]) -> None:
    def refuse(data: dict[str, Any]) -> dict[str, Any]:
        if data["study_id"] == "sub-02":
            raise StudyError("pre and low are swapped", member="pre", advice="swap them")
        return data

    iterations = evaluate(cohort, Difference(), transform=Compose([preprocessing(), refuse]))
    assert str(iterations[2]["error"]) == "study sub-02, pre: pre and low are swapped; swap them"
    assert iterations[0]["error"] is iterations[1]["error"] is None


def test_a_study_that_fails_in_postprocessing(cohort: list[Study]) -> None:
    def postprocess(data: dict[str, Any]) -> dict[str, Any]:
        if data["high"].max() == preprocessing()(cohort[0].to_dict())["high"].max():
            raise ValueError("no units to go back to")
        return data

    iterations = evaluate(cohort, Difference(), postprocessing=postprocess)
    assert "study sub-00: the study cannot be processed: ValueError: no units" in str(iterations[0]["error"])
    assert iterations[0]["output"] == {}
    assert iterations[1]["error"] is iterations[2]["error"] is None


def test_interrupting_is_no_failure_of_a_study(cohort: list[Study]) -> None:
    def interrupt(data: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(cohort, Difference(), transform=interrupt)


def test_studies_come_one_at_a_time(cohort: list[Study]) -> None:
    dataset = StudyDataset(cohort, preprocessing())
    with pytest.raises(ValueError, match="expected batch_size=1, got 2 studies"):
        collate_study([dataset[0], dataset[1]])
    batch = collate_study([dataset[0]])
    assert batch["image"].shape == (1, 2, 32, 32, 4)
    assert batch["record"]["study"] is cohort[0]


def test_required_members(cohort: list[Study]) -> None:
    without = Study("sub-00", {name: path for name, path in cohort[0].members.items() if name != "high"})
    assert "error" not in StudyDataset([without])[0]["record"]
    error = StudyDataset([without], required=("pre", "high"))[0]["record"]["error"]
    assert str(error).startswith("study sub-00, high: the volume is missing")


def with_bad_high(study: Study, tmp_path: Path, how: str) -> Study:
    """The study with a full dose that cannot be used, in a file that is not called after it."""
    path = tmp_path / "T1c.nii.gz"
    if how == "damaged":
        path.write_bytes(study.members["high"].read_bytes()[:500])
    return Study(study.study_id, {**study.members, "high": path})


@pytest.mark.parametrize(
    ("how", "reason"),
    [("gone", "T1c.nii.gz does not exist; correct the path"), ("damaged", "the file cannot be read: ")],
)
def test_a_member_that_is_only_to_score_is_left_out(cohort: list[Study], tmp_path: Path, how: str, reason: str) -> None:
    study = with_bad_high(cohort[0], tmp_path, how)
    prepared = prepare_study(study, preprocessing(), optional=("high", "lesion"))
    assert {"pre", "low", "image"} <= prepared.keys()
    assert "high" not in prepared
    (warning,) = prepared["warnings"]
    assert "(T1c.nii.gz)" in warning or warning.startswith("high was left out")
    assert f"was left out, and with it the metrics that need it: {reason}" in warning
    assert str(tmp_path) not in warning  # warnings become part of results
    for options in ({}, {"optional": ("lesion",)}, {"required": ("low", "high"), "optional": ("high",)}):
        with pytest.raises(StudyError, match="study sub-00, high"):
            prepare_study(study, preprocessing(), **options)  # type: ignore[arg-type]


def test_a_member_that_is_there_twice_is_left_out(cohort: list[Study]) -> None:
    problem = StudyError("expected one volume, found high.nii, high.nii.gz", study="sub-00", member="high")
    members = {name: path for name, path in cohort[0].members.items() if name != "high"}
    study = Study("sub-00", members, (problem,))
    assert prepare_study(study, preprocessing(), optional=("high",))["warnings"] == [
        "high was left out, and with it the metrics that need it: expected one volume, found high.nii, high.nii.gz"
    ]
    with pytest.raises(StudyError, match="found high.nii, high.nii.gz"):
        prepare_study(study, preprocessing())


def test_the_fault_of_another_member_is_never_blamed_on_the_optional_one(cohort: list[Study], tmp_path: Path) -> None:
    bad, message = spoil(cohort[1], tmp_path, "truncated")
    bad = with_bad_high(bad, tmp_path, "damaged")
    with pytest.raises(StudyError, match=message):
        prepare_study(bad, preprocessing(), optional=("high", "lesion"))


def test_a_study_that_was_acquired_otherwise_than_the_run_says(cohort: list[Study]) -> None:
    acquisitions = [Acquisition(0.2), Acquisition(0.1, flip_angle_deg=20.0), None]
    studies = [replace(study, acquisition=item) for study, item in zip(cohort, acquisitions, strict=True)]
    dataset = StudyDataset(studies, preprocessing(), acquisition=Acquisition(0.2))
    errors = [dataset[index]["record"].get("error") for index in range(3)]
    assert errors[0] is None
    assert errors[2] is None
    message = (
        "study sub-01: expected .* set to, dose_fraction 0.2; the study says 0.1, flip_angle_deg None; the study says"
    )
    assert re.search(message, str(errors[1]))
    assert "this one with dose_fraction 0.1, flip_angle_deg 20.0" in str(errors[1])
