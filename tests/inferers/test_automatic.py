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
"""Alpha and guess chosen by the inferer: on which slices, from which noise, and what the record says of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.inferers import AlphaChoice, GuessChoice, LIPInferer
from monai_lipcar.physics import LinearDoseOperator, add_rician_noise
from monai_lipcar.problem import AdamSolver, AlphaRule, GuessRule, LearnedInverseProblem, ProximalSolver, TotalVariation

NOISE = 0.02
RULE = AlphaRule(operator_error=0.004, kappa=1.0)
BRIGHTNESS = (0.2, 0.9, 1.0, 0.5, 0.8)
"""Of each slice: the four with most signal are all but the first."""


def examination(size: int = 48) -> Tensor:
    """Channels (pre, low) of five slices (1, 2, H, W, S): a head with a disk that enhances, and Rician noise."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    head = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (0.42 * size) ** 2
    disk = (rows - 0.4 * size) ** 2 + (columns - 0.6 * size) ** 2 < (0.15 * size) ** 2
    pre = (0.45 * head * (1.0 + 0.2 * torch.sin(columns / 5.0)))[..., None] * torch.tensor(BRIGHTNESS)
    high = pre + (0.4 * disk)[..., None]
    low = LinearDoseOperator(0.2)(torch.stack([pre, high])[None])[0, 0]
    low = add_rician_noise(low, NOISE, torch.Generator().manual_seed(0))
    return torch.stack([pre, low])[None]


def make_inferer(**options: Any) -> LIPInferer:
    default = {"alpha": "auto", "alpha_rule": RULE, "guess": "pre", "solver": ProximalSolver(), "progress": False}
    return LIPInferer(**{**default, **options})


def head_of(inputs: Tensor) -> Tensor:
    return inputs[:, :1] > 0


def test_one_alpha_for_the_volume_from_its_noise() -> None:
    inputs, network = examination(), LinearDoseOperator(0.2)
    inferer = make_inferer()
    result = inferer(inputs, network)
    record = inferer.record
    assert record is not None
    choice = record.alpha_choice
    assert choice is not None
    assert choice.alpha == record.alpha
    assert choice.sigma == pytest.approx(NOISE, rel=0.15)
    assert choice.wanted == pytest.approx(math.hypot(choice.sigma, 0.004))
    assert (choice.status, choice.warning) == ("met", None)
    assert choice.slices == [1, 2, 3, 4]
    assert choice.solves >= 1
    assert choice.network_evaluations >= 2 * choice.solves
    # all slices with the alpha of a few: near the wanted residual, as a user measures it
    residual = inferer.residual
    assert residual is not None
    assert choice.reached == pytest.approx(residual[head_of(inputs)].square().mean().sqrt().item(), rel=0.03)
    assert choice.reached == pytest.approx(choice.wanted, rel=0.1)
    # and what a user who gives the number gets
    plain = make_inferer(alpha=record.alpha, alpha_rule=None)
    assert torch.equal(plain(inputs, network), result)
    assert plain.record is not None
    assert plain.record.alpha_choice is None


def test_more_noise_more_alpha() -> None:
    inputs, network = examination(), LinearDoseOperator(0.2)
    noisy = inputs.clone()
    noisy[:, 1] = add_rician_noise(noisy[:, 1], 2 * NOISE, torch.Generator().manual_seed(1))
    alphas = []
    for volume in (inputs, noisy):
        inferer = make_inferer()
        inferer(volume, network)
        assert inferer.record is not None
        alphas.append(inferer.record.alpha)
    assert alphas[1] > 1.5 * alphas[0]


def test_alpha_in_proportion_to_the_noise() -> None:
    inputs, network = examination(), LinearDoseOperator(0.2)
    inferer = make_inferer(alpha_rule=AlphaRule(operator_error=0.004, kappa=1.0, ratio=0.25))
    inferer(inputs, network)
    record = inferer.record
    assert record is not None
    choice = record.alpha_choice
    assert choice is not None
    assert record.alpha == choice.alpha == pytest.approx(0.25 * math.hypot(choice.sigma, 0.004))
    assert (choice.status, choice.solves, choice.network_evaluations, choice.slices) == ("proportional", 0, 0, [])
    assert inferer.residual is not None
    reached = inferer.residual[head_of(inputs)].square().mean().sqrt().item()
    assert choice.reached == pytest.approx(reached, rel=0.03)
    assert choice.warning is None


def test_a_rule_as_the_metadata_gives_it() -> None:
    inferer = make_inferer(alpha_rule={"operator_error": 0.004, "kappa": 1.0})
    assert inferer.alpha_rule == RULE


