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
from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    OneOf,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    Transform,
)

from monai_lipcar.data.slices import SliceDataset, SliceSampler
from monai_lipcar.data.studies import Study, find_studies
from monai_lipcar.errors import ConfigurationError

KEYS = ("pre", "low", "high")


class Count(Transform):
    """Counts the studies that pass through preprocessing, without being part of its configuration."""

    calls: Counter[str] = Counter()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        Count.calls[data["study_id"]] += 1
        return data


@pytest.fixture(autouse=True)
def _reset_count() -> None:
    Count.calls.clear()


def _load(*further: Any) -> Compose:
    return Compose([Count(), LoadImaged(KEYS, image_only=True, ensure_channel_first=True), *further])


def _augment() -> Compose:
    noise = RandGaussianNoised(("low",), prob=0.9, std=0.1)
    contrast = RandAdjustContrastd(("pre", "high"), prob=0.9)
    return Compose([RandFlipd(KEYS, prob=0.5, spatial_axis=0), OneOf([noise, contrast])])


@pytest.fixture
def cohort(tmp_path: Path, write_study) -> Path:
    for number in range(3):
        write_study(tmp_path / "data" / f"s-{number}", seed=number)
    return tmp_path / "data"


def _dataset(cohort: Path, preprocessing: Any = None, **options: Any) -> SliceDataset:
    options.setdefault("cache_dir", cohort.parent / "cache")
    return SliceDataset(find_studies(cohort), preprocessing or _load(), KEYS, **options)


def _batches(dataset: SliceDataset, epoch: int, workers: int, **options: Any) -> list[dict[str, Any]]:
    sampler = SliceSampler(dataset, seed=3)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers, **options))


def _assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one["study_id"] == other["study_id"]
        assert torch.equal(one["slice_index"], other["slice_index"])
        for key in KEYS:
            assert torch.equal(one[key], other[key])


def test_samples_are_the_slices_of_the_volumes(cohort: Path) -> None:
    dataset = _dataset(cohort)
    assert len(dataset) == 3 * 4  # slices 1 to 4 of 6 have foreground
    volumes = {study.study_id: _load()(study.to_dict()) for study in find_studies(cohort)}
    seen = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        study_id, place = sample["study_id"], sample["slice_index"]
        seen.add((study_id, place))
        for key in KEYS:
            assert type(sample[key]) is torch.Tensor
            assert sample[key].dtype == torch.float32
            assert sample[key].shape == (1, 16, 16)
            # the slices are on axis 1; float16 has 11 bits
            expected = volumes[study_id][key].numpy()[:, :, place, :]
            np.testing.assert_allclose(sample[key].numpy(), expected, rtol=5e-4, atol=1e-7)
    assert seen == {(f"s-{number}", place) for number in range(3) for place in (1, 2, 3, 4)}


def test_indices_like_a_sequence(cohort: Path) -> None:
    dataset = _dataset(cohort)
    assert dataset[-1]["study_id"] == "s-2"
    assert dataset[-1]["slice_index"] == dataset[11]["slice_index"] == 4
    for index in (12, -13):
        with pytest.raises(IndexError, match="below 12"):
            dataset[index]


def test_min_foreground_and_usable_slices_decide_what_is_kept(cohort: Path) -> None:
    assert len(_dataset(cohort, min_foreground=0.0)) == 18
    assert len(_dataset(cohort, min_foreground=0.24)) == 12  # the block is a quarter of its slices
    assert Count.calls.total() == 3  # another limit does not mean another preprocessing
    with pytest.raises(ConfigurationError, match="no slice to train on in 3 studies: study s-0: none of its 6 slices"):
        _dataset(cohort, min_foreground=0.26)

    def mark(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "usable_slices": [True, True, False, False, True, True]}

    marked = _dataset(cohort, _load(mark))
    assert {marked[index]["slice_index"] for index in range(len(marked))} == {1, 4}


