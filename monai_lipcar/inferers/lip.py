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
"""The inverse problem as a MONAI inferer: observed volume in, simulated high-dose volume out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.networks import compile_operator, in_bfloat16
from monai_lipcar.problem import (
    AdamSolver,
    AlphaRule,
    DiscrepancyPrinciple,
    GuessRule,
    LearnedInverseProblem,
    Prior,
    Solution,
    TotalVariation,
    frozen,
)

from .automatic import AlphaChoice, GuessChoice, ObservedNoise, choose_alpha, observed_noise
from .budget import checked_budget, slices_within
from .operator import volume_slice_axis
from .slicewise import SlicewiseOperator

__all__ = ["LIPInferer", "SolveRecord"]

Rule = TypeVar("Rule", AlphaRule, GuessRule)
_SLICES = 4
"""Most slices that alpha is chosen on: one number needs no more."""


class Solver(Protocol):
    """What the inferer asks of a solver."""

    max_iterations: int

    def solve(
        self, problem: LearnedInverseProblem, initial: torch.Tensor, callback: Callable[[], None] | None = None
    ) -> Solution:
        """Minimize the problem's objective from ``initial``; ``callback`` is called after each iteration."""

    def describe(self) -> dict[str, Any]:
        """Name and settings."""


@dataclass
class SolveRecord:
    """What the solver did, over all slices of one volume (or over one 3-D solve).

    Each list has an entry a slice, in the order of the slice axis.
    """

    solver: dict[str, Any]
    alpha: float
    status: list[str] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    objective_first: list[float] = field(default_factory=list)
    objective_last: list[float] = field(default_factory=list)
    discrepancy: list[float] = field(default_factory=list)
    """Root mean square of the residual, on the [0, 1] scale."""
    certificate: dict[str, list[float]] = field(default_factory=dict)
    objective: list[list[float]] = field(default_factory=list)
    """The objective at the start and after each iteration of the slice."""
    network_evaluations: int = 0
    alpha_choice: AlphaChoice | None = None
    """How alpha was chosen, where it was."""
    guess_choice: GuessChoice | None = None
    """Which guess was taken, where there was a choice."""

    def add(self, solution: Solution, residual: torch.Tensor) -> None:
        """Append the samples of one solve."""
        self.status.extend(solution.status)
        self.iterations.extend(solution.iterations)
        self.objective_first.extend(solution.objective[:, 0].tolist())
        self.objective_last.extend(solution.objective[:, -1].tolist())
        histories = solution.objective.tolist()
        self.objective.extend(values[: steps + 1] for values, steps in zip(histories, solution.iterations, strict=True))
        self.discrepancy.extend(residual.square().flatten(1).mean(dim=1).sqrt().tolist())
        for name, values in solution.certificate.items():
            self.certificate.setdefault(name, []).extend(values.tolist())
        self.network_evaluations += solution.network_evaluations


