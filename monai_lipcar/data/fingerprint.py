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
"""A fingerprint of a preprocessing chain that is the same in every process, to name what was cached with it."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache, partial
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader

__all__ = ["fingerprint"]

RUN_STATE = (np.random.RandomState, np.random.Generator, torch.Generator, threading.local)
"""Attributes that are no configuration; MONAI remembers in a ``threading.local`` whether a transform is traced."""


def fingerprint(configured: Any, source: bool = True) -> str:
    """Hash of the classes, attributes and source code of an object: a MONAI ``Compose``, as a rule.

    Two objects that are configured alike have the same fingerprint, in any process and whatever the state of their
    random generators. MONAI's own ``monai.data.utils.pickle_hashing`` does not: a ``Compose`` pickles with its random
    state, and pickle also records which equal strings are one object in memory. ``json_hashing`` cannot serialize
    transforms, whereupon MONAI falls back to their class names, equal for two percentiles.

    What goes in: class names, attributes (recursively), array contents, byte code and closures of functions; for code
    that is not an installed package, the source files that classes are defined in, with those of the same package that
    these import at their top; versions of MONAI and of this package. So an edited transform counts as another one.

    What does not, so that two preprocessings collide (delete the cache after changing one of these): functions that
    a function calls; classes typed into an interactive session; versions of other installed packages; environment
    variables and files read while preprocessing; the state of objects of compiled code that shows neither in
    attributes nor in ``repr``.

    A transform that sets attributes when it is called has another fingerprint then. MONAI's do so in places (the
    files that a reader read last, whether a transform is being traced); these are left out.

    Args:
        configured: the object.
        source: False leaves the source code of classes out: for what is kept over versions of the code, where
            something else says whether they compute the same.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> from monai.transforms import Compose, ScaleIntensityd
        >>> fingerprint(Compose([ScaleIntensityd("pre")])) == fingerprint(Compose([ScaleIntensityd("pre")]))
        True
        >>> fingerprint(ScaleIntensityd("pre")) == fingerprint(ScaleIntensityd("pre", maxv=2.0))
        False
    """
    digest = hashlib.sha256(f"{_version('monai')} {_version('monai_lipcar')}".encode())
    _feed(digest, configured, [], source)
    return digest.hexdigest()


def _feed(digest: Any, value: Any, parents: list[int], source: bool) -> None:
    """Add one value: its kind, and the number of its parts, so that none can pass for another."""
    if id(value) in parents:
        digest.update(b"<parent %d>" % parents.index(id(value)))
        return
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, torch.dtype)):
        digest.update(f"<{type(value).__name__} {value!r}>".encode())
        return
    if isinstance(value, types.ModuleType):
        digest.update(f"<module {value.__name__}>".encode())
        return
    parents = [*parents, id(value)]
    if isinstance(value, PurePath | Enum | torch.device | np.dtype | re.Pattern):
        parts: list[Any] = [type(value).__qualname__, str(value)]
    elif isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        parts = ["tensor", str(value.dtype), tuple(value.shape), content]
    elif isinstance(value, np.ndarray):
        content = value.tolist() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
        parts = ["array", str(value.dtype), value.shape, content]
    elif isinstance(value, Mapping):
        parts = ["mapping", *(part for item in sorted(value.items(), key=lambda item: repr(item[0])) for part in item)]
    elif isinstance(value, list | tuple):
        parts = [type(value).__name__, *value]
    elif isinstance(value, set | frozenset):
        parts = ["set", *sorted(value, key=repr)]
    elif isinstance(value, partial):
        parts = ["partial", value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        parts = ["method", value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = ["function", _name(value), value.__defaults__, value.__kwdefaults__, value.__code__, closure]
    elif isinstance(value, types.CodeType):
        # names and constants beside the byte code, which only numbers them
        parts = ["code", value.co_code, value.co_names, value.co_consts]
    elif isinstance(value, type | types.BuiltinFunctionType):
        bases = value.__mro__[:-1] if isinstance(value, type) and source else ()
        parts = ["named", _name(value), *(_source_hash(base.__module__) for base in bases)]
    else:
        parts = ["object", type(value), _attributes(value)]
    digest.update(b"<%d " % len(parts))
    for part in parts:
        _feed(digest, part, parents, source)
    digest.update(b">")


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _attributes(value: Any) -> Any:
    names = set(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
    names -= {"__dict__", "__weakref__"}
    if isinstance(value, ImageReader):
        names -= {"filenames", "has_series"}  # of the volume read last
    attributes = {name: getattr(value, name) for name in names if hasattr(value, name)}
    attributes = {name: part for name, part in attributes.items() if not isinstance(part, RUN_STATE)}
    # objects of compiled code hide their state; an address in their repr would differ in every process
    return attributes or re.sub(r"0x[0-9a-fA-F]+", "", repr(value))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def _source_hash(module: str) -> str:
    """Hash of a module's source file and of those of its own package that it imports from."""
    package = module.partition(".")[0]
    digest = hashlib.sha256()
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        loaded = sys.modules.get(name)
        file = Path(getattr(loaded, "__file__", None) or "")
        if name in seen or file.suffix != ".py" or {"site-packages", "dist-packages"} & set(file.parts):
            continue
        seen.add(name)
        digest.update(file.read_bytes())
        if hasattr(loaded, "__path__"):
            continue  # what a package holds depends on what was imported before
        for value in vars(loaded).values():
            if isinstance(value, types.ModuleType | types.FunctionType | type):
                origin = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
                if origin and origin.partition(".")[0] == package:
                    pending.append(origin)
    return digest.hexdigest()
