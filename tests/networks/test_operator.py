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
"""The dose operator: its start, its sizes, its layers, its gradients, its export."""

from __future__ import annotations

import io

import pytest
import torch
from monai.networks.nets import VNet
from torch import Tensor, nn

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.networks import DoseOperator, SSIML1Loss
from monai_lipcar.physics import Acquisition, DoseResponse

FRACTION = 0.25
KINDS = [(1, "none"), (2, "none"), (1, "identity"), (2, "identity"), (2, "physics"), (2, "extrapolation")]
KINDS += [(2, "signal"), (2, "signal_extrapolation"), (2, "kept")]


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def make_operator(in_channels: int = 2, skeleton: str = "physics", seed: int = 0, **options: object) -> DoseOperator:
    """An operator whose network takes part: a skeleton alone would hide it, since its last convolution starts at 0."""
    torch.manual_seed(seed)
    operator = DoseOperator(in_channels=in_channels, skeleton=skeleton, dose_fraction=FRACTION, **options)  # type: ignore[arg-type]
    nn.init.constant_(operator.vnet.out_tr.conv2.weight, 0.1)
    return operator.eval()


def skeleton_image(inputs: Tensor, skeleton: str) -> Tensor:
    pre, dose = inputs[:, :1], inputs[:, -1:]
    response = DoseResponse(dose_fraction=FRACTION)
    if skeleton in ("signal", "kept"):
        return pre + response(dose / pre.clamp(min=0.02)) * (dose - pre)
    if skeleton == "signal_extrapolation":
        return pre + (dose - pre) / response.from_low(dose / pre.clamp(min=0.02))
    if skeleton == "physics":
        return pre + FRACTION * (dose - pre)
    return pre + (dose - pre) / FRACTION if skeleton == "extrapolation" else dose


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("in_channels", "skeleton"), [kind for kind in KINDS if kind[1] != "none"])
def test_starts_exactly_as_its_skeleton(in_channels: int, skeleton: str, training: bool) -> None:
    operator = DoseOperator(in_channels=in_channels, skeleton=skeleton, dose_fraction=FRACTION).train(training)  # type: ignore[arg-type]
    inputs = images(2, in_channels, 32, 16)
    expected = skeleton_image(inputs, skeleton)
    assert (expected < 0).any() == skeleton.endswith("extrapolation")
    torch.testing.assert_close(operator(inputs), expected.relu(), rtol=1e-6, atol=1e-7)


def test_the_network_is_added_to_the_skeleton_and_sees_it() -> None:
    operator = make_operator()
    inputs = images(2, 2, 32, 32)
    low = skeleton_image(inputs, "physics")
    expected = (low + operator.vnet(torch.cat([inputs[:, :1], low], dim=1))).relu()
    torch.testing.assert_close(operator(inputs), expected)
    assert not torch.allclose(expected, low)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("in_channels", [1, 2])
def test_without_a_skeleton_no_output_is_dead_at_the_start(in_channels: int, training: bool) -> None:
    torch.manual_seed(1)
    operator = DoseOperator(in_channels=in_channels).train(training)
    output = operator(images(2, in_channels, 32, 32))
    # ELU is above -1, so the output is above 0.25 - 0.2: the ReLU is open everywhere
    assert output.min() >= 0.05 - 1e-6
    assert output.max() < 1.5


@pytest.mark.parametrize("skeleton", ["none", "physics"])
def test_the_first_steps_reach_every_layer(skeleton: str) -> None:
    torch.manual_seed(2)
    operator = DoseOperator(skeleton=skeleton, dose_fraction=FRACTION)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(operator.parameters(), lr=1e-3)
    inputs, loss = images(2, 2, 32, 32), SSIML1Loss()
    for _ in range(2):
        optimizer.zero_grad()
        loss(operator(inputs), 0.5 * inputs[:, 1:]).backward()
        optimizer.step()
    gradients = {name: parameter.grad for name, parameter in operator.named_parameters()}
    kernels = [name for name, gradient in gradients.items() if gradient is not None and gradient.ndim == 4]
    assert len(kernels) > 20
    assert all(gradients[name].abs().max() > 0 for name in kernels)


