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
"""The learned inverse problem: data fidelity through the forward operator plus a prior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from monai_lipcar.types import ImageBatch, PerSample

from .priors import Prior

__all__ = ["LearnedInverseProblem", "frozen"]

_SMALLEST_CURVATURE = 1e-4
"""Of a voxel: that of an operator which passes a hundredth on. It bounds the step where an operator hardly listens."""


@contextmanager
def frozen(operator: Callable[[ImageBatch], ImageBatch]) -> Iterator[None]:
    """Evaluation mode and no parameter gradients for the time of a solve; the former state returns afterwards."""
    if not isinstance(operator, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in operator.modules()]
    trainable = [parameter for parameter in operator.parameters() if parameter.requires_grad]
    operator.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in trainable:
            parameter.requires_grad_(True)


class LearnedInverseProblem:
    r"""Find the full-dose image whose simulated low dose is the observed one.

    .. math:: \min_{x \in [0,1]^n} \; \tfrac12 \|\Psi(x_P, x) - y\|_2^2 + \alpha R(x)

    Sums over voxels, not means, so that alpha means the same as in the paper. Samples of the batch are independent
    problems that are evaluated together.

    Args:
        operator: Psi, a forward operator (high to low dose); called with (B, 2, *spatial) channels (pre, x), or with
            (B, 1, *spatial) when there is no pre-dose image.
        observed: y, (B, 1, *spatial).
        prior: R.
        alpha: weight of the prior, non-negative, one number or one for each sample (B,).
        pre: x_P, (B, 1, *spatial), for operators that take it.

    Raises:
        ValueError: no image, shapes that do not belong together, or an alpha that is negative or no number.

    Source: LIP-CAR (arXiv 2407.10559), the variational problem.

    Example:
        >>> from monai_lipcar.physics import LinearDoseOperator
        >>> from monai_lipcar.problem import TotalVariation
        >>> pre, high = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.7)
        >>> low = pre + 0.2 * (high - pre)
        >>> problem = LearnedInverseProblem(LinearDoseOperator(0.2), low, TotalVariation(), alpha=1e-3, pre=pre)
        >>> problem.data_fidelity(high).item() < 1e-9, round(problem.data_fidelity(low).item(), 4)
        (True, 0.2048)
    """

    def __init__(
        self,
        operator: Callable[[ImageBatch], ImageBatch],
        observed: ImageBatch,
        prior: Prior,
        alpha: float | PerSample,
        pre: ImageBatch | None = None,
    ) -> None:
        if not len(observed):
            raise ValueError(f"observed: expected at least one image, got shape {tuple(observed.shape)}")
        if pre is not None and pre.shape != observed.shape:
            raise ValueError(f"pre has shape {tuple(pre.shape)}, observed {tuple(observed.shape)}")
        with torch.inference_mode(False):  # else a solver that is called later could not take gradients through it
            try:
                self.alpha = torch.as_tensor(alpha, dtype=observed.dtype, device=observed.device).clone()
            except (TypeError, ValueError) as error:
                raise ValueError(f"alpha: expected a number or one for each sample, got {alpha!r}") from error
        if self.alpha.shape not in ((), observed.shape[:1]):
            raise ValueError(f"alpha: expected a number or shape ({observed.shape[0]},), got {tuple(self.alpha.shape)}")
        if not bool((self.alpha.isfinite() & (self.alpha >= 0)).all()):
            raise ValueError(f"alpha: expected finite numbers that are not negative, got {alpha}")
        self.operator = operator
        self.observed = observed
        self.prior = prior
        self.pre = pre

    def select(self, indices: torch.Tensor) -> LearnedInverseProblem:
        """The problems of some samples of the batch, in this order: integers on the device of the images."""
        return LearnedInverseProblem(
            self.operator,
            self.observed.index_select(0, indices),
            self.prior.select(indices),
            self.alpha if self.alpha.ndim == 0 else self.alpha.index_select(0, indices),
            None if self.pre is None else self.pre.index_select(0, indices),
        )

    def at_alpha(self, alpha: float | PerSample) -> LearnedInverseProblem:
        """The same problem with another weight of the prior."""
        return LearnedInverseProblem(self.operator, self.observed, self.prior, alpha, self.pre)

    def simulate_low(self, image: ImageBatch) -> ImageBatch:
        """Psi(x): the low-dose image that ``image`` would have given."""
        return self.operator(self._inputs(image))

    def _inputs(self, image: ImageBatch) -> torch.Tensor:
        return image if self.pre is None else torch.cat([self.pre, image], dim=1)

    def residual(self, image: ImageBatch) -> ImageBatch:
        """Psi(x) - y: what ``image`` does not explain of the observed one."""
        simulated = self.simulate_low(image)
        if simulated.shape != self.observed.shape:
            raise ValueError(
                f"the operator gives shape {tuple(simulated.shape)}, but observed has {tuple(self.observed.shape)}"
            )
        return simulated - self.observed

    def curvature(self, image: ImageBatch) -> ImageBatch:
        """About the curvature of the data fidelity in each voxel, positive, like ``image``.

        The square of ``operator.slope(inputs)``, where the operator has that: the derivative of what it does to each
        voxel by itself, with inputs as for the operator. Otherwise 1.
        """
        slope = getattr(self.operator, "slope", None)
        if slope is None:
            return torch.ones_like(image)
        squared: torch.Tensor = slope(self._inputs(image)).square()
        return squared.clamp_min(_SMALLEST_CURVATURE)

    def data_fidelity(self, image: ImageBatch) -> PerSample:
        """Half the squared norm of the residual, (B,)."""
        return 0.5 * self.residual(image).square().flatten(1).sum(dim=1)

    def objective(self, image: ImageBatch) -> PerSample:
        """Data fidelity plus alpha times the prior, (B,)."""
        return self.data_fidelity(image) + self.alpha * self.prior(image)
