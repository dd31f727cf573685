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
"""Denoising of volumes slice by slice: BM3D as in the paper, and free methods beside it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data.meta_obj import get_track_meta
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.transform import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor
from tqdm import tqdm

from monai_lipcar.data.atomic import replacing
from monai_lipcar.data.geometry import slice_axis as slice_axis_of
from monai_lipcar.data.workers import available_cores
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.transforms.denoisers import DENOISERS, Method, release_of
from monai_lipcar.transforms.foreground import foreground_threshold
from monai_lipcar.transforms.noise_level import estimate_noise

__all__ = ["DenoiseSlices", "DenoiseSlicesD", "DenoiseSlicesDict", "DenoiseSlicesd"]

logger = logging.getLogger(__name__)


class DenoiseSlices(Transform):
    """Remove noise from a volume, slice by slice.

    ========= ==================================================== =============================================
    method    what                                                 license
    ========= ==================================================== =============================================
    bm3d      block matching and 3-D filtering, as in the paper    **non-commercial use only**; not installed by
                                                                   default: ``pip install bm3d``
    nlm       non-local means (scikit-image, fast mode)            free (BSD)
    wavelet   BayesShrink with cycle spinning (scikit-image)       free (BSD)
    tv        total variation, Chambolle (scikit-image)            free (BSD)
    ========= ==================================================== =============================================

    The image stays in its own units and within the range that it had; a slice without noise (constant, or with an
    estimate of 0) is returned as it came. The result depends neither on ``workers`` nor on the number of cores.

    Args:
        method: one of the table.
        sigma: standard deviation of the noise, in the unit of the image; default: estimated in the foreground, see
            :func:`~monai_lipcar.transforms.noise_level.estimate_noise`.
        estimate: where ``sigma`` is estimated: once for the ``"volume"`` (one acquisition, one noise level), or for
            each ``"slice"`` (with the volume's value where a slice has too little foreground).
        slice_axis: axis along which the slices follow each other, not counting the channel; default: from the affine,
            see :func:`~monai_lipcar.data.geometry.slice_axis`, which takes a MetaTensor.
        offset: value of empty space: 0 for MR magnitude images, -1000 for CT in HU.
        workers: slices at a time; default: one per available core.
        cache_dir: folder that keeps results, found again by content and parameters; default: nothing is kept.

    Raises:
        ConfigurationError: unknown method, ``bm3d`` not installed, or ``cache_dir`` cannot be made.
        ValueError: ``sigma`` or ``workers`` out of range.

    References:
        K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative
        filtering", IEEE Trans. Image Process. 16(8), 2007; A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for
        image denoising", CVPR 2005; S. Chang, B. Yu, M. Vetterli, "Adaptive wavelet thresholding for image denoising
        and compression", IEEE Trans. Image Process. 9(9), 2000.

    Example:
        >>> noisy = 500.0 + 20.0 * torch.randn(1, 48, 48, 2, generator=torch.Generator().manual_seed(0))
        >>> clean = DenoiseSlices("nlm", sigma=20.0, slice_axis=2)(noisy)
        >>> clean.shape == noisy.shape, bool(clean.std() < 0.5 * noisy.std())
        (True, True)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        method: Method = "bm3d",
        sigma: float | None = None,
        estimate: Literal["volume", "slice"] = "volume",
        slice_axis: int | None = None,
        offset: float = 0.0,
        workers: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if sigma is not None and not (np.isfinite(sigma) and sigma >= 0.0):
            raise ValueError(f"sigma must be a finite number, 0 or above, got {sigma}")
        if estimate not in ("volume", "slice"):
            raise ValueError(f"estimate must be 'volume' or 'slice', got {estimate!r}")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be 1 or more, got {workers}")
        self.method = method
        self.release = release_of(method)
        self.sigma = sigma
        self.estimate = estimate
        self.slice_axis = slice_axis
        self.offset = offset
        self.workers = workers or available_cores()
        self.cache_dir = _made(cache_dir)

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Denoise one image.

        Args:
            img: ``(C, X, Y, Z)``, or ``(C, X, Y)`` for a single slice; each channel for itself.

        Returns:
            float32 image of the same shape and unit; a MetaTensor whose ``meta`` says ``denoise_method`` and
            ``denoise_sigma`` (the median over slices) unless tracking is off.

        Raises:
            StudyError: NaN or infinite values.
            ValueError: not 2-D or 3-D with a channel, or the slice axis is not known.
        """
        image = convert_to_tensor(img, dtype=torch.float32, track_meta=get_track_meta())
        values = convert_to_numpy(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise StudyError("the volume contains NaN or infinite values", advice="check the file, or export it again")
        axis = self._axis(img)
        channels, sigmas = [], []
        for channel in values:
            slices = np.ascontiguousarray(channel[None] if axis is None else np.moveaxis(channel, axis, 0))
            denoised, sigma = self._denoise(slices)
            channels.append(denoised[0] if axis is None else np.moveaxis(denoised, 0, axis))
            sigmas.append(sigma)
        result: torch.Tensor = convert_to_dst_type(np.stack(channels), image, dtype=torch.float32)[0]
        if isinstance(result, MetaTensor):
            result.meta["denoise_method"] = self.method
            result.meta["denoise_sigma"] = float(np.median(sigmas))
        return result

    def _axis(self, image: NdarrayOrTensor) -> int | None:
        """Slice axis of the channel-first image; None for a single slice."""
        shape = tuple(image.shape[1:])
        if len(shape) == 2:
            return None
        if len(shape) != 3:
            raise ValueError(f"expected a channel and 2 or 3 spatial axes, got shape {tuple(image.shape)}")
        if self.slice_axis is not None:
            return self.slice_axis
        if isinstance(image, MetaTensor):
            return slice_axis_of(image.affine, shape)
        raise ValueError("the image has no affine to tell its slices by: give slice_axis")

    def _denoise(self, slices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Denoised ``(slices, H, W)`` and the noise level of each."""
        sigmas = self._noise_of(slices)
        # the cache comes first: what it knows need not be computed
        cached = self._cache_file(slices, sigmas)
        denoised = _load(cached, slices.shape)
        if denoised is None:
            denoised = self._compute(slices, sigmas)
            _save(cached, denoised)
        return denoised, sigmas

    def _noise_of(self, slices: np.ndarray) -> np.ndarray:
        if self.sigma is not None:
            return np.full(len(slices), self.sigma)
        foreground = slices > foreground_threshold(slices, self.offset)
        of_volume = np.nan_to_num(estimate_noise(slices, foreground))
        if self.estimate == "volume":
            return np.full(len(slices), of_volume)
        of_slices = [estimate_noise(slices[i : i + 1], foreground[i : i + 1]) for i in range(len(slices))]
        return np.where(np.isnan(of_slices), of_volume, of_slices)

    def _compute(self, slices: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
        denoiser = DENOISERS[self.method][0]
        scale = float(np.percentile(slices, 99.9)) - self.offset
        if scale <= 0.0:
            scale = float(np.abs(slices - self.offset).max()) or 1.0

        def denoise(image: np.ndarray, sigma: float) -> np.ndarray:
            lowest, highest = image.min(), image.max()
            if sigma == 0.0 or lowest == highest:
                return image
            result = denoiser((image - self.offset) / scale, float(sigma) / scale)
            return np.clip(result * scale + self.offset, lowest, highest)

        # threads, not processes: all four methods leave Python's lock, and nothing has to be imported again
        with ThreadPoolExecutor(self.workers) as pool:
            results = pool.map(denoise, slices, sigmas)
            progress = tqdm(results, total=len(slices), desc=f"denoising ({self.method})", unit="slice", delay=3.0)
            return np.stack([np.asarray(result, dtype=np.float32) for result in progress])

    def _cache_file(self, slices: np.ndarray, sigmas: np.ndarray) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(f"{self.method} {self.release} {self.offset!r} {slices.shape}".encode())
        digest.update(np.ascontiguousarray(sigmas, dtype=np.float64).tobytes())
        digest.update(slices.tobytes())
        return self.cache_dir / f"denoised-{digest.hexdigest()[:32]}.npy"


class DenoiseSlicesd(MapTransform):
    """Dictionary version of :class:`DenoiseSlices`.

    Args:
        keys: members to denoise.
        method, sigma, estimate, slice_axis, offset, workers, cache_dir: see :class:`DenoiseSlices`; a ``sigma`` that is
            given holds for all keys, an estimated one for each by itself.
        allow_missing_keys: skip keys that are absent instead of raising.

    Raises:
        StudyError: when called: an image with NaN or infinite values, with the study and the member.

    Example:
        >>> noisy = 500.0 + 20.0 * torch.randn(1, 48, 48, 2, generator=torch.Generator().manual_seed(0))
        >>> d = DenoiseSlicesd(keys="low", method="nlm", sigma=20.0, slice_axis=2)({"low": noisy, "pre": noisy})
        >>> bool(d["low"].std() < 0.5 * noisy.std()), d["pre"] is noisy
        (True, True)
    """

    backend = DenoiseSlices.backend

    def __init__(
        self,
        keys: KeysCollection,
        method: Method = "bm3d",
        sigma: float | None = None,
        estimate: Literal["volume", "slice"] = "volume",
        slice_axis: int | None = None,
        offset: float = 0.0,
        workers: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.denoiser = DenoiseSlices(method, sigma, estimate, slice_axis, offset, workers, cache_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            try:
                d[key] = self.denoiser(d[key])
            except StudyError as error:
                study = d.get("study_id")
                raise StudyError(error.reason, study=study, member=str(key), advice=error.advice) from error
        return d


def _made(folder: str | os.PathLike[str] | None) -> Path | None:
    if folder is None:
        return None
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the cache folder {path} ({error}); give another cache_dir") from error
    return path


def _load(file: Path | None, shape: Sequence[int]) -> np.ndarray | None:
    if file is None or not file.exists():
        return None
    try:
        array = np.load(file)
    except (OSError, ValueError, EOFError) as error:
        logger.warning("the cached result %s cannot be read (%s) and is computed again", file, error)
        return None
    return array if array.shape == tuple(shape) else None


def _save(file: Path | None, array: np.ndarray) -> None:
    """Write atomically; a cache that cannot be written (disk full, no permission) does not cost the result."""
    if file is None:
        return
    try:
        with replacing(file, shared=True) as partial:
            np.save(partial, array)
    except OSError as error:
        logger.warning("the result of denoising could not be cached in %s (%s)", file.parent, error)


DenoiseSlicesD = DenoiseSlicesDict = DenoiseSlicesd