def test_second_start_does_not_preprocess(cohort: Path) -> None:
    preprocessing = _load()
    first = _dataset(cohort, preprocessing)
    assert Count.calls == {"s-0": 1, "s-1": 1, "s-2": 1}
    second = _dataset(cohort)
    _dataset(cohort, preprocessing)
    assert Count.calls.total() == 3
    _assert_same(_batches(first, 0, 0), _batches(second, 0, 0))


def test_changed_study_is_preprocessed_again(cohort: Path, write_study) -> None:
    before = _dataset(cohort)[4]
    write_study(cohort / "s-1", seed=7)
    os.utime(cohort / "s-1" / "pre.nii.gz", ns=(1, 1))  # whatever the resolution of the clock
    after = _dataset(cohort)[4]
    assert Count.calls == {"s-0": 1, "s-1": 2, "s-2": 1}
    assert before["study_id"] == after["study_id"] == "s-1"
    assert not torch.equal(before["pre"], after["pre"])


def test_other_preprocessing_has_its_own_cache(cohort: Path) -> None:
    plain = _dataset(cohort)
    doubled = _dataset(cohort, _load(Lambdad("low", func=lambda image: 2 * image)))
    tripled = _dataset(cohort, _load(Lambdad("low", func=lambda image: 3 * image)))
    assert Count.calls.total() == 9
    torch.testing.assert_close(doubled[0]["low"], 2 * plain[0]["low"], rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(tripled[0]["low"], 3 * plain[0]["low"], rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(_dataset(cohort)[0]["low"], plain[0]["low"], rtol=0, atol=0)
    assert Count.calls.total() == 9


def test_every_slice_once_an_epoch_shuffled_across_studies(cohort: Path) -> None:
    dataset = _dataset(cohort)
    orders = []
    for epoch in (1, 2):
        batches = _batches(dataset, epoch, 0)
        studies = [study for batch in batches for study in batch["study_id"]]
        places = [int(place) for batch in batches for place in batch["slice_index"]]
        orders.append(list(zip(studies, places, strict=True)))
        assert len(orders[-1]) == len(set(orders[-1])) == len(dataset)
    assert orders[0] != orders[1]
    assert len({study for study, _ in orders[0][:6]}) > 1


def test_workers_do_not_change_batches(cohort: Path) -> None:
    dataset = _dataset(cohort, transform=_augment(), seed=1)
    alone = _batches(dataset, 2, 0)
    _assert_same(alone, _batches(dataset, 2, 2))
    _assert_same(alone, _batches(_dataset(cohort, transform=_augment(), seed=1), 2, 0))
    other = _batches(dataset, 3, 0)
    assert not torch.equal(alone[0]["low"], other[0]["low"])


def test_workers_that_stay_alive_see_the_new_epoch(cohort: Path) -> None:
    dataset = _dataset(cohort, transform=_augment())
    sampler = SliceSampler(dataset, seed=3)
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        kept = list(loader)
        _assert_same(kept, _batches(dataset, epoch, 0))


def test_augmentation_depends_on_seed_epoch_and_index_only(cohort: Path) -> None:
    dataset = _dataset(cohort, transform=RandGaussianNoised(KEYS, prob=1.0))
    plain = _dataset(cohort)

    def noise(index: int, epoch: int, of: SliceDataset = dataset) -> torch.Tensor:
        of.set_epoch(epoch)
        return of[index]["pre"] - plain[index]["pre"]

    first = noise(5, 1)
    noise(3, 1)  # drawing others in between changes nothing
    assert torch.equal(noise(5, 1), first)
    different = [
        noise(5, 2),
        noise(6, 1),
        noise(5, 1, _dataset(cohort, transform=RandGaussianNoised(KEYS, 1.0), seed=1)),
    ]
    assert all(not torch.allclose(other, first, atol=1e-3) for other in different)


def test_transform_may_be_a_list_or_any_callable(cohort: Path) -> None:
    dataset = _dataset(cohort, list(_load().transforms), transform=[Count()])
    assert dataset[0]["pre"].shape == (1, 16, 16)
    assert _dataset(cohort, transform=lambda sample: sample["slice_index"])[0] == 1


def test_bad_studies_are_left_out_and_listed(cohort: Path, write_study, caplog: pytest.LogCaptureFixture) -> None:
    (cohort / "s-0" / "low.nii.gz").unlink()
    truncated = cohort / "s-1" / "high.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    write_study(cohort / "s-3", side=20)
    (cohort / "s-3" / "low.nii.gz").write_bytes((cohort / "s-2" / "low.nii.gz").read_bytes())
    with caplog.at_level(logging.ERROR):
        dataset = _dataset(cohort)
    assert {dataset[index]["study_id"] for index in range(len(dataset))} == {"s-2"}
    messages = [str(failure) for failure in dataset.failures]
    assert messages[0].startswith("study s-0, low: the volume is missing")
    assert messages[1].startswith("study s-1, high.nii.gz: the file cannot be read")
    assert messages[2].startswith("study s-3: expected volumes of one shape (1, X, Y, Z), got {'pre': (1, 20, 6, 20)")
    assert [record.getMessage() for record in caplog.records] == [f"{message} (study left out)" for message in messages]


def _spoil(value: float):
    def spoil(data: dict[str, Any]) -> dict[str, Any]:
        data["low"][0, 3, 3, 3] = value
        return data

    return spoil


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (_spoil(float("nan")), "study s-0, low: expected finite values below 65504 after preprocessing"),
        (_spoil(1e5), r"study s-0, low: .* got values from .* to 100000; look for NaN in the volume; scale"),
        (lambda data: {**data, "usable_slices": [True]}, "expected a usable_slices flag for each of 6 slices"),
        (lambda data: {"study_id": data["study_id"], "pre": data["pre"]}, "the preprocessing left no low, high"),
        (lambda data: {**data, "pre": data["pre"][:, 0]}, r"got \{'pre': \(1, 6, 16\)"),
        (lambda data: data["nothing"], "study s-0: the study cannot be processed: KeyError"),
    ],
)
def test_what_preprocessing_must_not_return(transform: Any, message: str, cohort: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _dataset(cohort, _load(transform))
    assert list((cohort.parent / "cache").iterdir()) == []


Seen = list[tuple[str, int, float]]


def _two_at_once(cohort: Path, cache_dir: Path, attempts: int) -> list[tuple[Seen, int]]:
    """For each attempt the samples that both of two processes saw, and how many studies they preprocessed together."""
    processes = multiprocessing.get_context("fork")
    results: list[tuple[Seen, int]] = []
    for attempt in range(attempts):
        start, answers = processes.Barrier(2), processes.SimpleQueue()

        def construct(rank: int, attempt: int, start: Any, answers: Any) -> None:
            def unsteady(data: dict[str, Any]) -> dict[str, Any]:
                # no two processes agree on which slices are usable, as registration may differ in the last bit
                usable = [index != os.getpid() % 4 + 1 for index in range(6)]
                return {**data, "usable_slices": usable, "low": data["low"] * 0 + os.getpid() % 1000}

            start.wait()
            dataset = _dataset(cohort, _load(unsteady), cache_dir=cache_dir / str(attempt), rank=rank, num_replicas=2)
            seen = [
                (dataset[i]["study_id"], dataset[i]["slice_index"], float(dataset[i]["low"].max()))
                for i in range(len(dataset))
            ]
            answers.put((seen, Count.calls.total(), len(dataset.failures)))

        pair = [processes.Process(target=construct, args=(rank, attempt, start, answers)) for rank in (0, 1)]
        for process in pair:
            process.start()
        for process in pair:
            process.join(60)
            assert process.exitcode == 0
        (one, calls, failures), (other, more_calls, more_failures) = answers.get(), answers.get()
        assert one == other
        assert failures == more_failures == 0
        results.append((one, calls + more_calls))
    return results


def test_two_processes_that_build_the_same_cache(cohort: Path, tmp_path: Path) -> None:
    results = _two_at_once(cohort, tmp_path / "caches", attempts=20)
    for seen, calls in results:
        assert {study_id for study_id, *_ in seen} == {"s-0", "s-1", "s-2"}
        assert 3 <= calls <= 6
    assert np.mean([calls for _, calls in results]) < 5  # they share the work
    left = sorted(path.name.split("-")[0] for path in (tmp_path / "caches").glob("*/*"))
    assert left == ["s"] * 60  # three entries each, and no partial one


def test_processes_share_the_preprocessing(cohort: Path) -> None:
    studies = find_studies(cohort)
    order: list[str] = []

    def note(data: dict[str, Any]) -> dict[str, Any]:
        order.append(data["study_id"])
        return data

    second = SliceDataset(studies, _load(note), KEYS, cohort.parent / "cache", rank=1, num_replicas=2)
    assert order == ["s-1", "s-0", "s-2"]
    first = SliceDataset(studies, _load(note), KEYS, cohort.parent / "cache", rank=0, num_replicas=2)
    assert [first[index]["study_id"] for index in range(12)] == [second[index]["study_id"] for index in range(12)]
    assert [first[index]["study_id"] for index in (0, 4, 8)] == ["s-0", "s-1", "s-2"]


def test_nothing_to_do(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no slice to train on in 0 studies"):
        SliceDataset([], _load(), KEYS, tmp_path / "cache")
    study = find_studies(cohort)[0]
    with pytest.raises(ConfigurationError, match="got s-0 more than once"):
        SliceDataset([study, Study("s-0", {})], _load(), KEYS, tmp_path / "cache")


def test_full_disk_stops_the_preparation(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Any, array: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(
        ConfigurationError, match="No space left on device; free space there, or give another cache_dir"
    ):
        _dataset(cohort)
    assert Count.calls.total() == 1


def test_file_handles_do_not_add_up(cohort: Path) -> None:
    dataset = _dataset(cohort)
    samples = [dataset[index % len(dataset)] for index in range(50)]
    mapped = Path("/proc/self/maps")
    if not mapped.exists():
        pytest.skip("needs /proc")
    assert str(cohort.parent / "cache") not in mapped.read_text()
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not any(str(cohort.parent) in target for target in links)
    assert len(samples) == 50


def test_dataset_is_small_and_can_be_sent_to_other_processes(cohort: Path) -> None:
    dataset = _dataset(cohort, _load(Lambdad("low", func=lambda image: image)), transform=_augment())
    assert len(pickle.dumps(dataset)) < 50_000
    assert torch.equal(copy.deepcopy(dataset)[0]["low"], dataset[0]["low"])


def test_works_on_volumes_without_an_affine(cohort: Path) -> None:
    def to_tensors(data: dict[str, Any]) -> dict[str, Any]:
        return {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in data.items()}

    assert _dataset(cohort, _load(to_tensors), min_foreground=0.0)[0]["pre"].shape == (1, 16, 6)


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_replicas_share_the_slices_without_overlap(replicas: int) -> None:
    slices = list(range(12))
    samplers = [SliceSampler(slices, seed=2, rank=rank, num_replicas=replicas) for rank in range(replicas)]
    parts = [list(sampler) for sampler in samplers]
    assert {len(part) for part in parts} == {-(-12 // replicas)}
    counts = Counter(index for part in parts for index in part)
    assert sorted(counts) == slices
    assert counts.total() - 12 == -12 % replicas  # repeated only to make the parts equally long
    samplers[0].set_epoch(1)
    assert list(samplers[0]) != parts[0]
    samplers[0].set_epoch(0)
    assert list(samplers[0]) == parts[0]


def test_trainers_of_monai_set_the_epoch(cohort: Path) -> None:
    from monai.engines import Trainer, Workflow

    sampler = SliceSampler(dataset := _dataset(cohort))
    loader = DataLoader(dataset, batch_size=4, sampler=sampler)
    epochs = []

    def step(engine: Trainer, batch: Any) -> None:
        epochs.append((sampler.epoch, int(dataset._epoch)))

    Workflow(torch.device("cpu"), max_epochs=2, data_loader=loader, iteration_update=step).run()
    assert epochs == [(1, 1)] * 3 + [(2, 2)] * 3
