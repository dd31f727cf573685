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
"""Options that a user gives a bundle: do they exist, and are their values of the right kind?

``python -m monai.bundle run`` takes any ``--name value``: a name that the config does not have becomes a new entry that
nothing reads, and a value of the wrong type surfaces somewhere inside a component.
"""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_lipcar.errors import ConfigurationError

__all__ = ["check_options", "is_true", "keep_paths_as_text", "options_of_this_run"]

PATHS = ("bundle_root", "dataset_dir", "datalist_file", "output_dir", "cache_dir", "checkpoint", "guess_checkpoint")
"""Options that are paths."""

_NO_OPTIONS = {"imports", "initialize", "run", "finalize"}
"""Entries of a config that are steps, not settings: to be overridden, but nothing to propose."""
_OF_INVERSE_PROBLEMS = {"alpha", "alpha_rule", "solver", "max_iterations", "across_slices"}
"""Options that the bundles with an operator alone do not have."""
_OF_INVERTED_NETWORKS = {"precision", "compile"}
"""Options of the inverse problems whose operator is a network."""
_WORDS = {"alpha": "auto"}
"""Options that take a word in place of a number."""
_TRACKING = {"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
"""What MONAI's experiment tracking adds."""
_MISSING = object()


def check_options(options: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse options that a config does not have, and values that cannot be meant.

    A nested id (``train::trainer::max_epochs``, or with ``#``) may be new only as an argument of a component. Values
    are compared with the config's: true or false for a bool, a number that is not negative for a number (for alpha also
    the word "auto"), a whole number of at least 1 for a whole number that is not 0. Expressions and references are not
    looked into.

    Args:
        options: id to value.
        config: content of the config files, without the options.

    Raises:
        ConfigurationError: names the option, and the closest one that exists.

    Example:
        >>> check_options({"alpha": 0.01}, {"alpha": 0.002, "dataset_dir": "data"})
        >>> check_options({"dataset_dri": "data"}, {"alpha": 0.002, "dataset_dir": "data"})
        Traceback (most recent call last):
            ...
        monai_lipcar.errors.ConfigurationError: unknown option --dataset_dri; did you mean --dataset_dir?
    """
    for name, value in options.items():
        parts = name.lstrip("+").replace("#", "::").split("::")
        default = _entry(config, parts)
        if default is _MISSING:
            component = _entry(config, parts[:-1])
            if parts[0] in {"_meta_", *_NO_OPTIONS} or (isinstance(component, Mapping) and "_target_" in component):
                continue
            bundle = _entry(config, ["writer", "bundle"])
            if name == "prior" and bundle is not _MISSING:
                raise ConfigurationError(
                    f"prior: the bundle {bundle} has no choice of a prior; leave the option out, or choose ph2l_gentv"
                )
            if name in _OF_INVERSE_PROBLEMS and bundle is not _MISSING:
                raise ConfigurationError(
                    f"{name}: the bundle {bundle} applies an operator, it has no prior and no solver; leave the option "
                    "out, or choose an inverse problem, such as ph2l_tv"
                )
            if name == "spatial_dims" and bundle is not _MISSING:
                raise ConfigurationError(
                    f"spatial_dims: the bundle {bundle} inverts an operator that acts on every voxel by itself; for "
                    "the problem of the whole volume give --across_slices true"
                )
            if name in _OF_INVERTED_NETWORKS and bundle is not _MISSING:
                raise ConfigurationError(
                    f"{name}: the bundle {bundle} inverts no network; leave the option out, or choose one that does, "
                    "such as ph2l_tv"
                )
            raise ConfigurationError(f"unknown option --{name}; {_proposal(name, config)}")
        expected = None if value == _WORDS.get(name, _MISSING) else _mismatch(value, default)
        if expected:
            word = f" or {_WORDS[name]!r}" if name in _WORDS else ""
            raise ConfigurationError(f"{name}: expected {expected}{word}, got {value!r}")
    if options.get("prior") == "adaptive" and (given := options.keys() & {"alpha", "alpha_rule"}):
        raise ConfigurationError(
            f"{min(given)}: the adaptive prior chooses alpha from the noise of the study; leave the option out, or "
            "choose the prior gentv"
        )
    _check_device(options.get("device"))


def is_true(value: bool | str) -> bool:
    """A switch of a config: ``--amp false`` arrives as text, which Python takes for true.

    Example:
        >>> is_true("false"), is_true("True"), is_true(True)
        (False, True, True)
    """
    return str(value).lower() == "true"


def options_of_this_run() -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Options and config of the ``monai.bundle.run`` or ``create_workflow`` that is being executed, if any.

    MONAI merges both before the config can see either; they are still apart in the calling frame.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "create_workflow" and {"_args", "config_file"} <= frame.f_locals.keys():
            given, config_file = dict(frame.f_locals["_args"]), frame.f_locals["config_file"]
            if config_file is None:
                return None
            for name in inspect.signature(ConfigWorkflow.__init__).parameters:
                given.pop(name, None)
            if given.pop("tracking", None) is not None:
                given = {name: value for name, value in given.items() if name not in _TRACKING}
            return given, ConfigParser.load_config_files(config_file)
        frame = frame.f_back
    return None


def keep_paths_as_text(options: Mapping[str, Any]) -> None:
    """Give the config that is being executed those of its paths as text that the command line made something else of.

    ``python -m monai.bundle`` reads every value as a Python literal where it can: ``--dataset_dir 2024`` arrives as a
    number, and a folder called ``2024_11`` as 202411. Where the command line has the option, its own text is taken.

    Args:
        options: options of this run; see :func:`options_of_this_run`.

    Raises:
        ConfigurationError: an option without its path.
    """
    changed = {
        name: _typed(name, options[name]) for name in PATHS if not isinstance(options.get(name), (str, type(None)))
    }
    frame = inspect.currentframe() if changed else None
    while frame is not None:
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            for name, text in changed.items():
                # not by parser[name] = text, which forgets all that is parsed, in the middle of its evaluation
                workflow.parser.get()[name] = text
                workflow.parser.ref_resolver.items[name].update_config(text)
            return
        frame = frame.f_back


def _typed(name: str, value: Any) -> str:
    """An option's value as it was typed; by a program that has no such command line, its text."""
    for index, argument in enumerate(sys.argv[1:], start=1):
        key, equals, text = argument.partition("=")
        if not key.startswith("-") or key.lstrip("-").replace("-", "_") != name:
            continue
        if not equals:
            text = next(iter(sys.argv[index + 1 :]), "--")
        if not text or text.startswith("--"):
            raise ConfigurationError(f"{name}: expected a path, got nothing; give it after --{name}")
        return text
    return str(value)


def _entry(config: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            return _MISSING
    return config


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    entries = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in entries:
        yield f"{prefix}{key}"
        yield from _ids(value, f"{prefix}{key}::")


def _proposal(name: str, config: Mapping[str, Any]) -> str:
    separator = "#" if "#" in name else "::"
    settings = [key for key in config if key not in _NO_OPTIONS]
    known = [key.replace("::", separator) for key in _ids(config)] if separator in name else settings
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean --{close[0]}?"
    values = [key for key in settings if not isinstance(config[key], (Mapping, list))]
    return f"there are {', '.join(f'--{key}' for key in values)}"


def _mismatch(value: Any, default: Any) -> str | None:
    """What was expected in place of ``value``, or None where it can be meant."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        return None
    if isinstance(default, bool):
        return None if str(value).lower() in ("true", "false") else "true or false"
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, int):
        least = min(default, 1)
        return None if number and isinstance(value, int) and value >= least else f"a whole number of at least {least}"
    if isinstance(default, float):
        return None if number and value >= 0 else "a number that is not negative"
    return None


def _check_device(device: Any) -> None:
    if not isinstance(device, str) or device.startswith(("$", "@")):
        return
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # the first sentence: torch continues with advice on debugging kernels
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise ConfigurationError(f"device: {device!r} cannot be used ({reason}); choose cpu") from error