class LIPInferer(Inferer):
    """Invert a forward operator on a volume: the learned inverse problem as a MONAI ``Inferer``.

    The inputs' channels are (pre, observed), or (observed) for an operator without a pre-dose image; ``network`` is
    the forward operator. A 2-D operator is inverted slice by slice, in batches of slices that are independent
    problems, or on the volume with a prior across its slices; a 3-D operator is inverted on the volume. Works under
    ``no_grad``, ``inference_mode`` and autocast, as evaluators and MONAI Label call it; the computation is in float32.

    After a call ``residual`` holds Psi(x) - y (same type and shape as the result) and ``record`` the solver's record.

    Args:
        alpha: weight of the prior (paper: 6e-3 for H2L-TV and PH2L-GenTV, 3e-3 for PH2L-TV); or ``"auto"``: one for
            the volume from its own noise level.
        alpha_rule: how it follows from that, which ``"auto"`` needs, see :class:`~monai_lipcar.problem.AlphaRule`. A
            search for alpha takes the four slices (or as many as are solved together, if fewer) with most signal.
        prior: total variation by default. On a volume that is a MetaTensor it takes the voxel size from the affine,
            unless it has one.
        guess: makes the prior one around a guess (GenTV): ``"pre"`` for the pre-dose image, or an end-to-end network
            (its weights loaded) that is called with the inputs.
        guess_rule: makes the guess a mean of the end-to-end image and the pre-dose image, with weights from the
            noise of pre and observed image, see :class:`~monai_lipcar.problem.GuessRule`; ``"auto"`` then takes the
            noise of both together.
        solver: the published :class:`~monai_lipcar.problem.AdamSolver` by default;
            :class:`~monai_lipcar.problem.ProximalSolver` is many times faster and says when it is done.
        spatial_dims: dimensions of the forward operator.
        slice_batch_size: most slices that the network takes together; fewer where they exceed the memory budget.
        memory_budget_gib: for what the network keeps for its gradient, which a forward pass of one slice measures. One
            slice is solved whatever it needs.
        precision: of the forward operator's convolutions while the problem is solved. ``"auto"``: bfloat16 where the
            device is faster in it and the slice with most signal shows that it changes the output little, see
            :func:`~monai_lipcar.networks.in_bfloat16`; the record's solver then says so. Everything else is in float32,
            the residual that is reported included.
        compiled: compile the forward operator, see :func:`~monai_lipcar.networks.compile_operator`.
        across_slices: one problem for the volume with a 2-D operator, :class:`SlicewiseOperator`: the prior is that of
            the volume, and neighboring slices inform each other.
        slice_axis: 0, 1 or 2; by default it follows from the volume's affine.
        progress: show a progress bar.

    Raises:
        ConfigurationError: a setting that cannot be used, inputs of another shape, or a guess from the pre-dose image
            with inputs that have no pre-dose channel.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> inferer = LIPInferer(alpha=1e-4, guess="pre", solver=AdamSolver(max_iterations=2), progress=False)
        >>> result = inferer(torch.rand(1, 2, 16, 16, 3), LinearDoseOperator(0.2))
        >>> result.shape, inferer.residual.shape, len(inferer.record.status)
        (torch.Size([1, 1, 16, 16, 3]), torch.Size([1, 1, 16, 16, 3]), 3)
    """

    def __init__(
        self,
        alpha: float | Literal["auto"] = 6e-3,
        prior: Prior | None = None,
        guess: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
        solver: Solver | None = None,
        spatial_dims: int = 2,
        slice_batch_size: int = 4,
        slice_axis: int | None = None,
        progress: bool = True,
        alpha_rule: AlphaRule | Mapping[str, float] | None = None,
        across_slices: bool = False,
        memory_budget_gib: float = 2.0,
        precision: Literal["float32", "auto"] = "float32",
        guess_rule: GuessRule | Mapping[str, float] | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        if alpha != "auto" and (
            isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < math.inf
        ):
            raise ConfigurationError(f"alpha: expected a number that is not negative or 'auto', got {alpha!r}")
        if alpha == "auto" and alpha_rule is None:
            raise ConfigurationError(
                "alpha: 'auto' needs alpha_rule, the measured error of the operator, and got none; give a number"
            )
        if isinstance(guess, str) and guess != "pre":
            raise ConfigurationError(f"guess: expected 'pre', a network or nothing, got {guess!r}")
        if across_slices and spatial_dims != 2:
            raise ConfigurationError(
                f"across_slices: it joins the slices of a 2-D operator, spatial_dims is {spatial_dims}; leave it out"
            )
        if precision not in ("float32", "auto"):
            raise ConfigurationError(f"precision: expected 'float32' or 'auto', got {precision!r}")
        self.precision = precision
        if guess_rule is not None and not callable(guess):
            raise ConfigurationError(f"guess_rule: it weighs an end-to-end network's image, but guess is {guess!r}")
        self.alpha: float | Literal["auto"] = "auto" if alpha == "auto" else float(alpha)
        self.alpha_rule = _as_rule(AlphaRule, "alpha_rule", alpha_rule)
        self.prior = TotalVariation() if prior is None else prior
        self.guess = guess
        self.guess_rule = _as_rule(GuessRule, "guess_rule", guess_rule)
        self.solver: Solver = AdamSolver() if solver is None else solver
        self.spatial_dims = spatial_dims
        self.slice_batch_size = slice_batch_size
        self.memory_budget_gib = checked_budget(memory_budget_gib)
        self.across_slices = across_slices
        self.compiled = compiled
        self.slice_axis = slice_axis
        self.progress = progress
        self.residual: torch.Tensor | None = None
        self.record: SolveRecord | None = None

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Solve for inputs (B, C, *spatial), C = 1 or 2; returns (B, 1, *spatial), a MetaTensor where inputs is."""
        if inputs.shape[1] not in (1, 2):
            raise ConfigurationError(f"expected channels (pre, low) or (low), got shape {tuple(inputs.shape)}")
        if (self.guess == "pre" or self.guess_rule is not None) and inputs.shape[1] != 2:
            of = "guess='pre'" if self.guess_rule is None else "guess_rule"
            raise ConfigurationError(f"{of} needs inputs with channels (pre, low), got one channel")
        if inputs.ndim not in (self.spatial_dims + 2, 5):
            slices = "slices (B, C, H, W) or " if self.spatial_dims == 2 else ""
            raise ConfigurationError(f"expected {slices}volumes (B, C, X, Y, Z), got shape {tuple(inputs.shape)}")
        if isinstance(self.guess, torch.nn.Module):
            self.guess.to(inputs.device)
        with torch.inference_mode(False):
            # A copy: tensors made in inference mode cannot take part in anything that needs gradients
            data = (inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs).detach().clone().float()
            by_slice = data.ndim == 5 and self.spatial_dims == 2
            axis = volume_slice_axis(inputs, self.slice_axis) + 2 if by_slice else 0
            batch = data.movedim(axis, 1).flatten(0, 1) if by_slice else data
            solving = self._network_to_solve_with(batch, network)
            settings = {} if solving is network else {"network_precision": "bfloat16"}
            # memory is measured by a network that is not compiled, as that would be for a batch of its own
            size = self._slices_together(batch, solving, self.prior) if by_slice else 1
            if self.compiled and isinstance(solving, torch.nn.Module):
                with frozen(solving):
                    solving = compile_operator(solving, batch[:size].contiguous())
            if by_slice and self.across_slices:
                whole = SlicewiseOperator(network, axis - 2, size)
                solving = whole.of_same_slices(solving)
                network, by_slice, batch, size = whole, False, data, 1
            images, residuals = [], []
            priors = [self.prior] if by_slice or data.ndim == 4 else self._priors_of_volumes(inputs)
            chunks = batch.split(size)
            unit = "volume" if data.ndim == 5 and not by_slice else "slice"
            with tqdm(total=len(batch), desc="solving", unit=unit, disable=not self.progress, leave=False) as bar:
                alpha, choice, noise = self.alpha, None, self._noise(inputs, batch)
                guess, weight = None, 1.0
                if self.guess_rule is not None and noise is not None:
                    guess = GuessChoice.by(self.guess_rule, noise.sigma, self._noise_of("pre", inputs, batch).sigma)
                    weight, noise = guess.end_to_end, replace(noise, sigma=math.hypot(guess.sigma, guess.sigma_pre))
                if alpha == "auto":
                    assert noise is not None
                    count = min(_SLICES, size if by_slice else self.slice_batch_size)
                    choice = self._choose_alpha(batch, noise, solving, priors[0], weight, bar, count)
                    alpha = choice.alpha
                record = SolveRecord(
                    {**self.solver.describe(), **settings}, alpha, alpha_choice=choice, guess_choice=guess
                )
                for chunk, prior in zip(chunks, itertools.cycle(priors), strict=False):
                    problem = self.problem(chunk.contiguous(), solving, alpha, prior, weight)
                    solution = self.solver.solve(problem, problem.observed, _iteration_counter(bar))
                    residual = _residual(problem, network, solution.image)
                    record.add(solution, residual)
                    images.append(solution.image)
                    residuals.append(residual)
                    bar.update(len(chunk))
            if choice is not None and noise is not None:
                choice.reached = float(torch.cat(residuals)[noise.head].double().square().mean().sqrt())

            def restore(parts: list[torch.Tensor]) -> torch.Tensor:
                result = torch.cat(parts)
                if by_slice:
                    result = result.unflatten(0, (data.shape[0], data.shape[axis])).movedim(1, axis)
                return convert_to_dst_type(result.contiguous(), inputs)[0]

            image, self.residual, self.record = restore(images), restore(residuals), record
        return image

    def _priors_of_volumes(self, inputs: torch.Tensor) -> list[Prior]:
        """The prior for each volume's voxel size."""
        if not isinstance(inputs, MetaTensor):
            return [self.prior]
        affines = inputs.affine.reshape(-1, *inputs.affine.shape[-2:])
        return [self.prior.at_spacing(affine_to_spacing(affine).tolist()) for affine in affines]

    def _network_to_solve_with(
        self, batch: torch.Tensor, network: Callable[..., torch.Tensor]
    ) -> Callable[..., torch.Tensor]:
        """In the precision that is asked for, tried on the sample with most signal."""
        if self.precision == "float32" or not isinstance(network, torch.nn.Module):
            return network
        strongest = int(batch[:, -1].flatten(1).sum(dim=1).argmax())
        with frozen(network):
            return in_bfloat16(network, batch[strongest : strongest + 1].contiguous())

    def _slices_together(self, batch: torch.Tensor, network: Callable[..., torch.Tensor], prior: Prior) -> int:
        most = min(self.slice_batch_size, len(batch))
        if most == 1:
            return 1
        sample = batch[:1].contiguous()
        pre = sample[:, :1] if sample.shape[1] == 2 else None
        # without a guess, which memory does not depend on: the end-to-end network need not run for it
        problem = LearnedInverseProblem(network, sample[:, -1:], prior, 0.0, pre)
        return slices_within(problem, self.memory_budget_gib, most)

    def _noise(self, inputs: torch.Tensor, batch: torch.Tensor) -> ObservedNoise | None:
        """Noise of the volume, where something is chosen by it."""
        if self.alpha != "auto" and self.guess_rule is None:
            return None
        if inputs.ndim == 5 and len(inputs) > 1:
            what = "alpha='auto'" if self.alpha == "auto" else "guess_rule"
            raise ConfigurationError(f"{what} is for one volume at a time, got a batch of {len(inputs)}")
        return self._noise_of("low", inputs, batch)

    def _noise_of(self, member: str, inputs: torch.Tensor, batch: torch.Tensor) -> ObservedNoise:
        axis = volume_slice_axis(inputs, self.slice_axis) if batch.ndim == 5 else 0
        return observed_noise(batch, axis, member)

    def _choose_alpha(
        self,
        batch: torch.Tensor,
        noise: ObservedNoise,
        network: Callable[..., torch.Tensor],
        prior: Prior,
        guess_weight: float,
        bar: Any,
        count: int,
    ) -> AlphaChoice:
        assert self.alpha_rule is not None
        bar.set_description("choosing alpha")
        chosen = choose_alpha(
            batch,
            noise,
            self.alpha_rule,
            lambda samples: self.problem(samples, network, 0.0, prior, guess_weight),
            self.solver,
            # a fixed number of steps leads somewhere else from another start
            DiscrepancyPrinciple(warm_start=not isinstance(self.solver, AdamSolver)),
            count,
            _iteration_counter(bar),
        )
        bar.set_description("solving")
        return chosen

    def problem(
        self,
        inputs: torch.Tensor,
        network: Callable[[torch.Tensor], torch.Tensor],
        alpha: float,
        prior: Prior | None = None,
        guess_weight: float = 1.0,
    ) -> LearnedInverseProblem:
        """The inverse problem of some samples, with the guess made for them.

        Args:
            inputs: (B, C, *spatial) of the operator's dimensions, C = 1 or 2.
            network: the forward operator.
            alpha: weight of the prior.
            prior: without the guess; by default the inferer's.
            guess_weight: of the end-to-end image in the guess; the rest is the pre-dose image.
        """
        prior = self.prior if prior is None else prior
        pre = inputs[:, :1] if inputs.shape[1] == 2 else None
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            if self.guess == "pre":
                prior = prior.around(inputs[:, :1])
            elif callable(self.guess):
                guess = self.guess
                if isinstance(network, SlicewiseOperator):
                    guess = network.of_same_slices(guess)
                with frozen(guess):
                    image = guess(inputs)
                if pre is not None and guess_weight < 1:
                    image = pre + guess_weight * (image - pre)
                prior = prior.around(image)
        return LearnedInverseProblem(network, inputs[:, -1:], prior, alpha, pre)


def _residual(
    problem: LearnedInverseProblem, network: Callable[..., torch.Tensor], image: torch.Tensor
) -> torch.Tensor:
    """Of the network as it was given, which the problem may have been solved with in another precision."""
    given = LearnedInverseProblem(network, problem.observed, problem.prior, problem.alpha, problem.pre)
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False), frozen(network):
        return given.residual(image)


def _as_rule(kind: type[Rule], name: str, rule: Rule | Mapping[str, float] | None) -> Rule | None:
    if rule is None or isinstance(rule, kind):
        return rule
    try:
        return kind(**rule)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        numbers = ", ".join(one.name + ("" if one.default is MISSING else " (optional)") for one in fields(kind))
        raise ConfigurationError(f"{name}: expected the numbers {numbers}, got {rule!r} ({error})") from error


def _iteration_counter(bar: Any) -> Callable[[], None]:
    """A callback that shows the iterations of a solve beside the bar, which counts what is solved."""
    numbers = itertools.count(1)
    return lambda: bar.set_postfix(iteration=next(numbers))