def test_dropout_layers_are_gone_and_the_keys_are_those_of_the_network() -> None:
    operator = DoseOperator(in_channels=2)
    assert not [name for name, module in operator.named_modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    plain = VNet(spatial_dims=2, in_channels=2, out_channels=1)
    assert any(isinstance(module, nn.Dropout3d) for module in plain.modules())  # else there is nothing to replace
    assert operator.vnet.state_dict().keys() == plain.state_dict().keys()
    operator.train()
    inputs = images(2, 2, 32, 32)
    assert torch.equal(operator(inputs), operator(inputs))


def test_dropout_drops_feature_maps_and_never_samples() -> None:
    operator = DoseOperator(in_channels=1, dropout=0.5)
    layers = [module for module in operator.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert layers
    assert all(type(layer) is nn.Dropout2d and layer.p == 0.5 for layer in layers)
    torch.manual_seed(0)
    kept = layers[0].train()(torch.ones(8, 64, 4, 4))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert (kept.amax(dim=(1, 2, 3)) == 2.0).all()  # something is left of every sample
    assert (kept.amin(dim=(2, 3)) == kept.amax(dim=(2, 3))).all()  # whole maps
    volumes = DoseOperator(spatial_dims=3, in_channels=1, dropout=0.5)
    assert any(isinstance(module, nn.Dropout3d) for module in volumes.modules())


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 16), (20, 45)])
def test_any_size_is_padded_with_its_border_and_cropped(size: tuple[int, int]) -> None:
    operator = make_operator()
    inputs = images(1, 2, *size)
    padding = [0, -size[1] % 16, 0, -size[0] % 16]
    padded = nn.functional.pad(inputs, padding, mode="replicate")
    assert all(side % 16 == 0 for side in padded.shape[2:])
    output = operator(inputs)
    assert output.shape == (1, 1, *size)
    torch.testing.assert_close(output, operator(padded)[..., : size[0], : size[1]])


@pytest.mark.parametrize("size", [(15, 64), (64, 3)])
def test_too_small_an_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"too small for the network: sides of at least 16"):
        DoseOperator(in_channels=1)(images(1, 1, *size))


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 3, 32, 32), (1, 2, 32, 32, 32), (2, 32, 32)])
def test_another_kind_of_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a batch of 2 channels and 2 spatial dimensions, got shape"):
        DoseOperator(in_channels=2)(images(*shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims: expected 2 or 3, got 1"),
        ({"in_channels": 3}, "in_channels: expected 1 .dose. or 2 .pre, dose., got 3"),
        ({"skeleton": "linear"}, "skeleton: expected one of .*'physics'.*, got 'linear'"),
        ({"skeleton": "physics", "in_channels": 1}, "needs the pre-dose image: in_channels=2, got 1"),
        ({"skeleton": "extrapolation", "in_channels": 1}, "needs the pre-dose image"),
        ({"dose_fraction": 0.0}, "dose_fraction: expected a number between 0 and 1, got 0.0"),
        ({"dose_fraction": float("nan")}, "dose_fraction: expected a number between 0 and 1, got nan"),
    ],
)
def test_combinations_that_do_not_exist(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DoseOperator(**options)  # type: ignore[arg-type]


def test_volumes() -> None:
    operator = make_operator(spatial_dims=3)
    inputs = images(1, 2, 16, 17, 16)
    with torch.no_grad():
        output = operator(inputs)
    assert output.shape == (1, 1, 16, 17, 16)
    assert output.min() >= 0
    assert not torch.allclose(output, skeleton_image(inputs, "physics"), atol=1e-3)


@pytest.mark.parametrize(("in_channels", "skeleton"), KINDS)
def test_torchscript_export_computes_the_same(in_channels: int, skeleton: str) -> None:
    operator = make_operator(in_channels, skeleton)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(operator), file)
    file.seek(0)
    exported = torch.jit.load(file)
    with torch.jit.optimized_execution(False):  # optimizing takes longer than all else
        for size in ((16, 32), (20, 17)):
            inputs = images(2, in_channels, *size)
            torch.testing.assert_close(exported(inputs), operator(inputs))


