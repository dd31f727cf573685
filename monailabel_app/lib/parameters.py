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
"""Parameters of a request: which there are, and whether their values can be meant.

A request comes from anywhere. Only what is listed here reaches a bundle, numbers as numbers and words from fixed lists:
MONAI's configs would execute a text such as ``"$..."``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from monai_lipcar.cli_options import DomainPolicy, Policy, PrecisionName, PriorName, SolverName
from monai_lipcar.data.studies import MEMBERS
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.options import check_options

__all__ = ["EXTENSIONS", "defaults", "read_extension", "read_options", "read_volume"]

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""File formats of the answer."""

_NUMBERS = (
    "alpha",
    "dose_fraction",
    "repetition_time_ms",
    "echo_time_ms",
    "flip_angle_deg",
    "relaxivity_r1",
    "relaxivity_r2",
)
_WHOLE_NUMBERS = ("max_iterations",)
_SWITCHES = ("refine_registration", "match_intensity", "across_slices")
_WORDS: dict[str, tuple[str, ...]] = {
    "alpha": ("auto",),
    "prior": tuple(prior.value for prior in PriorName),
    "solver": tuple(solver.value for solver in SolverName),
    "precision": tuple(precision.value for precision in PrecisionName),
    "registration_policy": tuple(policy.value for policy in Policy),
    "out_of_domain": tuple(policy.value for policy in DomainPolicy),
    "denoise": ("none", "nlm", "wavelet", "tv", "bm3d"),
}
_OPTIONS = tuple(dict.fromkeys((*_NUMBERS, *_WHOLE_NUMBERS, *_WORDS, *_SWITCHES)))
_OF_THE_ANSWER = ("volume", "result_extension", "result_compress")


def defaults(config: Mapping[str, Any], members: Collection[str], volumes: Collection[str]) -> dict[str, Any]:
    """Parameters of a bundle and their defaults, as viewers show them.

    A viewer keeps the type of a default: numbers are given as text, so that a user can write ``auto`` in their place or
    leave them empty. Of a list it shows a choice.

    Args:
        config: the bundle's ``inference.json``.
        members: the images that a request names besides the observed one.
        volumes: what can be asked for, the default first.
    """
    shown: dict[str, Any] = dict.fromkeys(members, "")
    for name in (name for name in _OPTIONS if name in config):
        value = config[name]
        if isinstance(value, bool):
            shown[name] = value
        elif name in _WORDS and value in _WORDS[name]:
            shown[name] = [value, *(word for word in _WORDS[name] if word != value)]
        else:
            shown[name] = "" if value is None else str(value)
    return {**shown, "volume": list(volumes)}


def read_options(request: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a bundle from a request; what is empty there stays as the bundle has it.

    Viewers send more than parameters of the bundle, which is passed over, unless it looks like a misspelled one.

    Args:
        request: names to values; a number may be given as text, and a choice as a list, whose first entry counts.
        config: the bundle's ``inference.json``.

    Raises:
        ConfigurationError: names the parameter, what was expected and what came.

    Example:
        >>> read_options({"alpha": "0.004", "solver": "", "client_id": 7}, {"alpha": 0.002, "solver": "proximal"})
        {'alpha': 0.004}
        >>> read_options({"alhpa": 0.004}, {"alpha": 0.002})
        Traceback (most recent call last):
            ...
        monai_lipcar.errors.ConfigurationError: unknown parameter 'alhpa'; did you mean 'alpha'?
    """
    known = (*_OPTIONS, *MEMBERS, *_OF_THE_ANSWER)
    for name in request:
        close = [] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            raise ConfigurationError(f"unknown parameter {name!r}; did you mean {close[0]!r}?")
    given = {name: _first(request[name]) for name in _OPTIONS if name in request}
    options = {name: _value(name, value) for name, value in given.items() if value is not None and value != ""}
    check_options(options, config)
    return options


def read_volume(request: Mapping[str, Any], volumes: Collection[str]) -> str:
    """The volume that is asked for: the first of ``volumes`` if none is.

    Raises:
        ConfigurationError: this bundle has no such volume.
    """
    value = _first(request.get("volume")) or next(iter(volumes))
    if value not in volumes:
        raise ConfigurationError(f"volume: expected {' or '.join(map(repr, volumes))}, got {value!r}")
    return str(value)


def read_extension(request: Mapping[str, Any]) -> str:
    """File format of the answer, NIfTI by default.

    Raises:
        ConfigurationError: a format that the answer cannot be written in.
    """
    value = request.get("result_extension") or EXTENSIONS[0]
    if value not in EXTENSIONS:
        raise ConfigurationError(f"result_extension: expected one of {', '.join(EXTENSIONS)}, got {value!r}")
    return str(value)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _value(name: str, value: Any) -> Any:
    words = _WORDS.get(name, ())
    if isinstance(value, str) and value in words:
        return value
    if name in _SWITCHES and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if name in (*_NUMBERS, *_WHOLE_NUMBERS):
        number = _number(value, whole=name in _WHOLE_NUMBERS)
        if number is not None:
            return number
    kind = "a whole number" if name in _WHOLE_NUMBERS else "a number" if name in _NUMBERS else ""
    kind = "true or false" if name in _SWITCHES else kind
    expected = " or ".join(filter(None, (kind, *map(repr, words))))
    raise ConfigurationError(f"{name}: expected {expected}, got {value!r}")


def _number(value: Any, whole: bool) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
        if whole:
            return int(value) if number == int(number) else None
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
