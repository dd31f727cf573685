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
"""The objective by hand, and what a solve leaves of the operator's state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_lipcar.problem import GeneralizedTotalVariation, LearnedInverseProblem, TotalVariation, frozen


def test_objective_by_hand() -> None:
    # residual 2 * 0.5 - 0.4 = 0.6 in three pixels and 2 * 0.3 - 0.4 = 0.2 in one; jumps of 0.2 down and 0.2 across
    image = torch.tensor([[[[0.5, 0.5], [0.5, 0.3]]]], dtype=torch.float64)
    observed = torch.full((1, 1, 2, 2), 0.4, dtype=torch.float64)
    problem = LearnedInverseProblem(lambda x: 2 * x, observed, TotalVariation(epsilon=0.0), alpha=0.1)
    assert problem.residual(image).flatten().tolist() == pytest.approx([0.6, 0.6, 0.6, 0.2])
    assert problem.data_fidelity(image).item() == pytest.approx(0.5 * (3 * 0.36 + 0.04))
    assert problem.objective(image).item() == pytest.approx(0.56 + 0.1 * 0.4)


def test_sums_not_means() -> None:
    small, large = (torch.zeros(1, 1, side, side) for side in (4, 8))
    values = [
        LearnedInverseProblem(lambda x: x + 1, image, TotalVariation(), alpha=0.0).objective(image).item()
        for image in (small, large)
    ]
    assert values == [8.0, 32.0]


@pytest.mark.parametrize("alpha", [0.3, torch.tensor([0.0, 0.5, 2.0])])
@pytest.mark.parametrize("guess", [False, True])
def test_select_keeps_what_belongs_to_the_samples(alpha: float | Tensor, guess: bool) -> None:
    pre, observed, image, other = torch.rand(4, 3, 1, 5, 6)
    prior = GeneralizedTotalVariation(other, isotropic=False) if guess else TotalVariation()
    problem = LearnedInverseProblem(lambda x: x.prod(dim=1, keepdim=True), observed, prior, alpha, pre)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(problem.select(rows).objective(image[rows]), problem.objective(image)[rows])
    assert problem.select(rows).prior is not problem.prior or not guess
    without = LearnedInverseProblem(torch.square, observed, prior, alpha).select(rows)
    assert without.pre is None
    assert torch.equal(without.observed, observed[rows])


@pytest.mark.parametrize("alpha", ["auto", None, ["auto", "auto"]])
def test_alpha_that_is_no_number(alpha: object) -> None:
    with pytest.raises(ValueError, match=r"alpha: expected a number or one for each sample, got .*(auto|None)"):
        LearnedInverseProblem(lambda x: x, torch.zeros(2, 1, 4, 4), TotalVariation(), alpha)  # type: ignore[arg-type]


def test_samples_have_their_own_alpha_and_value() -> None:
    image, observed = torch.rand(3, 1, 5, 6, dtype=torch.float64), torch.rand(3, 1, 5, 6, dtype=torch.float64)
    alpha = torch.tensor([0.0, 0.5, 2.0])
    prior = TotalVariation()
    together = LearnedInverseProblem(torch.square, observed, prior, alpha).objective(image)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    for index in range(3):
        one = slice(index, index + 1)
        alone = LearnedInverseProblem(torch.square, observed[one], prior, float(alpha[index])).objective(image[one])
        assert alone.item() == pytest.approx(together[index].item(), rel=1e-14)
        expected = 0.5 * (image[one] ** 2 - observed[one]).square().sum() + alpha[index] * prior(image[one])
        assert alone.item() == pytest.approx(expected.item(), rel=1e-14)


def test_channels_are_pre_and_image() -> None:
    seen: list[Tensor] = []

    def operator(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return inputs[:, -1:]

    pre, image = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    LearnedInverseProblem(operator, image, TotalVariation(), 0.0, pre=pre).simulate_low(image)
    LearnedInverseProblem(operator, image, TotalVariation(), 0.0).simulate_low(image)
    assert torch.equal(seen[0], torch.cat([pre, image], dim=1))
    assert torch.equal(seen[1], image)


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    operator = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ELU(), nn.Conv2d(3, 1, 1)).double()
    pre, observed, guess, image = torch.rand(4, 2, 1, 4, 3, dtype=torch.float64)
    prior = GeneralizedTotalVariation(guess, epsilon=1e-3)
    problem = LearnedInverseProblem(operator, observed, prior, torch.tensor([0.1, 0.3]), pre=pre)
    assert torch.autograd.gradcheck(problem.objective, image.requires_grad_(True))


@pytest.mark.parametrize(
    ("alpha", "pre_shape", "message"),
    [
        (-1e-3, None, "alpha: expected finite numbers that are not negative, got -0.001"),
        (float("nan"), None, "alpha: expected finite numbers that are not negative, got nan"),
        (torch.tensor([0.1, -0.1]), None, "alpha: expected finite numbers that are not negative"),
        (torch.ones(3), None, r"alpha: expected a number or shape \(2,\), got \(3,\)"),
        (0.1, (2, 1, 4, 5), r"pre has shape \(2, 1, 4, 5\), observed \(2, 1, 4, 4\)"),
        (0.1, (1, 1, 4, 4), r"pre has shape \(1, 1, 4, 4\), observed \(2, 1, 4, 4\)"),
    ],
)
def test_what_does_not_belong_together(alpha: float | Tensor, pre_shape: tuple[int, ...] | None, message: str) -> None:
    pre = None if pre_shape is None else torch.zeros(pre_shape)
    with pytest.raises(ValueError, match=message):
        LearnedInverseProblem(torch.square, torch.zeros(2, 1, 4, 4), TotalVariation(), alpha, pre)


def test_no_image() -> None:
    empty = torch.zeros(0, 1, 4, 4)
    with pytest.raises(ValueError, match=r"observed: expected at least one image, got shape \(0, 1, 4, 4\)"):
        LearnedInverseProblem(torch.square, empty, TotalVariation(), 0.1, pre=empty)


def mixed_network() -> nn.Sequential:
    """In training, but with batch statistics and a bias that are held fixed."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(), nn.Conv2d(2, 1, 1)).train()
    network[1].eval()
    assert isinstance(network[0].bias, nn.Parameter)
    network[0].bias.requires_grad_(False)
    return network


def test_frozen_brings_every_state_back() -> None:
    network = mixed_network()
    modes = [module.training for module in network.modules()]
    trainable = [parameter.requires_grad for parameter in network.parameters()]
    assert len({*modes}) == len({*trainable}) == 2
    with frozen(network):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == trainable


def test_frozen_brings_the_state_back_after_an_error() -> None:
    network = nn.Conv2d(1, 1, 1).train()
    with pytest.raises(RuntimeError, match="on purpose"), frozen(network):
        raise RuntimeError("on purpose")
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_frozen_takes_scripted_networks_and_plain_functions() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(1.0)).train())
    ones = torch.ones(1, 1, 2, 2)
    with frozen(scripted):
        assert not scripted.training
        assert scripted(ones).abs().sum() > 0
    assert scripted.training
    assert scripted(ones).abs().sum() == 0
    with frozen(torch.square):
        pass
