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
"""The inverse problem as an inferer: contexts, slices, units, the record, and the state of the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.inferers import LIPInferer
from monai_lipcar.networks import DoseOperator
from monai_lipcar.physics import LinearDoseOperator
from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, ProximalSolver, TotalVariation

SOLVER = AdamSolver(max_iterations=6)
ALPHA = 6e-3


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(channels: int = 2, dims: int = 2, seed: int = 0) -> nn.Sequential:
    """A forward operator whose layers tell training from evaluation."""
    torch.manual_seed(seed)
    conv: Any = nn.Conv2d if dims == 2 else nn.Conv3d
    norm: Any = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
    return nn.Sequential(conv(channels, 4, 3, padding=1), norm(4), nn.ELU(), nn.Dropout(0.5), conv(4, 1, 1))


def make_inferer(**options: Any) -> LIPInferer:
    return LIPInferer(**{"alpha": ALPHA, "solver": SOLVER, "progress": False, **options})


def study_batch(shape: tuple[int, ...], spacing: tuple[float, float, float], channels: int = 2) -> MetaTensor:
    """One study as the data loader of an evaluator gives it."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (10.0, -20.0, 30.0)
    volume = MetaTensor(random_image(channels, *shape), affine=affine, meta={"filename_or_obj": "low.nii.gz"})
    batch: MetaTensor = list_data_collate([{"image": volume}])["image"]
    return batch


