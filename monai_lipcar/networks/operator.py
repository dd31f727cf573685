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
"""The learned operator between doses: MONAI's VNet with the paper's ReLU output, on a skeleton."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from monai.networks.nets import VNet
from torch import nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import HIGH_RELAXIVITY, ContrastAgent, DoseResponse, SignalModel, kept_enhancement
from monai_lipcar.physics.dose import voxel_slope

__all__ = ["DoseOperator", "Skeleton"]

Skeleton = Literal["none", "identity", "physics", "extrapolation", "signal", "signal_extrapolation", "kept"]
"""What a :class:`DoseOperator` corrects."""

_DOSED = ("physics", "extrapolation", "signal", "signal_extrapolation", "kept")

_RESPONSE_STD, _RESPONSE_MEAN = 0.2, 0.25  # of head images on the [0, 1] scale: where an untrained output starts


class DoseOperator(nn.Module):
    r"""A network from one contrast dose to another: Psi in the paper.

    With input channels (pre, dose) or (dose), ``VNet`` V and a skeleton image s that needs no training,

    .. math:: \Psi(x) = \mathrm{ReLU}(s(x) + V(x_P, s(x)))

    ========================== ============================ ===========================================
    skeleton                   s(x)                         for
    ========================== ============================ ===========================================
    ``"none"`` (the paper's)   0, and V sees its inputs     all four operators
    ``"identity"``             x                            ``h2l``, ``l2h`` (no pre-dose image)
    ``"physics"``              x_P + f (x - x_P)            ``ph2l``: high to low dose
    ``"extrapolation"``        x_P + (x - x_P) / f          ``pl2h``: low to high dose
    ``"signal"``               x_P + g (x - x_P)            ``ph2l``, with the saturation of the signal
    ``"signal_extrapolation"`` x_P + (x - x_P) / g          ``pl2h``, with the saturation of the signal
    ``"kept"``                 x_P + g (x - x_P)            ``ph2l``, see below
    ========================== ============================ ===========================================

    g is the :class:`~monai_lipcar.physics.DoseResponse` of the reference tissue, computed from the image that is given.
    With ``"kept"`` the network corrects how much of the enhancement is kept, not the image,

    .. math:: \Psi(x) = \mathrm{ReLU}(x_P + e^{V(x_P, s(x))} \, (s(x) - x_P))

    (V limited to 0.4 in absolute value, smoothly), so that without enhancement the low dose is the pre-dose image,
    whatever the network does.

    A network on a skeleton starts as the skeleton (its last convolution starts at zero), so it only has to learn
    what the dose model leaves unexplained. Dose fraction, sequence and agent belong to the skeleton and may differ from
    image to image: one network serves a range of them.

    Three habits of MONAI's VNet are dealt with here. Its dropout layers are ``Dropout3d`` whatever the dimension,
    which for 2-D inputs zeroes whole samples: they are replaced. Its last layers (batch normalization of a single
    channel, then a 1x1 convolution) start far from an image's range, and a ReLU behind them can die: without a
    skeleton the last convolution starts at the mean and standard deviation of a head image. It refuses sides that
    are no multiple of 16: inputs are padded by edge replication and the output is cropped.

    Args:
        spatial_dims: 2 or 3.
        in_channels: 1 for (dose), 2 for (pre, dose).
        skeleton: see above; those that compute with the dose fraction need the pre-dose image.
        dose_fraction: low dose over high dose, in (0, 1); to networks whose skeleton does not compute with it, it only
            tells what they are trained for.
        signal_model: sequence of the images, for the skeletons that compute with it; by default the paper's.
        agent: contrast agent, for the same skeletons.
        dropout: probability of dropping a feature map in training.

    Raises:
        ConfigurationError: for a combination that does not exist.

    Source: LIP-CAR (arXiv 2407.10559), section on the neural network operators; VNet: Milletari et al., 3DV 2016.

    Example:
        >>> operator = DoseOperator(in_channels=2, skeleton="physics", dose_fraction=0.2).eval()
        >>> pre, high = torch.full((1, 1, 20, 24), 0.25), torch.full((1, 1, 20, 24), 0.75)
        >>> low = operator(torch.cat([pre, high], dim=1))
        >>> low.shape, round(low.mean().item(), 3)
        (torch.Size([1, 1, 20, 24]), 0.35)
    """

    __constants__ = ["divisor", "floor", "limit"]  # for TorchScript, which does not see what the module around defines
    divisor: int = 16  # VNet halves the image four times
    floor: float = 0.02  # of the signal equation: x / max(x_P, floor), so that air does not look like enhancement
    limit: float = 0.4  # of the logarithm of a corrected fraction: what the native T1 of a tissue can make of it

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 2,
        skeleton: Skeleton = "none",
        dose_fraction: float = 0.2,
        signal_model: SignalModel | None = None,
        agent: ContrastAgent = HIGH_RELAXIVITY,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ConfigurationError(f"spatial_dims: expected 2 or 3, got {spatial_dims}")
        if in_channels not in (1, 2):
            raise ConfigurationError(f"in_channels: expected 1 (dose) or 2 (pre, dose), got {in_channels}")
        if skeleton not in get_args(Skeleton):
            raise ConfigurationError(f"skeleton: expected one of {get_args(Skeleton)}, got {skeleton!r}")
        if skeleton in _DOSED and in_channels != 2:
            raise ConfigurationError(f"the {skeleton!r} skeleton needs the pre-dose image: in_channels=2, got 1")
        if not 0.0 < dose_fraction < 1.0:
            raise ConfigurationError(f"dose_fraction: expected a number between 0 and 1, got {dose_fraction}")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.skeleton: str = skeleton
        # Noted beside the versions that torch keeps of modules, see _save_to_state_dict: what was trained at some dose
        # fractions, or with one skeleton, is never silently used at another.
        self.fraction = float(dose_fraction)
        self.trained_fractions: tuple[float, float] = (self.fraction, self.fraction)
        self.dosed = skeleton in _DOSED
        self.response: torch.Tensor
        response = DoseResponse(signal_model, agent, dose_fraction=self.fraction)
        self.register_buffer("response", response.tables.float().unsqueeze(0), persistent=False)
        self.activation = nn.ReLU()
        self.vnet = VNet(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1)
        _replace_dropout(self.vnet, spatial_dims, dropout)
        last = self.vnet.out_tr.conv2
        assert last.bias is not None
        nn.init.constant_(last.weight, _RESPONSE_STD if skeleton == "none" else 0.0)
        nn.init.constant_(last.bias, _RESPONSE_MEAN if skeleton == "none" else 0.0)

    def forward(self, image: torch.Tensor, response: torch.Tensor | None = None) -> torch.Tensor:
        """Simulate the other dose.

        Args:
            image: (B, in_channels, *spatial), channels (pre, dose) or (dose), on the study's [0, 1] scale.
            response: (B, 2, points + 1), the tables of a :class:`~monai_lipcar.physics.DoseResponse` for each image,
                where the images differ in dose, sequence or agent; by default those of the operator.

        Returns:
            (B, 1, *spatial), non-negative.
        """
        if image.dim() != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"expected a batch of {self.in_channels} channels and {self.spatial_dims} spatial dimensions, "
                f"got shape {image.shape}"
            )
        sides = image.shape[2:]
        padding: list[int] = []
        for side in sides[::-1]:
            if side < self.divisor:
                raise ValueError(f"image of shape {image.shape} is too small for the network: sides of at least 16")
            padding.extend([0, (self.divisor - side % self.divisor) % self.divisor])
        padded = nn.functional.pad(image, padding, mode="replicate")
        if self.skeleton == "none":
            output = self.vnet(padded)
        else:
            skeleton = self._skeleton_image(padded, response)
            inputs = torch.cat([padded[:, :1], skeleton], dim=1) if self.in_channels == 2 else skeleton
            correction = self.vnet(inputs).to(skeleton.dtype)
            if self.skeleton == "kept":
                factor = torch.exp(self.limit * torch.tanh(correction / self.limit))
                output = padded[:, :1] + factor * (skeleton - padded[:, :1])
            else:
                output = skeleton + correction
        output = self.activation(output)
        for axis, side in enumerate(sides):
            output = output.narrow(axis + 2, 0, side)
        return output

    def slope(self, image: torch.Tensor) -> torch.Tensor:
        """d s / d x of the skeleton (1 without one), (B, 1, *spatial): how much the operator listens to each voxel.

        The network corrects that by little, and is not asked: this costs next to nothing.
        """
        if self.skeleton in ("none", "identity"):
            return torch.ones_like(image[:, -1:])
        return voxel_slope(lambda inputs: self._skeleton_image(inputs, None), image)[:, -1:]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        notes = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if notes is not None:
            notes["dose_fractions"] = list(self.trained_fractions)
            notes["skeleton"] = self.skeleton

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Files of version 0.1 have it among the weights: load_weights compares it, MONAI's exporters would refuse it.
        state_dict.pop(f"{prefix}dose_fraction", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _skeleton_image(self, image: torch.Tensor, response: torch.Tensor | None) -> torch.Tensor:
        dose = image[:, -1:]
        if not self.dosed:
            return dose
        pre = image[:, :1]
        tables = self.response if response is None else response
        if self.skeleton == "signal" or self.skeleton == "kept":
            kept = kept_enhancement(tables, dose / pre.clamp(min=self.floor), 0).to(image.dtype)
        elif self.skeleton == "signal_extrapolation":
            kept = kept_enhancement(tables, dose / pre.clamp(min=self.floor), 1).to(image.dtype)
        else:  # the first entry of the tables is the dose fraction
            kept = tables[:, 0, 0].to(image.dtype).reshape([-1] + [1] * (self.spatial_dims + 1))
        if self.skeleton == "physics" or self.skeleton == "signal" or self.skeleton == "kept":
            return pre + kept * (dose - pre)
        return pre + (dose - pre) / kept


def _replace_dropout(network: nn.Module, spatial_dims: int, probability: float) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.Dropout3d):
            replacement: nn.Module = nn.Identity()
            if probability > 0.0:
                replacement = nn.Dropout2d(probability) if spatial_dims == 2 else nn.Dropout3d(probability)
            setattr(network, name, replacement)
        else:
            _replace_dropout(child, spatial_dims, probability)
