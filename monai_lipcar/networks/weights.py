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
"""Weights files: float16 state dicts, loaded strictly and never by unpickling code."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from monai_lipcar.errors import WeightsError

__all__ = ["file_sha256", "load_weights", "save_weights"]

Network = TypeVar("Network", bound=nn.Module)
_OPERATOR = "operator"


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def half_state_dict(network: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """State dict with kernels in float16 and everything else (biases, running statistics, counters) as it is.

    Kernels are nearly all of the size; running variances would underflow in float16.
    """
    state = network.state_dict()
    half: OrderedDict[str, torch.Tensor] = OrderedDict(
        (key, value.detach().cpu().half() if value.is_floating_point() and value.ndim > 1 else value.detach().cpu())
        for key, value in state.items()
    )
    half._metadata = dict(state._metadata)  # type: ignore[attr-defined]
    return half


def save_weights(network: nn.Module, path: str | Path, operator: str | None = None) -> str:
    """Write a network's weights as a float16 state dict, atomically.

    Args:
        network: the network.
        path: file to write.
        operator: name of the operator, e.g. ``"h2l"``. Noted in the state dict's metadata, where torch keeps module
            versions: two operators can have the same network, and their weights must not be mixed up.

    Returns:
        SHA-256 of the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    state = half_state_dict(network)
    if operator is not None:
        own = state._metadata  # type: ignore[attr-defined]
        own[""] = {**own.get("", {}), _OPERATOR: operator}
    try:
        torch.save(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return file_sha256(path)


def load_weights(
    network: Network,
    path: str | Path,
    sha256: str | None = None,
    operator: str | None = None,
    trained_fraction: float | None = None,
) -> Network:
    """Load a state dict strictly into ``network`` (in place) and return the network.

    Args:
        network: the module that the weights belong to.
        path: state dict, or a training checkpoint that holds one under ``"model"``.
        sha256: what the file's SHA-256 must be, where it is known.
        operator: name of the operator the weights must be of; a file that names none is taken.
        trained_fraction: dose fraction that the weights were trained at, for a file that does not say so itself. A
            file may also tell a range of them; the network computes with its own.

    Raises:
        WeightsError: the file is missing, damaged, has another checksum, belongs to another operator, or was trained
            on another skeleton, or for other dose fractions than the network's.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; train the operator first or pass --checkpoint FILE")
    if sha256 is not None:
        found = file_sha256(path)
        if found != sha256:
            raise WeightsError(
                f"weights file {path} is not the one this bundle was released with (sha256 {found[:12]}..., expected "
                f"{sha256[:12]}...); restore it, or pass --checkpoint FILE to use weights of your own"
            )
    state = _read_state_dict(path)
    notes = (getattr(state, "_metadata", None) or {}).get("", {})
    named = notes.get(_OPERATOR)
    if operator is not None and named not in (None, operator):
        raise WeightsError(
            f"weights file {path} belongs to another operator: expected weights of {operator}, got those of {named}; "
            f"pass a file that was trained for {operator}"
        )
    entries = dict(state)
    older = entries.pop("dose_fraction", None)  # files of version 0.1 kept it among the weights
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - entries.keys()), sorted(entries.keys() - expected.keys())
    shapes = sorted(key for key in expected.keys() & entries.keys() if expected[key].shape != entries[key].shape)
    if missing or unexpected or shapes:
        raise WeightsError(
            f"weights file {path} belongs to another operator: {len(missing)} entries missing, "
            f"{len(unexpected)} unknown, {len(shapes)} of another shape, e.g. {(missing + unexpected + shapes)[:3]}; "
            "check the network's in_channels, spatial_dims and skeleton, or use the bundle the file came from"
        )
    noted, wanted = notes.get("skeleton"), getattr(network, "skeleton", None)
    skeletons = [] if noted is None else [noted]
    if noted is None and older is not None and not getattr(network, "dosed", True):
        skeletons = ["physics", "extrapolation"]  # one of those that have a dose fraction, which it does not say
    if skeletons and wanted is not None and wanted not in skeletons:
        options = " or ".join(f"--network_def::skeleton {name}" for name in skeletons)
        raise WeightsError(
            f"weights file {path} was trained on the skeleton {' or '.join(map(repr, skeletons))}, but the network is "
            f"set to {wanted!r}; pass {options}, or weights that were trained on {wanted!r}"
        )
    single = older.item() if older is not None else notes.get("dose_fraction", trained_fraction)
    trained = notes.get("dose_fractions", None if single is None else [single, single])
    fraction = getattr(network, "fraction", None)
    if trained is not None and fraction is not None:
        lowest, highest = (float(value) for value in trained)
        if not lowest * (1 - 1e-5) <= fraction <= highest * (1 + 1e-5):
            span = f"fraction {lowest:g}" if lowest == highest else f"fractions {lowest:g} to {highest:g}"
            raise WeightsError(
                f"weights file {path} was trained for the dose {span}, but the network is set to "
                f"{fraction:g}; use weights trained for it, or set dose_fraction to that of the weights"
            )
        network.trained_fractions = (lowest, highest)  # type: ignore[assignment]
    network.load_state_dict(entries, strict=True)
    return network


def _read_state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():  # torch.load does not look at the checksums in the file
                    raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        # torch's own message shows how to switch the safety off, which nobody should be led to do
        raise WeightsError(
            f"weights file {path} cannot be read as a state dict ({type(error).__name__}): it is damaged, cut short, "
            "or not a PyTorch weights file; restore it from where it came"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"weights file {path}: expected a state dict of tensors, got {type(content).__name__}")
    return content
