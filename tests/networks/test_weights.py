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
"""Weights files: what is kept, what is refused, and what an interrupted write leaves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_lipcar.errors import WeightsError
from monai_lipcar.networks import DoseOperator, file_sha256, load_weights, save_weights


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))
    network.train()(torch.rand(4, 2, 16, 16))  # running statistics that are not the initial ones
    return network.eval()


@pytest.fixture(scope="module")
def ph2l_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a PH2L operator on the physics skeleton."""
    path = tmp_path_factory.mktemp("weights") / "models" / "model.pt"
    torch.manual_seed(0)
    save_weights(DoseOperator(in_channels=2, skeleton="physics", dose_fraction=0.2), path)
    return path


def test_kernels_are_rounded_to_float16_and_all_else_is_kept(tmp_path: Path) -> None:
    network = small_network()
    save_weights(network, tmp_path / "model.pt")
    loaded = load_weights(small_network(seed=1), tmp_path / "model.pt")
    for key, value in network.state_dict().items():
        restored = loaded.state_dict()[key]
        assert restored.dtype == value.dtype
        if value.ndim > 1:
            assert not torch.equal(restored, value)
            assert torch.equal(restored, value.half().float())
        else:
            assert torch.equal(restored, value), key
    inputs = torch.rand(1, 2, 16, 16)
    torch.testing.assert_close(loaded(inputs), network(inputs), atol=1e-3, rtol=0)


def test_the_file_of_an_operator(ph2l_file: Path) -> None:
    operator = DoseOperator(in_channels=2, skeleton="physics", dose_fraction=0.2)
    assert load_weights(operator, ph2l_file) is operator
    count = sum(parameter.numel() for parameter in operator.parameters())
    assert 2 * count < ph2l_file.stat().st_size < 2.05 * count < 25e6
    assert operator.trained_fractions == (0.2, 0.2)


def test_the_checksum_returned_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.pt"
    sha256 = save_weights(small_network(), path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)
    load_weights(small_network(1), path, sha256=sha256)


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    sha256 = save_weights(small_network(), path)
    with pytest.raises(WeightsError, match=rf"{path} is not the one .* \(sha256 {sha256[:12]}\.\.\., expected 000000"):
        load_weights(small_network(), path, sha256="0" * 64)


def test_a_training_checkpoint_holds_weights_too(tmp_path: Path) -> None:
    network = small_network()
    torch.save({"model": network.state_dict(), "optimizer": {"state": {}}}, tmp_path / "checkpoint.pt")
    loaded = load_weights(small_network(seed=1), tmp_path / "checkpoint.pt")
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 2}, r"trained on the skeleton 'physics', but the network is set to 'none'; pass --netw"),
        ({"in_channels": 2, "skeleton": "signal"}, r"trained on the skeleton 'physics', but .* set to 'signal'"),
        ({"in_channels": 1}, r"1 of another shape.*check the network's in_channels, spatial_dims"),
        ({"in_channels": 2, "spatial_dims": 3, "skeleton": "physics"}, r"0 entries missing, 0 unknown, \d+ of another"),
    ],
)
def test_weights_of_another_operator(ph2l_file: Path, options: dict[str, object], message: str) -> None:
    operator = DoseOperator(**options)  # type: ignore[arg-type]
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(operator, ph2l_file)
    assert str(ph2l_file) in str(caught.value)
    assert all(torch.equal(value, operator.state_dict()[key]) for key, value in before.items())


def test_weights_of_the_first_version_hold_the_dose_fraction(ph2l_file: Path, tmp_path: Path) -> None:
    """Their notes did not name the skeleton, but only the dosed ones had the entry."""
    state = {**torch.load(ph2l_file, weights_only=True), "dose_fraction": torch.tensor(0.2)}
    torch.save(dict(state), tmp_path / "model.pt")
    operator = load_weights(DoseOperator(skeleton="physics", dose_fraction=0.2), tmp_path / "model.pt")
    assert operator.trained_fractions == pytest.approx((0.2, 0.2))
    with pytest.raises(WeightsError, match="trained for the dose fraction 0.2, but the network is set to 0.3"):
        load_weights(DoseOperator(skeleton="physics", dose_fraction=0.3), tmp_path / "model.pt")
    option = "--network_def::skeleton"
    words = rf"trained on the skeleton 'physics' or 'extrapolation', but .* pass {option} physics or {option} ex"
    with pytest.raises(WeightsError, match=words):
        load_weights(DoseOperator(skeleton="none"), tmp_path / "model.pt")


