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
"""The folder of a bundle: where it is, what its metadata says, its weights."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from monai_lipcar.errors import ConfigurationError, WeightsError
from monai_lipcar.networks import file_sha256, load_weights

__all__ = [
    "adaptive_prior",
    "alpha_rule",
    "bundle_metadata",
    "bundle_root",
    "bundle_version",
    "checksum",
    "domain_ranges",
    "find_weights",
    "load_operator",
    "weights_sha256",
]

Network = TypeVar("Network", bound=nn.Module)


def bundle_root(name: str) -> str:
    """Folder of the bundle ``name``, from any working directory.

    A config does not know its own path. Looked at in this order: the MONAI workflow that is reading the config; the
    working directory, when it is the bundle; ``bundles/<name>`` in the working directory or above it; beside the
    package, in a source checkout.

    Raises:
        ConfigurationError: the bundle is nowhere of these.
    """
    candidates = []
    frame = inspect.currentframe()
    while frame is not None:
        config_root = getattr(frame.f_locals.get("self"), "__dict__", {}).get("config_root_path")
        if config_root is not None:
            candidates.append(Path(config_root).resolve().parent)
            break
        frame = frame.f_back
    here = Path.cwd()
    candidates.append(here)
    candidates.extend(folder / "bundles" / name for folder in (here, *here.parents))
    candidates.append(Path(__file__).resolve().parent.parent / "bundles" / name)
    for candidate in candidates:
        if _bundle_name(candidate) == name:
            return str(candidate)
    raise ConfigurationError(f"bundle {name!r} not found; pass --bundle_root DIR")


def _bundle_name(folder: Path) -> str | None:
    """The bundle's name in its metadata: its folder may be called otherwise."""
    name = bundle_metadata(folder).get("bundle")
    return None if name is None else str(name)


def bundle_version(root: str | Path) -> str | None:
    """Version of the bundle in this folder, or None where its metadata gives none."""
    version = bundle_metadata(root).get("version")
    return None if version is None else str(version)


