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
"""Preprocessed slices of the cohorts: what every approach sees, and what it is judged by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data.utils import affine_to_spacing
from monai.transforms import Compose

from monai_lipcar.bundle import bundle_root, reported
from monai_lipcar.data import SliceDataset, Study, slice_axis
from monai_lipcar.transforms import DenoiseSlices

from .cohort import Split
from .masks import AddMasksd
from .settings import Cohort, Settings

__all__ = ["MEMBERS", "Sample", "Slices", "load_sections", "preprocessing"]

logger = logging.getLogger(__name__)

MEMBERS = ("pre", "low", "high", "head", "lesion")
Sample = Mapping[str, Any]


def preprocessing() -> Compose:
    """The bundles' own preprocessing, with unusable slices marked instead of refused."""
    file = f"{bundle_root('ph2l_gentv')}/configs/inference.json"
    config = ConfigParser.load_config_file(file)
    with reported():
        parser = ConfigParser({**config, "registration_policy": "drop", "denoise": "none", "out_of_domain": "ignore"})
        return Compose([parser.get_parsed_content("preprocessing"), AddMasksd()])


@dataclass(frozen=True)
class Slices:
    """Chosen slices of one section, in a seeded random order: the first n of them are a random subset.

    Args:
        anatomy: of the cohort.
        section: ``"test"``, ``"validation"`` or ``"training"``.
        dataset: where they are read from.
        denoise: makes the denoised low dose; keeps what it made on disk.
        indices: of the chosen ones in the data set.
        names: ``<study>:<slice>`` of each.
        spacings: study to the distance in mm of its slices, rows and columns.
        written: how many slices the studies have.
        kept: how many of them are usable: registered, with at least 2 % foreground and some head.
    """

    anatomy: str
    section: str
    dataset: SliceDataset
    denoise: DenoiseSlices
    indices: tuple[int, ...]
    names: tuple[str, ...]
    spacings: Mapping[str, tuple[float, ...]]
    written: int
    kept: int

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, count: int) -> Slices:
        """The first ``count`` of them."""
        fields = {**vars(self), "indices": self.indices[:count], "names": self.names[:count]}
        return Slices(**fields)

    def spacing(self, name: str) -> tuple[float, ...]:
        """Distance in mm of slices, rows and columns of one of the slices."""
        return self.spacings[name.rpartition(":")[0]]

    def load(self, names: Sequence[str], denoised: bool = False) -> list[Sample]:
        """Some of the slices, as float32 tensors (1, H, W) by member.

        Args:
            names: of the slices.
            denoised: with ``denoised``, the low dose after the denoiser (its noise estimated in each slice).
        """
        samples = [self.dataset[self.indices[self.names.index(name)]] for name in names]
        if denoised:
            for sample in samples:
                sample["denoised"] = self.denoise(sample["low"]).as_subclass(torch.Tensor)
        return samples


def choose(pool: Sequence[tuple[int, str]], count: int | None, seed: int) -> list[tuple[int, str]]:
    """A seeded random choice without repetition, in random order; all where ``count`` is None.

    Example:
        >>> chosen = choose(list(enumerate("abcdef")), 3, seed=0)
        >>> chosen == choose(list(enumerate("abcdef")), 5, seed=0)[:3]
        True
    """
    order = np.random.default_rng([seed, len(pool)]).permutation(len(pool))[:count]
    return [pool[index] for index in order]


def load_sections(cohort: Cohort, split: Split, settings: Settings, denoiser: str) -> dict[str, Slices]:
    """Preprocess what is missing of a cohort, and choose its slices.

    The training set counts the validation studies in, as the paper's, a tenth of which validates.
    """
    plans: list[tuple[str, list[Study], int | None]] = [
        ("test", split.test, cohort.test_slices),
        ("validation", split.validation, None),
    ]
    if cohort.training_slices:
        plans.append(("training", [*split.validation, *split.training], cohort.training_slices))
    denoise = DenoiseSlices(denoiser, cache_dir=settings.output / "denoised")  # type: ignore[arg-type]
    return {name: _slices(cohort, name, studies, count, denoise, settings) for name, studies, count in plans}


def _slices(
    cohort: Cohort, section: str, studies: list[Study], count: int | None, denoise: DenoiseSlices, settings: Settings
) -> Slices:
    dataset = SliceDataset(studies, preprocessing(), MEMBERS, settings.output / "slices")
    pool = []
    for index in range(len(dataset)):
        sample = dataset[index]
        if bool(sample["head"].any()):
            pool.append((index, f"{sample['study_id']}:{sample['slice_index']}"))
    pool.sort(key=lambda entry: entry[1])
    chosen = choose(pool, count, settings.seed)
    if count is not None and len(chosen) < count:
        logger.warning("%s, %s: %d usable slices instead of %d", cohort.anatomy, section, len(chosen), count)
    grids = {study.study_id: _grid(study) for study in studies}
    return Slices(
        anatomy=cohort.anatomy,
        section=section,
        dataset=dataset,
        denoise=denoise,
        indices=tuple(index for index, _ in chosen),
        names=tuple(name for _, name in chosen),
        spacings={study: spacing for study, (_, spacing) in grids.items()},
        written=sum(count for count, _ in grids.values()),
        kept=len(pool),
    )


def _grid(study: Study) -> tuple[int, tuple[float, ...]]:
    """How many slices a study has, and the distance in mm of slices, rows and columns."""
    image: Any = nib.load(study.members["low"])
    axis = slice_axis(image.affine, image.shape)
    spacing = [float(step) for step in affine_to_spacing(image.affine)]
    return int(image.shape[axis]), (spacing.pop(axis), *spacing)
