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
"""What is denoised when, and where the noise enters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.paper.protocols import protocols


@pytest.fixture
def sample() -> dict[str, object]:
    flat = torch.full((1, 48, 48), 0.4)
    noisy = flat + 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    return {"study_id": "a", "slice_index": 3, "low": noisy, "denoised": flat}


def test_the_papers_noise_comes_after_denoising_and_stays(sample: dict[str, torch.Tensor]) -> None:
    observed = protocols("nlm")["paper"].observe(sample, 0.05, seed=1)
    assert (observed - sample["denoised"]).std() == pytest.approx(0.05, rel=0.05)


def test_the_hospitals_noise_is_on_the_acquired_low_dose(sample: dict[str, torch.Tensor]) -> None:
    protocol = protocols("nlm")["hospital"]
    assert torch.equal(protocol.observe(sample, 0.0, seed=1), sample["low"])
    assert (protocol.observe(sample, 0.05, seed=1) - sample["low"]).std() == pytest.approx(0.05, rel=0.05)


def test_a_pipeline_that_denoises_does_so_after_the_noise(sample: dict[str, torch.Tensor]) -> None:
    plain, denoising = protocols("nlm")["hospital"], protocols("nlm", "nlm")["hospital"]
    assert denoising.observe(sample, 0.05, seed=1).std() < 0.3 * plain.observe(sample, 0.05, seed=1).std()


def test_the_hospitals_protocol_with_the_denoiser_after_the_noise(
    sample: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    protocol = protocols("nlm", cache_dir=tmp_path)["denoised"]
    expected = protocols("nlm", "nlm")["hospital"].observe(sample, 0.05, seed=1)
    assert torch.equal(protocol.observe(sample, 0.05, seed=1), expected)
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(protocol.observe(sample, 0.05, seed=1), expected)  # the kept one
    assert protocol == protocols("nlm")["denoised"]  # where it is kept is no part of it
    assert repr(protocol) == repr(protocols("nlm")["denoised"])


def test_levels_share_one_realization_and_slices_do_not(sample: dict[str, torch.Tensor]) -> None:
    protocol = protocols("nlm")["hospital"]
    first, second = (protocol.observe(sample, level, seed=1) - sample["low"] for level in (0.02, 0.04))
    assert torch.allclose(2 * first, second, atol=1e-6)
    other = {**sample, "slice_index": 4}
    assert not torch.allclose(protocol.observe(other, 0.02, seed=1) - sample["low"], first, atol=1e-3)
    assert not torch.allclose(protocol.observe(sample, 0.02, seed=2) - sample["low"], first, atol=1e-3)
