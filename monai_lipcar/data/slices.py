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
"""Single slices of many studies, for training: preprocessed once, cached on disk, every slice once an epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Randomizable
from monai.utils import convert_to_numpy
from torch.utils.data import Dataset, DistributedSampler
from tqdm import tqdm

from monai_lipcar.data.failures import explain_failure
from monai_lipcar.data.fingerprint import fingerprint
from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.data.slice_cache import CachedStudy, SliceCache, file_stats
from monai_lipcar.data.studies import Study
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics.acquisition import Acquisition

__all__ = ["SliceDataset", "SliceSampler"]

Transform = Callable[[dict[str, Any]], Any]

logger = logging.getLogger(__name__)


class SliceDataset(Dataset[Any]):
    """The slices of many studies, as independent 2-D samples, or with their neighbors as 3-D ones.

    Each study is preprocessed once, cut along its :func:`~monai_lipcar.data.geometry.slice_axis` and stored under
    ``cache_dir`` as a float16 array (relative precision 5e-4); with the same files and the same preprocessing, a
    second start reads nothing but a small record per study. A slice is read from its file when it is asked for, so
    memory and open files do not grow with the cohort. A study that cannot be used is logged, left out and listed in
    ``failures``.

    A sample is a dictionary: each of ``keys`` a float32 tensor (1, H, W), ``"study_id"``, and ``"slice_index"``,
    counted along the slice axis of the volume, slices left out included; with ``acquisition`` also ``"response"``, the
    tables of the study's :class:`~monai_lipcar.physics.DoseResponse`. All samples of a batch need the same size:
    crop or pad in ``transform`` when the studies differ.

    With ``depth`` the samples are for 3-D operators: the slice in the middle of ``depth`` slices, (1, H, W, depth), the
    outermost slice of the volume repeated beyond its ends. A slice is left out where one of them is not usable.

    ``transform`` is random through MONAI's ``Randomizable`` interface. Before each sample its random state is set
    from (``seed``, epoch, index) and nothing else, so that the sample does not depend on the number of worker
    processes, nor on whether the training was interrupted.

    In training on several GPUs the processes share the preprocessing: each starts with its own part of the studies and
    takes from the cache what the others have done meanwhile.

    Args:
        studies: the studies.
        preprocessing: deterministic transform(s) from :meth:`Study.to_dict` to channel-first volumes (1, X, Y, Z)
            with an affine; it may add ``"usable_slices"``, a list of booleans along the slice axis.
        keys: the volumes to cut, for instance ``("pre", "low", "high")``. The first decides on axis and foreground.
        cache_dir: folder of the cache.
        transform: transform(s) of a sample, such as augmentation; done each time.
        seed: of the random transforms.
        min_foreground: least fraction of a slice, 0 to 1, that must be foreground (above Otsu's threshold of the
            volume) for the slice to be kept.
        acquisition: of the studies that do not say theirs.
        depth: slices of a 3-D sample; None gives 2-D samples.
        rank: number of this process.
        num_replicas: number of processes that construct this data set at the same time.

    Raises:
        ConfigurationError: when no study is left, two have the same id, or the cache cannot be written.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        preprocessing: Transform | Sequence[Transform],
        keys: Sequence[str],
        cache_dir: str | Path,
        transform: Transform | Sequence[Transform] | None = None,
        seed: int = 0,
        min_foreground: float = 0.02,
        acquisition: Acquisition | None = None,
        depth: int | None = None,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        self.keys = tuple(keys)
        self.depth = depth
        self.seed = seed
        self.transform = Compose(transform) if isinstance(transform, Sequence) else transform
        self.failures: list[StudyError] = []
        self._responses: dict[str, torch.Tensor] = {}
        if acquisition is not None:
            shared = acquisition.response().tables.float()
            self._responses = {
                study.study_id: study.acquisition.response().tables.float() if study.acquisition else shared
                for study in studies
            }
        # shared memory: workers that outlive an epoch see the new one too
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        _refuse_duplicates(studies)
        # each process starts elsewhere, so that none does what another is doing
        order = [
            study for part in range(num_replicas) for study in studies[(rank + part) % num_replicas :: num_replicas]
        ]
        cache = SliceCache(cache_dir, fingerprint(preprocessing), self.keys)
        entries = self._prepare(order, preprocessing, cache)
        self._entries = [entries[study.study_id] for study in studies if study.study_id in entries]
        kept = [
            np.array([entry.usable[self._neighbors(index, entry)].all() for index in range(len(entry.usable))])
            & (entry.foreground >= min_foreground)
            for entry in self._entries
        ]
        for entry, slices in zip(self._entries, kept, strict=True):
            if not slices.any():
                self._fail(
                    StudyError(
                        f"none of its {len(slices)} slices is usable and has {min_foreground:.0%} foreground",
                        study=entry.study_id,
                        advice="look at the study, or lower min_foreground",
                    )
                )
        if not any(slices.any() for slices in kept):
            reasons = "; ".join(str(failure) for failure in self.failures[:3])
            raise ConfigurationError(
                f"no slice to train on in {len(studies)} studies{': ' + reasons if reasons else ''}"
            )
        self._slices = np.concatenate([np.flatnonzero(slices) for slices in kept])
        self._owners = np.repeat(np.arange(len(kept)), [slices.sum() for slices in kept])

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        index %= len(self)
        entry, slice_index = self._entries[self._owners[index]], int(self._slices[index])
        # opened for this slice only: neither file handles nor mapped pages add up
        slices = np.load(entry.file, mmap_mode="r")[self._neighbors(slice_index, entry)].astype(np.float32)
        images = slices[0] if self.depth is None else np.ascontiguousarray(np.moveaxis(slices, 0, -1))
        sample: dict[str, Any] = {
            key: torch.from_numpy(image[None]) for key, image in zip(self.keys, images, strict=True)
        }
        sample.update(study_id=entry.study_id, slice_index=slice_index)
        if self._responses:
            sample["response"] = self._responses[entry.study_id]
        if self.transform is None:
            return sample
        if isinstance(self.transform, Randomizable):
            entropy = np.random.SeedSequence([self.seed, int(self._epoch), index])
            self.transform.set_random_state(seed=int(entropy.generate_state(1)[0]))
        return self.transform(sample)

    def _neighbors(self, slice_index: int, entry: CachedStudy) -> np.ndarray:
        """Slices of the sample in whose middle a slice is."""
        depth = self.depth or 1
        return np.clip(np.arange(depth) + slice_index - depth // 2, 0, len(entry.usable) - 1)

    @property
    def dose_fractions(self) -> tuple[float, float] | None:
        """Smallest and largest dose fraction of its studies, or None where they do not matter."""
        if not self._responses:
            return None
        fractions = [float(self._responses[entry.study_id][0, 0]) for entry in self._entries]
        return min(fractions), max(fractions)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose random transforms are drawn. Resuming needs nothing else.

        Args:
            epoch: number of the epoch, from 0 or from 1.
        """
        self._epoch.fill_(epoch)

    def _prepare(
        self, studies: Sequence[Study], preprocessing: Transform | Sequence[Transform], cache: SliceCache
    ) -> dict[str, CachedStudy]:
        preprocess = Compose(preprocessing) if isinstance(preprocessing, Sequence) else preprocessing
        # checking a study may read hundreds of DICOM headers: not for one that is cached
        found = {study.study_id: None if study.problems else cache.find(study) for study in studies}
        entries = {study_id: entry for study_id, entry in found.items() if entry is not None}
        outdated = [study for study in studies if study.study_id not in entries]
        for study in tqdm(outdated, desc="preprocessing", unit="study", disable=not outdated):
            try:
                study.check()
                # another process may have been faster
                entries[study.study_id] = cache.find(study) or self._preprocess(study, preprocess, cache)
            except ConfigurationError:
                raise  # the cache cannot be written
            except Exception as error:
                self._fail(explain_failure(study, error))  # the others are done all the same
        return entries

    def _preprocess(self, study: Study, preprocess: Transform, cache: SliceCache) -> CachedStudy:
        stats = file_stats(study)
        data = preprocess(study.to_dict())
        missing = [key for key in self.keys if key not in data]
        if missing:
            raise StudyError(f"the preprocessing left no {', '.join(missing)}", study=study.study_id)
        shapes = {key: tuple(data[key].shape) for key in self.keys}
        if any(len(shape) != 4 or shape[0] != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
            raise StudyError(f"expected volumes of one shape (1, X, Y, Z), got {shapes}", study=study.study_id)
        reference = data[self.keys[0]]
        affine = reference.affine if isinstance(reference, MetaTensor) else np.eye(4)
        axis = slice_axis(affine, shapes[self.keys[0]][1:])
        volumes = [np.moveaxis(convert_to_numpy(data[key], dtype=np.float32)[0], axis, 0) for key in self.keys]
        with np.errstate(over="ignore"):
            slices = np.stack(volumes, axis=1).astype(np.float16)
        for channel, key in enumerate(self.keys):
            if not np.isfinite(slices[:, channel]).all():
                values = f"values from {np.nanmin(volumes[channel]):g} to {np.nanmax(volumes[channel]):g}"
                raise StudyError(
                    f"expected finite values below {np.finfo(np.float16).max:g} after preprocessing, got {values}",
                    study=study.study_id,
                    member=key,
                    advice="look for NaN in the volume; scale the intensities",
                )
        usable = np.asarray(data.get("usable_slices", np.ones(len(slices))), dtype=bool)
        if usable.shape != (len(slices),):
            raise StudyError(
                f"expected a usable_slices flag for each of {len(slices)} slices, got shape {usable.shape}",
                study=study.study_id,
            )
        return cache.store(study, stats, slices, usable, _foreground(volumes[0]))

    def _fail(self, error: StudyError) -> None:
        logger.error("%s (study left out)", error)
        self.failures.append(error)


class SliceSampler(DistributedSampler[Any]):
    """Shuffles the slices of a data set across its studies, every slice once an epoch.

    The order depends on (``seed``, epoch) only. This is torch's ``DistributedSampler`` without the need for a process
    group: MONAI's trainers recognize it and call :meth:`set_epoch` at the start of every epoch, after a resume too.
    With several replicas, each gets its own part; when they do not divide the slices, the first slices of the
    epoch are repeated so that all parts have the same length.

    Args:
        dataset: the data set; a :class:`SliceDataset` is told the epoch as well.
        seed: of the shuffling.
        rank: number of this process.
        num_replicas: number of processes.

    Example:
        >>> sampler = SliceSampler(["a", "b", "c"], seed=1)
        >>> sorted(sampler)
        [0, 1, 2]
    """

    def __init__(self, dataset: Any, seed: int = 0, rank: int = 0, num_replicas: int = 1) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew, and let the data set draw its random transforms anew.

        Args:
            epoch: number of the epoch, from 0 or from 1.
        """
        super().set_epoch(epoch)
        if isinstance(self.dataset, SliceDataset):
            self.dataset.set_epoch(epoch)


def _foreground(volume: np.ndarray) -> np.ndarray:
    """Fraction of each slice, along axis 0, above Otsu's threshold of the volume."""
    from skimage.filters import threshold_otsu

    # a few bright vessels would pull the threshold above the tissue
    clipped = np.clip(volume, None, np.percentile(volume, 99.5))
    fraction: np.ndarray = (clipped > threshold_otsu(clipped)).mean(axis=(1, 2))
    return fraction


def _refuse_duplicates(studies: Sequence[Study]) -> None:
    seen: set[Hashable] = set()
    for study in studies:
        if study.study_id in seen:
            raise ConfigurationError(f"expected different studies, got {study.study_id} more than once")
        seen.add(study.study_id)