@pytest.mark.parametrize("axis", [0, 2])
def test_the_slice_axis_is_that_of_the_volume(axis: int) -> None:
    inputs = examination().movedim(4, axis + 2)
    affine = np.diag([5.0 if index == axis else 1.0 for index in range(3)] + [1.0])
    inferer = make_inferer()
    inferer(MetaTensor(inputs, affine=affine), LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert choice.slices == [1, 2, 3, 4]


def test_no_more_slices_than_are_solved_together() -> None:
    inferer = make_inferer(slice_batch_size=2)
    with torch.inference_mode():
        inferer(examination(), LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert choice.slices == [1, 2]


def test_a_volume_that_is_solved_as_a_whole() -> None:
    inferer = make_inferer(spatial_dims=3)
    inferer(examination(), LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert (choice.status, choice.slices) == ("met", [])


def test_slices_are_those_of_one_volume() -> None:
    slices = examination()[0].movedim(-1, 0).contiguous()
    inferer = make_inferer()
    result = inferer(slices, LinearDoseOperator(0.2))
    volume = make_inferer()(examination(), LinearDoseOperator(0.2))
    assert torch.equal(result, volume[0].movedim(-1, 0))


def test_the_published_solver_starts_anew_each_time() -> None:
    inferer = make_inferer(solver=AdamSolver(max_iterations=40))
    inferer(examination(), LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert choice.network_evaluations == 41 * choice.solves
    # so that the slices end as they did when alpha was chosen
    chosen = [inferer.record.discrepancy[index] for index in choice.slices]
    again = make_inferer(solver=AdamSolver(max_iterations=40), alpha=choice.alpha)
    again(examination(), LinearDoseOperator(0.2))
    assert again.record is not None
    assert [again.record.discrepancy[index] for index in choice.slices] == pytest.approx(chosen)


def make_choice(reached: float | None, status: str = "met") -> AlphaChoice:
    return AlphaChoice(0.003, 0.01, RULE, wanted=0.011, status=status, reached=reached)


@pytest.mark.parametrize(
    ("choice", "end"),
    [
        (make_choice(0.03), "check that dose fraction and sequence are those of the study"),
        (make_choice(0.03, "alpha_limit"), "check that dose fraction and sequence are those of the study"),
        (make_choice(0.010, "alpha_limit"), "as much as the prior alone leaves; do not rely on the enhancement"),
        (make_choice(0.004, "proportional"), "the result shows noise of the low dose"),
    ],
)
def test_what_the_reader_has_to_know(choice: AlphaChoice, end: str) -> None:
    assert choice.warning is not None
    assert choice.warning.startswith(
        f"alpha 0.003: the residual is {choice.reached:.4f}, noise and operator explain 0.0110"
    )
    assert choice.warning.endswith(end)


def test_an_error_of_the_operator_may_be_explained_the_noise_may_not() -> None:
    choice = AlphaChoice(0.003, 0.004, RULE, wanted=0.03, status="proportional", reached=0.006)
    assert choice.warning is None
    assert replace(choice, sigma=0.0, reached=0.0).warning is None
    too_much = replace(choice, reached=0.0019).warning
    assert too_much is not None
    assert too_much.endswith("explain 0.0300 (0.0040 the noise alone); the result shows noise of the low dose")


@pytest.mark.parametrize("status", ["met", "proportional", "max_solves"])
def test_nothing_to_tell(status: str) -> None:
    assert make_choice(0.012, status).warning is None
    assert make_choice(None, status).warning is None


def test_noise_that_explains_everything_is_told() -> None:
    inferer = make_inferer(alpha_rule=AlphaRule(operator_error=0.04, kappa=1.0))
    inferer(examination(), LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert (choice.status, choice.alpha) == ("alpha_limit", pytest.approx(0.3))
    assert choice.warning is not None
    assert choice.warning.endswith("do not rely on the enhancement")


def test_an_operator_that_does_not_explain_the_data_is_told() -> None:
    inputs = examination()
    inputs[:, 1] -= 0.3 * head_of(inputs)[:, 0]
    inputs[:, :1] += 0.2
    inferer = make_inferer(alpha_rule=AlphaRule(operator_error=0.004, kappa=1.0, ratio=0.25))
    inferer(inputs, LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert choice.warning is not None
    assert choice.warning.endswith("check that dose fraction and sequence are those of the study")


def extrapolation(inputs: Tensor) -> Tensor:
    """An end-to-end image: noise times five."""
    return (inputs[:, :1] + (inputs[:, 1:] - inputs[:, :1]) / 0.2).clamp(0.0, 1.0)


ADAPTIVE: dict[str, Any] = {
    "guess": extrapolation,
    "guess_rule": GuessRule(error=NOISE),
    "alpha_rule": AlphaRule(operator_error=0.004, kappa=0.0, ratio=0.25),
}


def test_guess_and_alpha_from_the_noise() -> None:
    inputs, network = examination(), LinearDoseOperator(0.2)
    inferer = make_inferer(**ADAPTIVE)
    result = inferer(inputs, network)
    record = inferer.record
    assert record is not None
    choice = record.guess_choice
    assert choice is not None
    assert choice == GuessChoice.by(ADAPTIVE["guess_rule"], choice.sigma, choice.sigma_pre)
    assert choice.sigma == pytest.approx(NOISE, rel=0.15)
    assert choice.sigma_pre < 0.2 * NOISE
    assert choice.end_to_end == pytest.approx(0.5, abs=0.07)
    assert choice.pre == 1.0 - choice.end_to_end
    assert record.alpha == pytest.approx(0.25 * math.hypot(choice.sigma, choice.sigma_pre))
    assert choice.describe()["rule"] == {"error": NOISE, "gain": 1.0}
    slices = inputs[0].movedim(-1, 0).contiguous()
    pre, low = slices[:, :1], slices[:, 1:]
    guess = choice.end_to_end * extrapolation(slices) + choice.pre * pre
    problem = LearnedInverseProblem(network, low, TotalVariation().around(guess), record.alpha, pre)
    expected = ProximalSolver().solve(problem, low).image
    torch.testing.assert_close(result[0].movedim(-1, 0), expected, atol=1e-4, rtol=0)


def test_noise_of_the_pre_dose_image_counts() -> None:
    inputs = examination()
    inputs[:, 0] = add_rician_noise(inputs[:, 0], NOISE, torch.Generator().manual_seed(1))
    inferer = make_inferer(**ADAPTIVE)
    inferer(inputs, LinearDoseOperator(0.2))
    record = inferer.record
    assert record is not None
    assert record.guess_choice is not None
    assert record.guess_choice.sigma_pre == pytest.approx(NOISE, rel=0.15)
    assert record.guess_choice.end_to_end == pytest.approx(2 / 3, abs=0.07)
    assert record.alpha == pytest.approx(0.25 * 2**0.5 * NOISE, rel=0.15)
    assert record.alpha_choice is not None
    assert record.alpha_choice.sigma == pytest.approx(record.alpha / 0.25)


def test_the_guess_is_that_of_the_search_for_alpha_too() -> None:
    """All slices are those of the search here; around another guess than that of the result it finds another alpha."""
    inferer = make_inferer(**{**ADAPTIVE, "alpha_rule": RULE, "guess_rule": GuessRule(error=0.2 * NOISE)})
    inferer(examination()[..., :4], LinearDoseOperator(0.2))
    assert inferer.record is not None
    choice = inferer.record.alpha_choice
    assert choice is not None
    assert choice.status == "met"
    assert choice.reached == pytest.approx(choice.wanted, rel=0.03)


def test_a_guess_by_the_noise_with_an_alpha_of_one_s_own() -> None:
    inferer = make_inferer(alpha=0.004, alpha_rule=None, guess=extrapolation, guess_rule={"error": 1.0})
    result = inferer(examination(), LinearDoseOperator(0.2))
    record = inferer.record
    assert record is not None
    assert (record.alpha, record.alpha_choice) == (0.004, None)
    assert record.guess_choice is not None
    assert record.guess_choice.end_to_end > 0.99
    # a guess that is all the end-to-end image's is the one without a rule
    plain = make_inferer(alpha=0.004, alpha_rule=None, guess=extrapolation)
    assert (plain(examination(), LinearDoseOperator(0.2)) - result).abs().max() < 0.01
    assert plain.record is not None
    assert plain.record.guess_choice is None


def test_a_guess_by_the_noise_for_a_prior_across_the_slices() -> None:
    inferer = make_inferer(**ADAPTIVE, across_slices=True)
    inferer(examination(), LinearDoseOperator(0.2))
    apart = make_inferer(**ADAPTIVE)
    apart(examination(), LinearDoseOperator(0.2))
    assert inferer.record is not None
    assert apart.record is not None
    assert inferer.record.guess_choice == apart.record.guess_choice


@pytest.mark.parametrize("guess", [None, "pre"])
def test_a_rule_needs_an_end_to_end_network(guess: str | None) -> None:
    with pytest.raises(ConfigurationError, match="guess_rule: it weighs an end-to-end network's image, but guess is"):
        make_inferer(**{**ADAPTIVE, "guess": guess})


def test_a_rule_needs_the_pre_dose_image() -> None:
    with pytest.raises(ConfigurationError, match=r"guess_rule needs inputs with channels \(pre, low\), got one"):
        make_inferer(**ADAPTIVE)(examination()[:, 1:], LinearDoseOperator(0.2))


def test_numbers_of_a_guess_rule() -> None:
    with pytest.raises(ConfigurationError, match="guess_rule: expected the numbers error, gain \\(optional\\), got"):
        make_inferer(**{**ADAPTIVE, "guess_rule": {"error": -2.0}})


def test_one_volume_at_a_time() -> None:
    inputs = examination()
    with pytest.raises(ConfigurationError, match="alpha='auto' is for one volume at a time, got a batch of 2"):
        make_inferer()(torch.cat([inputs, inputs]), LinearDoseOperator(0.2))
    with pytest.raises(ConfigurationError, match="guess_rule is for one volume at a time, got a batch of 2"):
        make_inferer(**ADAPTIVE | {"alpha": 0.01})(torch.cat([inputs, inputs]), LinearDoseOperator(0.2))


def test_an_image_that_does_not_tell_its_noise() -> None:
    with pytest.raises(StudyError, match="low: the noise level cannot be estimated, which alpha is chosen by; give"):
        make_inferer()(torch.zeros(1, 2, 16, 16, 3), LinearDoseOperator(0.2))
