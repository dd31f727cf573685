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
"""The metric of the proximal gradient solver: voxels whose curvature differs much, and changes abruptly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, ProximalSolver, TotalVariation


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("brightest", [0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 10, 20])
def test_curvature_that_differs_much_does_not_stop_early(brightest: float, seed: int) -> None:
    # below the operator's floor and above it the curvature differs a hundredfold: short steps leave 1 to 4 % to gain
    pre = brightest * random_image(2, 1, 16, 16, seed=seed)
    observed = pre + 0.05 * random_image(2, 1, 16, 16, seed=seed + 1)
    problem = LearnedInverseProblem(
        SignalEquationOperator(0.2), observed, TotalVariation(), torch.tensor([2e-3, 1e-2]), pre=pre
    )
    adam, solution = AdamSolver().solve(problem, observed), ProximalSolver(60).solve(problem, observed)
    assert solution.status == ("converged", "converged")
    assert (solution.objective[:, -1] <= 1.01 * adam.objective[:, -1]).all()
    # and within the default cap, certified or not
    capped = ProximalSolver().solve(problem, observed)
    assert (capped.objective[:, -1] <= 1.01 * adam.objective[:, -1]).all()


def test_air_that_goes_back_and_forth_across_the_end_of_the_signal_equation() -> None:
    pre, high = torch.full((12, 1, 48, 48), 0.005), torch.full((12, 1, 48, 48), 0.005)
    pre[..., 12:36, 12:36], high[..., 12:36, 12:36] = 0.3, 0.5
    operator, noise = SignalEquationOperator(0.2), torch.randn(pre.shape, generator=torch.Generator().manual_seed(0))
    observed = operator(torch.cat([pre, high], dim=1)) + 0.02 + 0.033 * noise
    problem = LearnedInverseProblem(operator, observed, TotalVariation(), 3e-3, pre)
    kept, other = (ProximalSolver(max_iterations=60, curvature_kept=share) for share in (0.8, 0.0))
    solution = kept.solve(problem, observed)
    assert solution.status == ("converged",) * 12
    assert sum(solution.iterations) < sum(other.solve(problem, observed).iterations)
    exact = ProximalSolver(max_iterations=150, tolerance=1e-5).solve(problem, observed)
    assert bool((solution.objective[:, -1] <= 1.002 * exact.objective[:, -1]).all())


@pytest.mark.parametrize("curvature_kept", [0.0, 0.8])
def test_where_the_slope_is_not_finite(curvature_kept: float) -> None:
    class FourthPower(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.where(image < 0.6, image**4, torch.nan)

        def slope(self, image: Tensor) -> Tensor:
            return torch.where(image < 0.6, 4 * image**3, torch.nan)

    problem = LearnedInverseProblem(FourthPower(), torch.full((1, 1, 8, 8), 0.05), TotalVariation(), 1e-5)
    solution = ProximalSolver(curvature_kept=curvature_kept).solve(problem, torch.full((1, 1, 8, 8), 0.2))
    assert solution.status == ("converged",)
    torch.testing.assert_close(solution.image, torch.full((1, 1, 8, 8), 0.05**0.25), atol=1e-3, rtol=0)
