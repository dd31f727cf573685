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
"""Priors R(x) of the inverse problem: total variation, and total variation of the difference to a guess."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch

from monai_lipcar.types import ImageBatch, PerSample

from .differences import finite_differences, transposed_differences, voxel_norms
from .prox_tv import Bounds, Proximal, clamp, prox_tv

__all__ = ["GeneralizedTotalVariation", "Prior", "TotalVariation"]


class Prior(ABC):
    """A regularizer: ``prior(x)`` gives one number for each sample of the batch.

    That, differentiable, is all that :class:`~monai_lipcar.problem.AdamSolver` needs. For
    :class:`~monai_lipcar.problem.ProximalSolver` it must be convex, with :meth:`prox` and :meth:`witness`; where it
    holds tensors of the batch, :meth:`select` as well.
    """

    @abstractmethod
    def __call__(self, image: ImageBatch) -> PerSample:
        """R(x) for (B, 1, *spatial), as (B,)."""

    def around(self, guess: ImageBatch) -> Prior:
        """The same prior for the difference to ``guess``: R(x - guess)."""
        raise NotImplementedError(f"{type(self).__name__} has no version around a guess")

    def at_spacing(self, spacing: Sequence[float]) -> Prior:
        """The same prior for voxels of this size, where it does not have a spacing yet; by default itself."""
        return self

    def select(self, indices: torch.Tensor) -> Prior:
        """The same prior for some samples of the batch; by default itself, for priors that are the same for all."""
        return self

    def exact(self, image: ImageBatch) -> PerSample:
        """R(x) without the smoothing that gradient methods need, which :meth:`prox` belongs to; by default R itself."""
        return self(image)

    def prox(
        self,
        image: ImageBatch,
        weight: float | PerSample,
        *,
        bounds: Bounds | None = (0.0, 1.0),
        metric: torch.Tensor | None = None,
        dual: torch.Tensor | None = None,
        tolerance: float | PerSample = 1e-6,
        max_iterations: int = 1000,
    ) -> Proximal:
        """The minimizer of ||x - image||_M^2 / 2 + weight R(x) within the bounds, up to a duality gap.

        Args:
            image: (B, 1, *spatial).
            weight: not negative, one number or (B,).
            bounds: smallest and largest value, numbers or tensors like the image.
            metric: the diagonal of M, like the image, positive; 1 by default.
            dual: of a former result for the same samples, to start from; its first axis is the batch.
            tolerance: on the gap, one number or (B,).
            max_iterations: cap on the steps.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prox, which ProximalSolver needs; use AdamSolver")

    def witness(self, image: ImageBatch, dual: torch.Tensor) -> tuple[ImageBatch, PerSample]:
        """Subgradient s that a dual of :meth:`prox` stands for; and R(x) + R*(s) - <s, x>, 0 iff it is one at x."""
        raise NotImplementedError(f"{type(self).__name__} has no witness, which ProximalSolver needs; use AdamSolver")