CONTEXTS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("guess", [None, "pre", convolution(seed=1)])
def test_contexts_do_not_matter(context: str, guess: Any) -> None:
    network, inferer = convolution(), make_inferer(guess=guess)
    expected = inferer(random_image(1, 2, 16, 17, 3), network)
    expected_residual, expected_record = inferer.residual, inferer.record
    with CONTEXTS[context]():
        result = inferer(random_image(1, 2, 16, 17, 3), network)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    assert inferer.residual is not None
    assert expected_residual is not None
    assert torch.equal(inferer.residual, expected_residual)
    assert inferer.record == expected_record
    assert not result.is_inference()


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_dose_operator_in_every_context(context: str) -> None:
    torch.manual_seed(0)
    network = DoseOperator(in_channels=2, skeleton="physics")
    nn.init.constant_(network.vnet.out_tr.conv2.weight, 0.1)
    inferer = make_inferer(solver=AdamSolver(2))
    inputs = random_image(1, 2, 16, 16, 2)
    expected = inferer(inputs, network)
    with CONTEXTS[context]():
        assert torch.equal(inferer(inputs, network), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_slices_of_every_axis_are_independent_problems(axis: int, channels: int) -> None:
    shape = [12, 13, 14]
    shape[axis] = 3
    inputs = random_image(2, channels, *shape)
    network = convolution(channels).eval()
    # one slice at a time, so that the network rounds as it does below
    inferer = make_inferer(slice_axis=axis, slice_batch_size=1)
    result = inferer(inputs, network)
    assert result.shape == (2, 1, *shape)
    assert inferer.residual is not None
    assert inferer.record is not None
    assert len(inferer.record.status) == 2 * 3
    for volume in range(2):
        for index in range(3):
            piece = inputs[volume : volume + 1].select(axis + 2, index).contiguous()
            observed = piece[:, -1:]
            pre = piece[:, :1] if channels == 2 else None
            problem = LearnedInverseProblem(network, observed, TotalVariation(), ALPHA, pre)
            solution = SOLVER.solve(problem, observed)
            assert torch.equal(result[volume : volume + 1].select(axis + 2, index), solution.image)
            assert inferer.record.objective_last[3 * volume + index] == solution.objective[0, -1].item()
            with torch.no_grad():
                residual = problem.residual(solution.image)
            torch.testing.assert_close(inferer.residual[volume : volume + 1].select(axis + 2, index), residual)


def test_the_size_of_the_slice_batches_does_not_matter() -> None:
    inputs, network = random_image(1, 2, 8, 9, 5), LinearDoseOperator(0.2)
    results = [make_inferer(slice_batch_size=size)(inputs, network) for size in (1, 2, 5, 64)]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(("spacing", "axis"), [((5.0, 1.0, 1.0), 0), ((1.0, 5.0, 1.0), 1), ((1.0, 1.0, 5.0), 2)])
def test_slice_axis_follows_from_the_affine(spacing: tuple[float, float, float], axis: int) -> None:
    inputs = study_batch((6, 7, 8), spacing)
    inferer = make_inferer()
    result = inferer(inputs, LinearDoseOperator(0.2))
    assert inferer.record is not None
    assert len(inferer.record.status) == (6, 7, 8)[axis]
    plain = make_inferer(slice_axis=axis)(inputs.as_tensor(), LinearDoseOperator(0.2))
    assert torch.equal(result.as_tensor(), plain)  # type: ignore[attr-defined]


def test_a_meta_tensor_keeps_its_place_in_the_world() -> None:
    inputs = study_batch((6, 7, 3), (0.5, 0.5, 4.0))
    inferer = make_inferer()
    result = inferer(inputs, LinearDoseOperator(0.2))
    for volume in (result, inferer.residual):
        assert isinstance(volume, MetaTensor)
        assert volume.shape == (1, 1, 6, 7, 3)
        assert torch.equal(volume.affine, inputs.affine)
        alone = decollate_batch({"pred": volume})[0]["pred"]
        assert alone.shape == (1, 6, 7, 3)
        assert alone.affine.shape == (4, 4)
        assert alone.pixdim.tolist() == [0.5, 0.5, 4.0]
        assert alone.meta["filename_or_obj"] == "low.nii.gz"
    assert not isinstance(make_inferer()(inputs.as_tensor(), LinearDoseOperator(0.2)), MetaTensor)


def test_inputs_are_not_changed() -> None:
    inputs = study_batch((6, 7, 3), (1.0, 1.0, 4.0))
    before = inputs.as_tensor().clone()
    make_inferer(guess="pre")(inputs, LinearDoseOperator(0.2))
    assert torch.equal(inputs.as_tensor(), before)


def test_residual_and_record() -> None:
    inputs, network = random_image(1, 2, 8, 9, 5), LinearDoseOperator(0.2)
    inferer = make_inferer(slice_batch_size=2)
    result = inferer(inputs, network)
    residual = network(torch.cat([inputs[:, :1], result], dim=1)) - inputs[:, 1:]
    assert inferer.residual is not None
    torch.testing.assert_close(inferer.residual, residual)
    record = inferer.record
    assert record is not None
    assert record.solver == {"name": "paper", "max_iterations": 6, "step_size": 0.01}
    assert record.alpha == ALPHA
    assert record.status == ["max_iterations"] * 5
    assert record.iterations == [6] * 5
    assert record.network_evaluations == 3 * 7  # batches of 2, 2 and 1 slices
    prior = TotalVariation()
    for index in range(5):
        piece = residual[..., index]
        assert record.discrepancy[index] == pytest.approx(piece.square().mean().sqrt().item(), rel=1e-5)
        objective = 0.5 * piece.square().sum() + ALPHA * prior(result[..., index])[0]
        assert record.objective_last[index] == pytest.approx(objective.item(), rel=1e-5)
        assert record.objective_first[index] > record.objective_last[index]
    assert {len(values) for values in record.certificate.values()} == {5}


def test_each_call_starts_a_new_record() -> None:
    inferer = make_inferer()
    inferer(random_image(1, 2, 8, 8, 3), LinearDoseOperator(0.2))
    first = inferer.record
    inferer(random_image(1, 2, 8, 8, 2), LinearDoseOperator(0.2))
    assert first is not None
    assert inferer.record is not None
    assert (len(first.status), len(inferer.record.status)) == (3, 2)


def test_three_dimensional_operators_see_the_volume() -> None:
    inputs, network = random_image(2, 2, 6, 7, 5), convolution(dims=3).eval()
    inferer = make_inferer(spatial_dims=3, prior=TotalVariation(spacing=(1.0, 1.0, 3.0)))
    result = inferer(inputs, network)
    assert result.shape == (2, 1, 6, 7, 5)
    assert inferer.record is not None
    assert len(inferer.record.status) == 2
    observed = inputs[1:, 1:]
    problem = LearnedInverseProblem(
        network, observed, TotalVariation(spacing=(1.0, 1.0, 3.0)), ALPHA, pre=inputs[1:, :1]
    )
    assert torch.equal(result[1:], SOLVER.solve(problem, observed).image)


def test_volumes_take_the_voxel_size_from_the_affine() -> None:
    inputs, network = study_batch((6, 7, 5), (0.5, 0.5, 2.0)), convolution(dims=3).eval()
    plain = inputs.as_tensor()

    def solve(volume: Tensor, **options: Any) -> Tensor:
        return torch.as_tensor(make_inferer(spatial_dims=3, **options)(volume, network)).clone()

    thick = TotalVariation(spacing=(1.0, 1.0, 4.0))
    from_affine = solve(inputs)
    assert torch.equal(from_affine, solve(plain, prior=thick))
    assert not torch.equal(from_affine, solve(plain))
    # a prior that has a voxel size keeps it; around a guess it is the same
    assert torch.equal(solve(inputs, prior=TotalVariation(spacing=(1.0, 1.0, 1.0))), solve(plain))
    assert torch.equal(solve(inputs, guess="pre"), solve(plain, prior=thick, guess="pre"))


def test_the_proximal_solver_on_a_volume() -> None:
    inputs, network = 0.3 + 0.3 * random_image(1, 2, 16, 17, 5), LinearDoseOperator(0.2)
    inferer = make_inferer(guess="pre", solver=ProximalSolver(), slice_batch_size=2)
    result = inferer(inputs, network)
    record = inferer.record
    assert record is not None
    assert record.status == ["converged"] * 5
    assert record.network_evaluations <= 3 * 10
    assert max(record.certificate["relative_model_decrease"]) <= 1e-3
    paper = make_inferer(guess="pre", solver=AdamSolver())
    paper(inputs, network)
    assert paper.record is not None
    assert sum(record.objective_last) <= 1.01 * sum(paper.record.objective_last)
    with torch.inference_mode():
        assert torch.equal(inferer(inputs, network), result)


def test_the_bar_counts_slices(capsys: pytest.CaptureFixture[str]) -> None:
    make_inferer(progress=True, solver=ProximalSolver())(random_image(1, 2, 8, 8, 5), LinearDoseOperator(0.2))
    shown = capsys.readouterr().err
    assert "solving" in shown
    assert "4/5" in shown  # after the first batch
    assert "iteration=" in shown


def test_two_dimensional_inputs_are_a_batch_of_slices() -> None:
    inputs, network = random_image(3, 2, 8, 9), LinearDoseOperator(0.2)
    result = make_inferer()(inputs, network)
    assert torch.equal(result, make_inferer()(inputs.movedim(0, -1)[None], network)[0].movedim(-1, 0))


def test_guess_pre_is_the_prior_around_the_pre_dose_image() -> None:
    inputs, network = random_image(2, 2, 8, 9), LinearDoseOperator(0.2)
    result = make_inferer(guess="pre", slice_batch_size=2)(inputs, network)
    pre, observed = inputs[:, :1], inputs[:, 1:]
    problem = LearnedInverseProblem(network, observed, TotalVariation().around(pre), ALPHA, pre)
    assert torch.equal(result, SOLVER.solve(problem, observed).image)
    assert not torch.equal(result, make_inferer()(inputs, network))


def test_guess_of_a_network() -> None:
    inputs, network, end_to_end = random_image(2, 2, 8, 9), convolution().eval(), convolution(seed=1).train()
    result = make_inferer(guess=end_to_end)(inputs, network)
    assert end_to_end.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in end_to_end.parameters())
    with torch.no_grad():
        guess = end_to_end.eval()(inputs)
    for index in range(2):
        one = slice(index, index + 1)
        observed = inputs[one, 1:]
        prior = TotalVariation().around(guess[one])
        problem = LearnedInverseProblem(network, observed, prior, ALPHA, inputs[one, :1])
        torch.testing.assert_close(result[one], SOLVER.solve(problem, observed).image, atol=1e-4, rtol=0)


