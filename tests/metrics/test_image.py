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
"""Image metrics against scikit-image and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import PSNRMetric, SSIMMetric
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from monai_lipcar.metrics import psnr, relative_error, ssim, ssim_map


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(shape, generator=generator)
    return (target + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1), target


def reference_ssim(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """scikit-image's map of a slice whose borders are continued by reflection."""
    margin = 5
    padded = [np.pad(part.astype(np.float64), margin, mode="reflect") for part in (image, target)]
    _, similarity = structural_similarity(
        *padded, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    result: np.ndarray = similarity[margin:-margin, margin:-margin]
    return result


def test_psnr_and_relative_error_against_scikit_image() -> None:
    image, target = pair(3, 20, 24)
    u, v = image.double().numpy(), target.double().numpy()
    assert psnr(image, target) == pytest.approx(peak_signal_noise_ratio(v, u, data_range=1.0), abs=1e-4)
    assert relative_error(image, target) == pytest.approx(normalized_root_mse(v, u), rel=1e-5)


def test_psnr_is_that_of_monai_for_the_range_1() -> None:
    image, target = pair(3, 20, 24)
    assert psnr(image, target) == pytest.approx(PSNRMetric(1.0)(image[None], target[None]).item(), abs=1e-4)
    mask = target > 0.3
    in_mask = PSNRMetric(1.0)(image[mask][None, None], target[mask][None, None]).item()
    assert psnr(image, target, mask) == pytest.approx(in_mask, abs=1e-4)
    reference = peak_signal_noise_ratio(target[mask].double().numpy(), image[mask].double().numpy(), data_range=1.0)
    assert psnr(image, target, mask) == pytest.approx(reference, abs=1e-4)


def test_ssim_is_that_of_monai_away_from_the_border() -> None:
    image, target = pair(3, 20, 24)
    inner = torch.zeros(3, 20, 24, dtype=torch.bool)
    inner[:, 5:-5, 5:-5] = True  # MONAI looks only where the whole window fits
    expected = SSIMMetric(spatial_dims=2, data_range=1.0)(image[:, None], target[:, None]).mean().item()
    assert ssim(image, target, inner) == pytest.approx(expected, abs=1e-5)


def test_the_air_decides_the_global_ssim_and_not_that_of_the_head() -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.zeros(2, 64, 64, dtype=torch.bool)
    head[:, 20:44, 20:44] = True
    target = torch.where(head, torch.rand(2, 64, 64, generator=generator), torch.zeros(()))
    noise = 0.03 * torch.randn(2, 64, 64, generator=generator).abs()
    simulated = torch.where(head, target, noise)
    inner = torch.zeros_like(head)
    inner[:, 25:39, 25:39] = True  # what no window reaches out of
    assert ssim(simulated, target, inner) == pytest.approx(1.0, abs=1e-5)
    assert ssim(simulated, target, head) > 0.95
    assert ssim(simulated, target) < 0.5
    for image, bound in ((simulated, 0.5), (target, 1.0)):
        expected = np.stack([reference_ssim(u.numpy(), v.numpy()) for u, v in zip(image, target, strict=True)])
        assert ssim(image, target) == pytest.approx(expected.mean(), abs=1e-5)
        assert ssim(image, target, head) == pytest.approx(expected[head.numpy()].mean(), abs=1e-5)
        assert expected.mean() <= bound + 1e-9


def test_psnr_and_relative_error_by_hand() -> None:
    # errors 0.3 and 0.4: mean square 0.125; norms 0.5 and 1
    image, target = torch.tensor([0.9, 0.4]), torch.tensor([0.6, 0.8])
    assert psnr(image, target) == pytest.approx(-10 * math.log10(0.125), abs=1e-5)
    assert relative_error(image, target) == pytest.approx(0.5, rel=1e-6)


def test_only_the_mask_counts() -> None:
    image, target = pair(2, 20, 24)
    mask = torch.zeros(2, 20, 24, dtype=torch.bool)
    mask[:, 4:12, 5:20] = True
    changed = torch.where(mask, image, torch.zeros(()))
    assert psnr(changed, target, mask) == psnr(image, target, mask) == psnr(image[mask], target[mask])
    assert relative_error(changed, target, mask) == relative_error(image[mask], target[mask])
    assert psnr(changed, target) < psnr(image, target)


def test_perfect() -> None:
    _, target = pair(2, 16, 16)
    assert psnr(target, target) == math.inf
    assert relative_error(target, target) == 0.0
    assert ssim(target, target) == pytest.approx(1.0, abs=1e-6)


def test_ssim_map_against_scikit_image() -> None:
    image, target = pair(3, 20, 24)
    similarity = ssim_map(image, target)
    assert similarity.shape == (3, 20, 24)
    for index in range(3):
        expected = reference_ssim(image[index].numpy(), target[index].numpy())
        np.testing.assert_allclose(similarity[index].numpy(), expected, atol=2e-5)
        # away from the border this is what scikit-image says of the slice itself
        _, plain = structural_similarity(
            image[index].double().numpy(),
            target[index].double().numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        np.testing.assert_allclose(similarity[index, 5:-5, 5:-5].numpy(), plain[5:-5, 5:-5], atol=2e-5)


def test_ssim_is_the_mean_of_the_map_over_the_mask() -> None:
    image, target = pair(2, 20, 24)
    mask = torch.rand(2, 20, 24) > 0.5
    expected = np.stack([reference_ssim(u.numpy(), v.numpy()) for u, v in zip(image, target, strict=True)])
    assert ssim(image, target) == pytest.approx(expected.mean(), abs=1e-5)
    assert ssim(image, target, mask) == pytest.approx(expected[mask.numpy()].mean(), abs=1e-5)


def test_meta_tensors_give_the_same_numbers() -> None:
    image, target = pair(2, 16, 16)
    mask = target > 0.3
    for metric in (psnr, relative_error, ssim):
        assert metric(MetaTensor(image), MetaTensor(target), MetaTensor(mask)) == metric(image, target, mask)


@pytest.mark.parametrize("metric", [psnr, relative_error, ssim])
def test_an_empty_mask_is_refused(metric: object) -> None:
    image, target = pair(2, 16, 16)
    with pytest.raises(ValueError, match="the mask is empty: there is nothing to measure"):
        metric(image, target, torch.zeros(2, 16, 16, dtype=torch.bool))  # type: ignore[operator]


def test_slices_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"slices of shape \(5, 30\) are smaller than the SSIM window"):
        ssim_map(torch.zeros(2, 5, 30), torch.zeros(2, 5, 30))