class TotalVariation(Prior):
    r"""Smoothed total variation, summed over the image.

    .. math:: TV(x) = \sum_i \sqrt{\textstyle\sum_d (\nabla_d x)_i^2 + \epsilon}

    (isotropic), or the sum of :math:`\sqrt{(\nabla_d x)_i^2 + \epsilon}` over i and d (anisotropic).

    The smoothing is for gradients. The proximal map is that of the total variation without it, which is smaller by at
    most :math:`\sqrt\epsilon` for each root: alpha times 1e-4 for each voxel that is perfectly flat.

    Args:
        isotropic: one root per voxel (the paper's), or one per voxel and axis.
        spacing: voxel size per spatial axis, for anisotropic voxels in 3-D.
        epsilon: smoothing under the root, 1e-8 in the paper's code.

    Source: LIP-CAR (arXiv 2407.10559), the TV regularizer.

    Example:
        >>> step = torch.zeros(1, 1, 4, 6); step[..., 3:] = 0.5
        >>> round(TotalVariation(epsilon=0.0)(step).item(), 6)  # four rows, one jump of 0.5 each
        2.0
    """

    def __init__(self, isotropic: bool = True, spacing: Sequence[float] | None = None, epsilon: float = 1e-8) -> None:
        self.isotropic = isotropic
        self.spacing = spacing
        self.epsilon = epsilon

    def __call__(self, image: ImageBatch) -> PerSample:
        """TV of (B, 1, *spatial), as (B,)."""
        squares = finite_differences(image, self.spacing).square()
        if self.isotropic:
            squares = squares.sum(dim=1)
        return (squares + self.epsilon).sqrt().flatten(1).sum(dim=1)

    def exact(self, image: ImageBatch) -> PerSample:
        """TV without the smoothing, summed in float64, as (B,)."""
        norms = voxel_norms(finite_differences(image, self.spacing), isotropic=self.isotropic)
        return norms.flatten(1).sum(dim=1, dtype=torch.float64)

    def at_spacing(self, spacing: Sequence[float]) -> TotalVariation:
        """With this voxel size where there is none yet, otherwise unchanged."""
        if self.spacing is not None:
            return self
        other = copy.copy(self)
        other.spacing = tuple(spacing)
        return other

    def prox(
        self,
        image: ImageBatch,
        weight: float | PerSample,
        *,
        bounds: Bounds | None = (0.0, 1.0),
        metric: torch.Tensor | None = None,
        dual: torch.Tensor | None = None,
        tolerance: float | PerSample = 1e-6,
        max_iterations: int = 1000,
    ) -> Proximal:
        """Denoising by total variation: :func:`~monai_lipcar.problem.prox_tv`."""
        return prox_tv(
            image,
            weight,
            isotropic=self.isotropic,
            spacing=self.spacing,
            bounds=bounds,
            metric=metric,
            dual=dual,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )

    def witness(self, image: ImageBatch, dual: torch.Tensor) -> tuple[ImageBatch, PerSample]:
        """Transposed differences of the dual p, and TV(x) - <p, differences of x>, a sum of shares that are >= 0."""
        differences = finite_differences(image, self.spacing)
        norms = voxel_norms(differences, isotropic=self.isotropic)
        shares = (norms - (differences * dual).sum(dim=1)).clamp_min(0.0)
        return transposed_differences(dual, self.spacing), shares.flatten(1).sum(dim=1, dtype=torch.float64)

    def around(self, guess: ImageBatch) -> GeneralizedTotalVariation:
        """Total variation of the difference to ``guess``."""
        return GeneralizedTotalVariation(guess, self.isotropic, self.spacing, self.epsilon)


class GeneralizedTotalVariation(TotalVariation):
    r"""Total variation of the difference to a guess: GenTV in the paper.

    .. math:: R(x) = TV(x - \bar x_H)

    The guess is the end-to-end network's image (the paper's), or the pre-dose image: then the enhancement is what
    has small variation, and the anatomy costs nothing.

    Args:
        guess: (B, 1, *spatial), on the study's [0, 1] scale.
        isotropic: see :class:`TotalVariation`.
        spacing: see :class:`TotalVariation`.
        epsilon: see :class:`TotalVariation`.

    Source: LIP-CAR (arXiv 2407.10559), the generalized TV regularizer.

    Example:
        >>> guess = torch.rand(2, 1, 8, 8)
        >>> GeneralizedTotalVariation(guess, epsilon=0.0)(guess + 0.1).abs().max().item() < 1e-5
        True
    """

    def __init__(
        self,
        guess: ImageBatch,
        isotropic: bool = True,
        spacing: Sequence[float] | None = None,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(isotropic, spacing, epsilon)
        self.guess = guess

    def __call__(self, image: ImageBatch) -> PerSample:
        """TV(x - guess) of (B, 1, *spatial), as (B,)."""
        if image.shape != self.guess.shape:
            raise ValueError(f"image of shape {tuple(image.shape)}, but the guess has {tuple(self.guess.shape)}")
        return super().__call__(image - self.guess)

    def exact(self, image: ImageBatch) -> PerSample:
        """TV(x - guess) without the smoothing, as (B,)."""
        return super().exact(image - self.guess)

    def select(self, indices: torch.Tensor) -> GeneralizedTotalVariation:
        """With the guesses of these samples."""
        other = copy.copy(self)
        other.guess = self.guess.index_select(0, indices)
        return other

    def prox(
        self,
        image: ImageBatch,
        weight: float | PerSample,
        *,
        bounds: Bounds | None = (0.0, 1.0),
        metric: torch.Tensor | None = None,
        dual: torch.Tensor | None = None,
        tolerance: float | PerSample = 1e-6,
        max_iterations: int = 1000,
    ) -> Proximal:
        r"""By a shift: :math:`z + \mathrm{prox}_{w TV}(v - z)`, with bounds that differ from voxel to voxel."""
        shifted = None if bounds is None else (bounds[0] - self.guess, bounds[1] - self.guess)
        result = super().prox(
            image - self.guess,
            weight,
            bounds=shifted,
            metric=metric,
            dual=dual,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        moved = result.image + self.guess
        return replace(result, image=moved if bounds is None else clamp(moved, bounds))  # the sum rounds

    def witness(self, image: ImageBatch, dual: torch.Tensor) -> tuple[ImageBatch, PerSample]:
        """As for the total variation, of x - guess."""
        return super().witness(image - self.guess, dual)