def test_a_large_alpha_gives_the_guess_up_to_a_constant() -> None:
    pre, low = 0.2 + 0.4 * random_image(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    inferer = make_inferer(alpha=10.0, guess="pre", solver=AdamSolver(400, 2e-3))
    difference = inferer(torch.cat([pre, low], dim=1), LinearDoseOperator(0.2)) - pre
    assert difference.std() < 0.01
    assert pre.std() > 0.1


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = convolution().train(training)
    assert isinstance(network[0], nn.Conv2d)
    network[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    make_inferer()(random_image(1, 2, 8, 8, 2), network)
    assert all(module.training == training for module in network.modules())
    assert [name for name, value in network.named_parameters() if not value.requires_grad] == ["0.weight"]
    assert all(value.grad is None for value in network.parameters())
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 8, 8, 2), r"expected channels \(pre, low\) or \(low\), got shape \(1, 3, 8, 8, 2\)"),
        ({"guess": "pre"}, (1, 1, 8, 8, 2), r"guess='pre' needs inputs with channels \(pre, low\), got one channel"),
        ({}, (1, 2, 8), r"expected slices \(B, C, H, W\) or volumes \(B, C, X, Y, Z\), got shape \(1, 2, 8\)"),
        ({"spatial_dims": 3}, (1, 2, 8, 8), r"expected volumes \(B, C, X, Y, Z\), got shape \(1, 2, 8, 8\)"),
    ],
)
def test_inputs_of_another_kind(options: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_inferer(**options)(random_image(*shape), LinearDoseOperator(0.2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1e-3}, "alpha: expected a number that is not negative or 'auto', got -0.001"),
        ({"alpha": float("nan")}, "alpha: expected a number that is not negative or 'auto', got nan"),
        ({"alpha": float("inf")}, "alpha: expected a number that is not negative or 'auto', got inf"),
        ({"alpha": "0.006x"}, "alpha: expected a number that is not negative or 'auto', got '0.006x'"),
        ({"alpha": True}, "alpha: expected a number that is not negative or 'auto', got True"),
        ({"alpha": "auot"}, "alpha: expected a number that is not negative or 'auto', got 'auot'"),
        ({"alpha": "auto"}, "alpha: 'auto' needs alpha_rule, the measured error of the operator, and got none"),
        ({"alpha_rule": {"kappa": 1.0}}, "alpha_rule: expected the numbers operator_error, kappa, ratio"),
        ({"alpha_rule": {"operator_error": -1.0, "kappa": 1.0}}, "operator_error: expected a number that is not"),
        ({"guess": "low"}, "guess: expected 'pre', a network or nothing, got 'low'"),
        ({"across_slices": True, "spatial_dims": 3}, "across_slices: it joins the slices of a 2-D operator, spa"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_inferer(**options)


def test_what_the_operator_says_about_its_inputs_is_heard() -> None:
    with pytest.raises(ValueError, match="expected a batch of 2 channels"):
        make_inferer()(random_image(1, 1, 16, 16, 2), DoseOperator(in_channels=2))
    with pytest.raises(ValueError, match="too small for the network"):
        make_inferer()(random_image(1, 1, 8, 16, 2), DoseOperator(in_channels=1))


@pytest.mark.parametrize("across_slices", [False, True])
def test_in_bfloat16_where_the_device_has_it(across_slices: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, network = random_image(1, 2, 16, 16, 3), DoseOperator(skeleton="physics").eval()
    torch.nn.init.constant_(network.vnet.out_tr.conv2.weight, 0.002)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    options = {"solver": ProximalSolver(max_iterations=3), "across_slices": across_slices}
    plain, half = make_inferer(**options), make_inferer(precision="auto", **options)
    expected, result = plain(inputs, network), half(inputs, network)
    assert not result.equal(expected)
    assert float((result - expected).square().mean().sqrt()) < 5e-3
    assert plain.record is not None
    assert half.record is not None
    assert "network_precision" not in plain.record.solver
    assert half.record.solver["network_precision"] == "bfloat16"
    # the residual is that of the network as it was given
    assert half.residual is not None
    with torch.no_grad():
        slices = torch.cat([inputs[:, :1], result], dim=1).movedim(-1, 1).flatten(0, 1)
        simulated = network(slices)
    residual = simulated.unflatten(0, (1, 3)).movedim(1, -1) - inputs[:, 1:]
    torch.testing.assert_close(half.residual, residual, rtol=0, atol=1e-6)


def test_a_precision_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="precision: expected 'float32' or 'auto', got 'half'"):
        make_inferer(precision="half")


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf"), "2", True])
def test_a_memory_budget_that_is_no_positive_number(budget: float) -> None:
    with pytest.raises(
        ConfigurationError, match=f"memory_budget_gib: expected a finite number above 0, got {budget!r}"
    ):
        make_inferer(memory_budget_gib=budget)