def test_weights_trained_on_a_range_of_dose_fractions(tmp_path: Path) -> None:
    trained = DoseOperator(skeleton="signal", dose_fraction=0.2)
    trained.trained_fractions = (0.1, 0.4)
    save_weights(trained, tmp_path / "model.pt", operator="ph2l")
    for fraction in (0.1, 0.33, 0.4):
        operator = load_weights(DoseOperator(skeleton="signal", dose_fraction=fraction), tmp_path / "model.pt")
        assert (operator.fraction, operator.trained_fractions) == (fraction, (0.1, 0.4))
    with pytest.raises(WeightsError, match="trained for the dose fractions 0.1 to 0.4, but the network is set to 0.5"):
        load_weights(DoseOperator(skeleton="signal", dose_fraction=0.5), tmp_path / "model.pt")


def test_weights_for_another_dose_fraction(ph2l_file: Path) -> None:
    operator = DoseOperator(in_channels=2, skeleton="physics", dose_fraction=0.5)
    with pytest.raises(WeightsError, match=r"trained for the dose fraction 0.2, but the network is set to 0.5"):
        load_weights(operator, ph2l_file)


@pytest.mark.parametrize("skeleton", ["identity", "none"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_networks_without_a_dose_skeleton_carry_their_dose_fraction_too(
    tmp_path: Path, skeleton: str, checkpoint: bool
) -> None:
    def operator(fraction: float) -> DoseOperator:
        return DoseOperator(in_channels=1, skeleton=skeleton, dose_fraction=fraction)  # type: ignore[arg-type]

    path, trained = tmp_path / "model.pt", operator(0.1)
    if checkpoint:
        torch.save({"model": trained.state_dict()}, path)
    else:
        save_weights(trained, path, operator="h2l")
    load_weights(operator(0.1), path)
    expected = (
        "was trained for the dose fraction 0.1, but the network is set to 0.2; use weights trained for it, or set"
    )
    with pytest.raises(WeightsError, match=expected):
        load_weights(operator(0.2), path)


def test_the_dose_fraction_of_a_file_that_does_not_say_it(tmp_path: Path) -> None:
    state = dict(DoseOperator(in_channels=1, skeleton="identity").state_dict())  # without torch's notes
    torch.save(state, tmp_path / "model.pt")
    other = DoseOperator(in_channels=1, skeleton="identity", dose_fraction=0.1)
    load_weights(other, tmp_path / "model.pt")  # nothing is known about it
    with pytest.raises(WeightsError, match=r"trained for the dose fraction 0.2, but the network is set to 0.1"):
        load_weights(other, tmp_path / "model.pt", trained_fraction=0.2)
    save_weights(other, tmp_path / "own.pt")
    load_weights(other, tmp_path / "own.pt", trained_fraction=0.2)  # the file knows best


def test_weights_say_which_operator_they_are_of(tmp_path: Path) -> None:
    """H2L and L2H are the same network: only the name in the file tells them apart."""
    network, path = small_network(), tmp_path / "model.pt"
    save_weights(network, path, operator="l2h")
    assert set(torch.load(path, weights_only=True)) == set(network.state_dict())  # the name is no entry
    for operator in ("l2h", None):
        loaded = load_weights(small_network(1), path, operator=operator)
        assert torch.equal(loaded(torch.ones(1, 2, 8, 8)), load_weights(network, path)(torch.ones(1, 2, 8, 8)))
    with pytest.raises(WeightsError, match="expected weights of h2l, got those of l2h; pass a file .* for h2l"):
        load_weights(small_network(), path, operator="h2l")
    save_weights(network, path)  # the name was not left in the network
    load_weights(small_network(), path, operator="h2l")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(WeightsError, match=r"no weights file at .*train the operator first or pass --checkpoint"):
            load_weights(small_network(), path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.pt"
    network = small_network()
    save_weights(network, path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        kernel = network[0].weight.half().detach().numpy().tobytes()  # type: ignore[union-attr]
        content[content.index(kernel) + 10] ^= 0xFF
    damaged = {"cut": content[: len(content) // 2], "text": b"not weights at all", "empty": b""}.get(damage, content)
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=rf"{path} cannot be read as a state dict .*damaged, cut short") as caught:
        load_weights(small_network(), path)
    assert "weights_only" not in str(caught.value)  # nobody should be led to switch that off


class Command:
    """Unpickling this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_code_in_a_weights_file_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"0.weight": Command(f"touch {trace}")}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="cannot be read as a state dict"):
        load_weights(small_network(), tmp_path / "model.pt")
    assert not trace.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(small_network(), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="cannot be read as a state dict"):
        load_weights(small_network(), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [{"0.weight": 1.0}, [torch.zeros(2)], torch.zeros(2)])
def test_something_else_than_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="expected a state dict of tensors, got"):
        load_weights(small_network(), tmp_path / "model.pt")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = tmp_path / "model.pt"
    sha256 = save_weights(small_network(), path)

    def half(content: object, place: Path) -> None:
        place.write_bytes(b"half a file")
        raise failure

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(failure)):
        save_weights(small_network(1), path)
    assert file_sha256(path) == sha256
    assert list(tmp_path.iterdir()) == [path]