@pytest.mark.parametrize("skeleton", ["none", "physics", "extrapolation", "signal", "signal_extrapolation", "kept"])
def test_gradient_in_the_input_against_finite_differences(skeleton: str) -> None:
    operator = make_operator(skeleton=skeleton).double()
    inputs = (0.3 + 0.4 * images(1, 2, 20, 17)).double().requires_grad_(True)
    weights = images(1, 1, 20, 17, seed=1).double()
    (gradient,) = torch.autograd.grad((weights * operator(inputs)).sum(), inputs)
    assert (gradient[:, 1] != 0).all()
    direction = images(1, 2, 20, 17, seed=2).double() - 0.5
    step = 1e-6
    with torch.no_grad():
        ahead, behind = ((weights * operator(inputs + sign * step * direction)).sum() for sign in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_batch_statistics_move_in_training_only() -> None:
    operator = make_operator()
    inputs = images(3, 2, 32, 32)
    before = {name: buffer.clone() for name, buffer in operator.named_buffers()}
    together = operator(inputs)
    assert all(torch.equal(before[name], buffer) for name, buffer in operator.named_buffers())
    for index in range(3):  # a sample does not depend on its neighbors
        torch.testing.assert_close(operator(inputs[index : index + 1]), together[index : index + 1])
    operator.train()(inputs)
    moved = {name for name, buffer in operator.named_buffers() if not torch.equal(before[name], buffer)}
    assert any(name.endswith("running_mean") for name in moved)
    assert not any(name.startswith("response") for name in moved)


@pytest.mark.parametrize("skeleton", ["physics", "extrapolation", "signal", "signal_extrapolation", "kept"])
def test_every_image_has_its_own_acquisition(skeleton: str) -> None:
    operator = make_operator(skeleton=skeleton)
    inputs = images(3, 2, 32, 32)
    acquisitions = [
        Acquisition(dose_fraction=0.1, repetition_time_ms=700.0),
        Acquisition(dose_fraction=FRACTION),
        Acquisition(dose_fraction=0.4, repetition_time_ms=8.0, echo_time_ms=3.0, flip_angle_deg=15.0, r1=5.0, r2=7.0),
    ]
    together = operator(inputs, response=torch.stack([item.response().tables.float() for item in acquisitions]))
    for index, item in enumerate(acquisitions):
        alone = DoseOperator(
            skeleton=skeleton,  # type: ignore[arg-type]
            dose_fraction=item.dose_fraction,
            signal_model=item.signal_model,
            agent=item.agent,
        ).eval()
        alone.load_state_dict(operator.state_dict())
        torch.testing.assert_close(alone(inputs[index : index + 1]), together[index : index + 1])
    torch.testing.assert_close(operator(inputs)[1], together[1])


def test_the_signal_skeletons_are_inverse_to_each_other() -> None:
    pre, high = 0.2 + 0.1 * images(1, 1, 32, 32), 0.3 + 0.3 * images(1, 1, 32, 32, seed=1)
    forward = DoseOperator(skeleton="signal", dose_fraction=FRACTION)
    back = DoseOperator(skeleton="signal_extrapolation", dose_fraction=FRACTION)
    low = forward(torch.cat([pre, high], dim=1))
    torch.testing.assert_close(back(torch.cat([pre, low], dim=1)), high, rtol=0, atol=1e-3)


def test_without_enhancement_a_network_that_corrects_the_kept_fraction_changes_nothing() -> None:
    pre = images(1, 1, 32, 32)
    inputs = torch.cat([pre, pre], dim=1)
    torch.testing.assert_close(make_operator(skeleton="kept")(inputs), pre)
    assert (make_operator(skeleton="signal")(inputs) - pre).abs().max() > 0.01
