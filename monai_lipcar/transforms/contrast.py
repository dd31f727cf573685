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
"""One sequence's contrast brought to that of another, over tissue that does not enhance."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor

from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.transforms.foreground import head_mask

__all__ = ["MatchContrastD", "MatchContrastDict", "MatchContrastd", "match_contrast"]

_SOFTNESS = 0.1  # contrasts below this share of the typical tissue do not decide about the gain
_GAINS = (0.3, 2.0)


def match_contrast(
    image: np.ndarray,
    reference: np.ndarray,
    head: np.ndarray,
    spacing: np.ndarray,
    field_mm: float = 8.0,
    visible: float = 0.15,
) -> np.ndarray:
    r"""Bring an image before contrast to the sequence of one after contrast.

    In a Gaussian window around every voxel the reference is regressed on the image, as in a guided filter,

    .. math:: x_H \approx a x_P + b, \qquad a = \frac{\mathrm{cov}(x_P, x_H) + \epsilon}{\mathrm{var}(x_P) + \epsilon}

    over voxels of the head that do not enhance: :math:`-3 v m < x_H - x_P < v m` with m the median of x_P in the head.
    The result is a x_P + b. :math:`\epsilon = (0.1 m)^2` pulls a to 1 where the window has no contrast; where it has
    hardly a voxel that counts, the image stays. What enhances by less than v m over a wide region goes into b, so this
    is for acquisitions that differ in their sequence, not for those that differ in the dose alone.

    Args:
        image: x_P, (X, Y, Z), matched in gain to the reference.
        reference: x_H, same shape.
        head: boolean, same shape.
        spacing: voxel size in mm, 3 numbers.
        field_mm: standard deviation of the window.
        visible: v.

    Returns:
        float32 image, not negative; outside of the head as it was.

    Source: the local linear model is that of K. He, J. Sun and X. Tang, Guided image filtering, IEEE TPAMI 35(6), 2013.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> image = 100 + 20 * rng.random((16, 16, 8)); reference = 30 + 0.6 * image
        >>> matched = match_contrast(image, reference, image > 0, np.ones(3))
        >>> bool(np.abs(matched - reference).mean() < 0.3 * np.abs(image - reference).mean())
        True
    """
    from scipy import ndimage

    pre, high = np.asarray(image, dtype=np.float32), np.asarray(reference, dtype=np.float32)
    if not head.any():
        return pre.copy()
    typical = float(np.median(pre[head]))
    difference = high - pre
    counted = head & (difference < visible * typical) & (difference > -3 * visible * typical)
    weight = counted.astype(np.float32)
    sigma = [field_mm / step for step in spacing]

    def smooth(volume: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(volume, sigma, truncate=3.0))

    share = smooth(weight)
    known = np.maximum(share, 1e-6)
    mean_pre, mean_high = smooth(weight * pre) / known, smooth(weight * high) / known
    variance = np.maximum(smooth(weight * pre * pre) / known - mean_pre**2, 0.0)
    covariance = smooth(weight * pre * high) / known - mean_pre * mean_high
    epsilon = (_SOFTNESS * typical) ** 2
    gain = np.clip((covariance + epsilon) / (variance + epsilon), *_GAINS)
    matched = gain * (pre - mean_pre) + mean_high
    trust = share / (share + 0.02)
    result: np.ndarray = np.where(head, np.maximum(trust * matched + (1 - trust) * pre, 0.0), pre).astype(np.float32)
    return result


class MatchContrastd(MapTransform):
    """Dictionary transform around :func:`match_contrast`.

    Args:
        keys: images before contrast, channel-first (1, X, Y, Z), matched in gain (:class:`MatchIntensityd`).
        reference_key: image after contrast on the same grid.
        field_mm: standard deviation of the window in mm, above 0.
        allow_missing_keys: whether an image may be missing.

    Raises:
        ConfigurationError: a window of no width.
        StudyError: when called: the volumes have different shapes.

    Example:
        >>> from monai.data import MetaTensor
        >>> pre = MetaTensor(100 + 10 * torch.rand(1, 16, 16, 8))
        >>> matched = MatchContrastd("pre", "high")({"pre": pre, "high": 1.2 * pre})
        >>> matched["pre"].shape
        torch.Size([1, 16, 16, 8])
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self, keys: Any, reference_key: str = "high", field_mm: float = 8.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not field_mm > 0:
            raise ConfigurationError(f"field_mm: expected a width above 0 mm, got {field_mm}")
        self.reference_key = reference_key
        self.field_mm = field_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Match the images of one study."""
        d = dict(data)
        reference = convert_to_tensor(d[self.reference_key], track_meta=True)
        axis = slice_axis(reference.affine, reference.shape[1:])
        spacing = np.asarray(affine_to_spacing(reference.affine), dtype=float)
        high = convert_to_numpy(reference, dtype=np.float32)
        head = head_mask(high[0], axis=axis)
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=True, dtype=torch.float32)
            if image.shape != reference.shape:
                raise StudyError(
                    f"expected the shape of {self.reference_key}, {tuple(reference.shape)}, got {tuple(image.shape)}",
                    study=d.get("study_id"),
                    member=str(key),
                    advice="register the images first",
                )
            matched = match_contrast(
                convert_to_numpy(image, dtype=np.float32)[0], high[0], head, spacing, self.field_mm
            )
            d[key] = convert_to_dst_type(matched[None], image)[0]
        return d


MatchContrastD = MatchContrastDict = MatchContrastd
