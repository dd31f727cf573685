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
"""What the MONAI metrics of a study have in common: its members, its slices, its millimeters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction, prepare_spacing
from monai.utils import MetricReduction

from monai_lipcar.data.geometry import slice_axis as axis_of_slices
from monai_lipcar.transforms.foreground import head_mask

__all__ = ["Members", "StudyMetric"]

Spacing = float | Sequence[float] | Sequence[Sequence[float]]
Members = dict[str, torch.Tensor]
_MEMBERS = ("high", "pre", "lesion", "head")


class StudyMetric(CumulativeIterationMetric):
    """A number for each simulated image, from the other members of its study.

    Called with ``y_pred``, the simulated image (B, 1, \\*spatial), and ``y``, the acquired image of the same shape;
    both may be lists of channel-first images. The other members come as keywords of the same form, ``pre=``,
    ``lesion=``, ``head=``, or, as :class:`monai.handlers.IgniteMetricHandler` hands two tensors on and no keywords, as
    further channels of ``y`` that ``channels`` names (``ConcatItemsd`` makes them). Images are on the study's [0, 1]
    scale, as :class:`~monai_lipcar.transforms.ScaleIntensityByReference` makes it; masks are above 0.5. Without a
    ``head`` it is found on ``pre``, or on the acquired image.

    Two spatial axes are one slice. Three are slices along the axis that
    :func:`~monai_lipcar.data.slice_axis` finds. Distances in mm are those of the keyword ``spacing=`` (a number, one
    for each axis, or those of each image, as in MONAI's surface metrics), else of the argument ``spacing``, else of the
    affine of ``y`` where it is a MetaTensor, else 1. A single slice is taken as 1 mm thick.

    Images for which there is nothing to measure, and simulated images with a value that is not finite, give NaN, which
    the reduction leaves out; it is NaN itself where no other image is left (MONAI's own metrics say 0 then).

    Args:
        channels: what the channels of ``y`` are, of high, pre, lesion and head; high is always there.
        spacing: distance of the voxels in mm along each spatial axis.
        slice_axis: axis of the slices, not counting batch and channel.
        reduction: see :class:`monai.metrics.MSEMetric`.
        get_not_nans: whether :meth:`aggregate` also returns the number of images that were measured.

    Raises:
        ValueError: a member is missing, unknown, or of another shape.
    """

    needs: tuple[str, ...] = ("high",)

    def __init__(
        self,
        channels: Sequence[str] = ("high",),
        spacing: Spacing | None = None,
        slice_axis: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        channels = tuple(channels)
        if "high" not in channels or len(set(channels)) < len(channels) or not set(channels) <= set(_MEMBERS):
            raise ValueError(f"expected channels of {', '.join(_MEMBERS)}, with high, got {', '.join(channels)}")
        self.channels = channels
        self.spacing = spacing
        self.slice_axis = slice_axis
        self.reduction = reduction
        self.get_not_nans = get_not_nans

    @abstractmethod
    def _value(self, image: torch.Tensor, members: Members, spacing: Sequence[float]) -> float:
        """The metric of one image (S, H, W); members and spacing are slices first, too."""
        raise NotImplementedError

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> torch.Tensor:
        if y is None or len(y) != len(y_pred):
            raise ValueError(f"expected as many acquired as simulated images, got {0 if y is None else len(y)}")
        values = []
        for index, (image, target) in enumerate(zip(y_pred, y, strict=True)):
            given = {name: value for name, value in kwargs.items() if value is not None}
            own = {name: value if name == "spacing" else value[index][None] for name, value in given.items()}
            if "spacing" in own:
                own["spacing"] = prepare_spacing(own["spacing"], len(y_pred), image.ndim - 1)[index]
            values.append(self._compute_tensor(image.detach()[None], target.detach()[None], **own))
        return torch.cat(values)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("the acquired image y is missing")
        given = kwargs.pop("spacing", None)
        members = self._members(y_pred, y, kwargs)
        spacings = self._spacings(given, y)
        values = []
        for index in range(y_pred.shape[0]):
            axis = self._axis(y, index, spacings[index])
            steps = [1.0, *spacings[index]] if axis is None else list(spacings[index])
            if axis is not None:
                steps.insert(0, steps.pop(axis))
            image, *others = (
                volume[index, 0][None] if axis is None else volume[index, 0].movedim(axis, 0)
                for volume in (y_pred.as_subclass(torch.Tensor), *members.values())
            )
            of_study = dict(zip(members, others, strict=True))
            for name in {"lesion", "head"} & of_study.keys():
                of_study[name] = of_study[name] > 0.5
            if "head" in self.needs and "head" not in of_study:
                reference = of_study.get("pre", of_study["high"]).float().cpu().numpy()
                of_study["head"] = torch.from_numpy(np.ascontiguousarray(head_mask(reference, axis=0))).to(image.device)
            finite = bool(torch.isfinite(image).all())  # comparisons with NaN are false: nothing would be wrong
            values.append(self._value(image.float(), of_study, steps) if finite else float("nan"))
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)[:, None]

    def _members(self, y_pred: torch.Tensor, y: torch.Tensor, kwargs: Mapping[str, Any]) -> Members:
        if y.shape[1] != len(self.channels):
            raise ValueError(f"expected the channels {', '.join(self.channels)} in y, got {y.shape[1]} channels")
        unknown = kwargs.keys() - set(_MEMBERS)
        if unknown:
            raise ValueError(f"expected {', '.join(_MEMBERS[1:])} or spacing, got {', '.join(sorted(unknown))}")
        members = {name: y[:, index : index + 1] for index, name in enumerate(self.channels)}
        members |= {
            name: torch.stack(list(value)) if isinstance(value, (list, tuple)) else value
            for name, value in kwargs.items()
            if value is not None
        }
        for name in self.needs:
            if name not in members and name != "head":
                raise ValueError(f"{type(self).__name__} needs {name}: as a keyword, or as a channel of y")
        for name, volume in members.items():
            if volume.shape != y_pred.shape or y_pred.shape[1] != 1 or y_pred.ndim not in (4, 5):
                raise ValueError(
                    f"expected images (B, 1, ...) of two or three spatial axes, all of one shape; the simulated image "
                    f"has {tuple(y_pred.shape)}, {name} has {tuple(volume.shape)}"
                )
        return {name: volume.detach().as_subclass(torch.Tensor) for name, volume in members.items()}

    def _spacings(self, given: Spacing | None, y: torch.Tensor) -> list[list[float]]:
        batch, axes = y.shape[0], y.ndim - 2
        given = self.spacing if given is None else given
        if given is None:
            if not isinstance(y, MetaTensor):
                return [[1.0] * axes] * batch
            return [[float(step) for step in affine_to_spacing(_affine(y, index))[:axes]] for index in range(batch)]
        prepared = prepare_spacing(given, batch, axes)
        return [[float(step) for step in np.broadcast_to(np.asarray(one), axes)] for one in prepared]

    def _axis(self, y: torch.Tensor, index: int, spacing: Sequence[float]) -> int | None:
        if y.ndim == 4:
            return None
        if self.slice_axis is not None:
            return self.slice_axis % 3
        affine = _affine(y, index) if isinstance(y, MetaTensor) else np.diag([*spacing, 1.0])
        return axis_of_slices(affine, y.shape[2:])

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Reduce what was collected; see :class:`monai.metrics.MSEMetric`."""
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("there is nothing to aggregate: the metric was not called")
        # MONAI writes into the buffer, and says 0 where there is no number at all
        value, not_nans = do_metric_reduction(data.clone(), reduction or self.reduction)
        value = torch.where(not_nans > 0, value, torch.full_like(value, float("nan")))
        return (value, not_nans) if self.get_not_nans else value


def _affine(y: MetaTensor, index: int) -> np.ndarray:
    affine = np.asarray(y.affine.detach().cpu(), dtype=np.float64)
    return affine[index] if affine.ndim == 3 else affine
