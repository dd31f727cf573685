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
"""How noisy an image is, judged from the image itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.transform import Transform
from monai.utils import TransformBackends, convert_to_numpy, ensure_tuple
from scipy import ndimage

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.transforms.foreground import foreground_threshold, head_mask

__all__ = [
    "EstimateNoise",
    "EstimateNoiseD",
    "EstimateNoiseDict",
    "EstimateNoised",
    "estimate_air_noise",
    "estimate_noise",
]

SECOND_DIFFERENCES = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]).astype(np.float32)
"""Blind to planes and to straight edges along the axes; multiplies the deviation of white noise by 6 (= 1 + 4 + 1)."""

MEDIAN_OF_ABSOLUTE_NORMAL = 0.6744897501960817
FEWEST_PIXELS = 64
"""A noise estimate from fewer pixels is not worth more than that of the whole volume."""
FLATTEST = 0.25
"""Share of the foreground that is judged. On simulated heads with noise of 1 % of the brightest tissue the estimate is
6-34 % too high over all of it, up to 10 % over the flattest half, and up to 6 % over the flattest quarter."""

MEDIAN_OF_RAYLEIGH = 1.1774100225154747
RAYLEIGH_QUARTILES = 2.1953
"""Third over first quartile of the Rayleigh distribution. Of the root sum of squares of two receiver coils it is 1.67,
of Gaussian noise in a background that was cut at 0 it is 3.6."""
RAYLEIGH_TOLERANCE = 0.08
"""Of the ratio: 2.14 to 2.24 were measured on simulated heads (noise 1 to 7 %, rounded to whole numbers)."""
FEWEST_AIR_PIXELS = 1000
AIR_MARGIN = 3
"""Pixels around the head that are not counted as air: blur, and motion."""


def estimate_noise(slices: np.ndarray, foreground: np.ndarray) -> float:
    r"""Standard deviation of the noise in the flat parts of the foreground.

    .. math::
        \sigma = \frac{\operatorname{median} |k * x|}{6 \cdot 0.6745}, \qquad k = (1, -2, 1)^T (1, -2, 1)

    over the quarter with the smallest gradient (of a Gaussian, one pixel) of the pixels whose 3x3 neighborhood lies in
    the foreground: the mask of Immerkær (1996), the median of Donoho and Johnstone (1994) for robustness, and flat
    places because the edges and the texture of the others count as noise. The air around the head must be left out:
    magnitude noise is Rician there (0.655 sigma), and often set to zero, which pulls an estimate over the whole image
    down by a quarter.

    Args:
        slices: ``(slices, H, W)``, any unit.
        foreground: boolean array of the same shape.

    Returns:
        The standard deviation in the unit of ``slices``; NaN with fewer than 64 pixels to judge by.

    References:
        J. Immerkær, "Fast noise variance estimation", Comput. Vis. Image Underst. 64(2), 1996;
        D. Donoho, I. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81(3), 1994.

    Example:
        >>> noise = np.random.default_rng(0).normal(scale=3.0, size=(2, 64, 64))
        >>> abs(estimate_noise(100.0 + noise, np.ones((2, 64, 64), bool)) - 3.0) < 0.15
        True
    """
    inside = ndimage.binary_erosion(foreground, structure=np.ones((1, 3, 3), dtype=bool))
    count = np.count_nonzero(inside)
    if count < FEWEST_PIXELS:
        return float("nan")
    image = np.asarray(slices, dtype=np.float32)
    differences = np.abs(ndimage.convolve(image, SECOND_DIFFERENCES[None], mode="nearest")[inside])
    gradient = np.stack([ndimage.gaussian_gradient_magnitude(plane, 1.0, mode="nearest") for plane in image])[inside]
    share = max(FLATTEST, FEWEST_PIXELS / count)
    flat = gradient <= np.quantile(gradient, share)
    return float(np.median(differences[flat]) / (6.0 * MEDIAN_OF_ABSOLUTE_NORMAL))


def estimate_air_noise(air: np.ndarray) -> float:
    r"""Standard deviation of the noise of each receiver channel, from the air in an MR magnitude image.

    Where there is no signal the magnitude has the Rayleigh distribution, whose median gives

    .. math:: \sigma = \operatorname{median}(x) / \sqrt{2 \ln 2}.

    Air that was set to zero, smoothed, filled with ghosts, or put together from several coils has another distribution:
    the ratio of its quartiles tells.

    Args:
        air: values of the air, any shape and unit; zeros are left out, and more than half of them say that the air was
            cut away.

    Returns:
        The standard deviation, or NaN where the air does not tell it.

    Source: H. Gudbjartsson, S. Patz, "The Rician distribution of noisy MRI data", Magn. Reson. Med. 34, 1995.

    Example:
        >>> normal = np.random.default_rng(0).normal(scale=3.0, size=(2, 100000))
        >>> bool(abs(estimate_air_noise(np.hypot(*normal)) - 3.0) < 0.05), bool(np.isnan(estimate_air_noise(normal[0])))
        (True, True)
    """
    air = np.asarray(air)
    values = air[air != 0]
    if values.size < max(FEWEST_AIR_PIXELS, 0.5 * air.size):
        return float("nan")
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    if not first > 0.0 or abs(third / first / RAYLEIGH_QUARTILES - 1.0) > RAYLEIGH_TOLERANCE:
        return float("nan")
    return float(median / MEDIAN_OF_RAYLEIGH)


class EstimateNoise(Transform):
    """Noise level of an MR magnitude volume: from the air around the head, or else from the head.

    The air tells it best (:func:`estimate_air_noise`), if it shows what the receiver measured there. Otherwise, as in a
    skull-stripped image whose background is zero, the flat parts of the tissue do (:func:`estimate_noise`), in which
    the texture of the tissue sets a floor.

    Measured on simulated heads (rat, mni152, random; noise 1, 3.3 and 6.6 % of the brightest tissue): within 2 % from
    the air, within 5 % from the head alone; without any noise the texture counts for up to 0.001 on the [0, 1] scale.

    Args:
        slice_axis: axis of the slices, not counting the channel; default: from the affine of a MetaTensor, or the last.

    Example:
        >>> normal = np.random.default_rng(0).normal(scale=5.0, size=(2, 1, 64, 64, 4))
        >>> image = np.zeros((1, 64, 64, 4)); image[:, 16:48, 16:48] = 200.0
        >>> noisy = np.hypot(image + normal[0], normal[1])
        >>> abs(EstimateNoise()(noisy) - 5.0) < 0.25, abs(EstimateNoise()(noisy * (image > 0)) - 5.0) < 0.25
        (True, True)
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, slice_axis: int | None = None) -> None:
        self.slice_axis = slice_axis

    def __call__(self, img: NdarrayOrTensor) -> float:
        """Estimate.

        Args:
            img: ``(1, X, Y, Z)``, finite values, 0 in empty space.

        Returns:
            Standard deviation in the unit of ``img``; NaN where nothing tells it.
        """
        volume = convert_to_numpy(img, dtype=np.float32)[0]
        axis = self.slice_axis
        if axis is None:
            axis = slice_axis(img.affine, volume.shape) if isinstance(img, MetaTensor) else volume.ndim - 1
        slices = np.ascontiguousarray(np.moveaxis(volume, axis, 0))
        head = head_mask(slices, axis=0)
        near = ndimage.binary_dilation(head, structure=np.ones((1, 3, 3), dtype=bool), iterations=AIR_MARGIN)
        of_air = estimate_air_noise(slices[~near])
        if np.isfinite(of_air):
            return of_air
        return estimate_noise(slices, slices > foreground_threshold(slices))


class EstimateNoised(MapTransform):
    """Dictionary version of :class:`EstimateNoise`: the members stay as they are, the noise levels are added.

    Args:
        keys: members to judge.
        names: where the noise level of each is put.
        slice_axis: see :class:`EstimateNoise`.
        allow_missing_keys: skip keys that are absent instead of raising.

    Raises:
        ValueError: not as many names as keys.

    Example:
        >>> low = 100.0 + np.random.default_rng(0).normal(scale=2.0, size=(1, 64, 64, 2)); low[:, :8] = 0.0
        >>> round(EstimateNoised(keys="low")({"low": low})["sigma"])
        2
    """

    backend = EstimateNoise.backend

    def __init__(
        self,
        keys: KeysCollection,
        names: KeysCollection = "sigma",
        slice_axis: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = ensure_tuple(names)
        if len(self.names) != len(self.keys):
            raise ValueError(f"expected a name for each of {len(self.keys)} keys, got {len(self.names)}")
        self.estimate = EstimateNoise(slice_axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, name in self.key_iterator(d, self.names):
            d[name] = self.estimate(d[key])
        return d


EstimateNoiseD = EstimateNoiseDict = EstimateNoised