def bundle_metadata(root: str | Path) -> dict[str, Any]:
    """Content of a bundle's ``configs/metadata.json``; empty where there is none."""
    try:
        content = json.loads((Path(root) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def domain_ranges(root: str | Path) -> dict[str, list[float | None]]:
    """What studies of the kind that the bundle's operator was trained on are like: ``"domain"`` of its metadata.

    Args:
        root: folder of the bundle.

    Returns:
        Lowest and highest value by feature, for :class:`~monai_lipcar.transforms.CheckDomaind`; empty where the bundle
        says nothing.
    """
    return dict(bundle_metadata(root).get("domain", {}))


def find_weights(root: str | Path, operator: str, file: str = "model.pt") -> str:
    """Path of an operator's weights: ``models/<file>`` of the bundle itself, else the operator bundle beside it.

    Args:
        root: folder of the bundle that asks.
        operator: name of the operator bundle, e.g. ``"ph2l"``.
        file: name in the bundle's own ``models/``; a packaged bundle carries its guess network as ``guess_model.pt``.
    """
    own = Path(root) / "models" / file
    return str(own if own.is_file() else Path(root).parent / operator / "models" / "model.pt")


def checksum(path: str | Path) -> str:
    """SHA-256 of a weights file, for the record of a result.

    Raises:
        WeightsError: there is no such file.
    """
    if not Path(path).is_file():
        raise WeightsError(f"no weights file at {path}; train the operator first or pass --checkpoint FILE")
    return file_sha256(path)


def weights_sha256(path: str | Path) -> str | None:
    """SHA-256 that the bundle's metadata gives for a weights file, or None for files that it does not name."""
    root = Path(path).parent.parent  # of the bundle in whose models/ the file lies, if it does
    value = bundle_metadata(root).get("weights_sha256", {}).get(f"{Path(path).parent.name}/{Path(path).name}")
    return None if value is None else str(value)


def alpha_rule(
    alpha: Any, root: str | Path, dose_fraction: float, weights: str | Path | None = None
) -> dict[str, float] | None:
    """What ``--alpha auto`` chooses by, as it was measured for the bundle's operator: ``"alpha_rule"`` of its metadata.

    A ratio of alpha to noise is for the dose fraction that it was measured at and goes with it: half the dose moves the
    low dose half as much, and the same noise hides twice the enhancement.

    Args:
        alpha: of this run; None is returned where it is a number.
        root: folder of the bundle.
        dose_fraction: of this run.
        weights: weights file of the operator, where it has one.

    Returns:
        Arguments of :class:`~monai_lipcar.problem.AlphaRule`.

    Raises:
        ConfigurationError: the rule has not been measured for this bundle, or for other weights than these.
    """
    if alpha != "auto":
        return None
    metadata = bundle_metadata(root)
    name, measured = metadata.get("bundle", Path(root).name), dict(metadata.get("alpha_rule", {}))
    advice = (
        "give --alpha a number, or measure it with benchmarks/alpha_auto.py and pass it to the bundle as --alpha_rule"
    )
    if not measured:
        raise ConfigurationError(f"alpha: 'auto' has not been calibrated for the bundle {name}; {advice}")
    expected, measured_at = measured.pop("weights_sha256", None), measured.pop("dose_fraction", dose_fraction)
    if weights is not None and expected != checksum(weights):
        raise ConfigurationError(
            f"alpha: 'auto' was calibrated for other weights of the bundle {name} than {weights}; {advice}"
        )
    return at_dose_fraction(measured, dose_fraction / measured_at)


def at_dose_fraction(rule: Mapping[str, float], factor: float) -> dict[str, float]:
    """Arguments of an :class:`~monai_lipcar.problem.AlphaRule` at so many times the dose fraction they are for.

    The change that the full dose's enhancement makes to the low dose is that many times as large, and alpha has to be
    with it.
    """
    return {name: value * factor if name in ("ratio", "scale") else value for name, value in rule.items()}


def adaptive_prior(
    prior: str, root: str | Path, dose_fraction: float, weights: str | Path, guess_weights: str | Path
) -> dict[str, dict[str, float]] | None:
    """What ``--prior adaptive`` chooses alpha and the guess by: ``"adaptive_prior"`` of the bundle's metadata.

    As measured for the two networks at one dose fraction: with half the dose the ratio of alpha to noise and its scale
    are half as large, see :func:`alpha_rule`, and the end-to-end image is wrong by twice as much for the same noise.

    Args:
        prior: of this run; None is returned for ``"gentv"``.
        root: folder of the bundle.
        dose_fraction: of this run.
        weights: weights file of the operator.
        guess_weights: weights file of the end-to-end network.

    Returns:
        Arguments of :class:`~monai_lipcar.problem.AlphaRule` (``"alpha_rule"``) and of
        :class:`~monai_lipcar.problem.GuessRule` (``"guess_rule"``).

    Raises:
        ConfigurationError: a prior that does not exist, or was not calibrated for the bundle or for these weights.
    """
    if prior == "gentv":
        return None
    if prior != "adaptive":
        raise ConfigurationError(f"prior: expected 'gentv' or 'adaptive', got {prior!r}")
    metadata = bundle_metadata(root)
    name, measured = metadata.get("bundle", Path(root).name), metadata.get("adaptive_prior")
    advice = "choose the prior gentv, or measure it with benchmarks/adaptive.py"
    if measured is None:
        raise ConfigurationError(f"prior: 'adaptive' has not been calibrated for the bundle {name}; {advice}")
    for key, file in (("weights_sha256", weights), ("guess_weights_sha256", guess_weights)):
        if measured[key] != checksum(file):
            raise ConfigurationError(
                f"prior: 'adaptive' was calibrated for other weights of the bundle {name} than {file}; {advice}"
            )
    factor = dose_fraction / measured["dose_fraction"]
    guess = {**measured["guess_rule"], "gain": measured["guess_rule"]["gain"] / factor}
    return {"alpha_rule": at_dose_fraction(measured["alpha_rule"], factor), "guess_rule": guess}


def load_operator(network: Network, path: str | Path, operator: str | None = None) -> Network:
    """Load weights strictly, verified against what is known of them, into eval mode.

    Weights that a bundle was released with have to have the checksum in its metadata, and were trained at the dose
    fraction there (``"dose_fraction"``). Other files say their dose fraction themselves.

    Args:
        network: the module that the weights belong to.
        path: weights file.
        operator: name of the operator that the file must not contradict.

    Raises:
        WeightsError: see :func:`~monai_lipcar.networks.load_weights`.
    """
    sha256 = weights_sha256(path)
    trained_fraction = None if sha256 is None else bundle_metadata(Path(path).parent.parent).get("dose_fraction")
    return load_weights(network, path, sha256, operator, trained_fraction).eval()
