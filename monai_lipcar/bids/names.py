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
"""File names of BIDS: ``sub-01_ses-2_ce-low_T1w.nii.gz`` and what they say.

pybids would do this too, with a database and a dozen packages; the grammar is one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from monai_lipcar.errors import ConfigurationError

__all__ = ["ENTITIES", "BidsName", "parse_entities"]

ENTITIES = (
    *("sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec"),
    *("dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk"),
    *("atlas", "seg", "scale", "res", "den", "label", "desc"),
)
"""The keys, in the order that the standard wants them in (BIDS 1.11)."""
_ENTITY = r"[a-z]+-[0-9a-zA-Z+]+"
_NAME = re.compile(rf"((?:{_ENTITY}_)*)([0-9a-zA-Z]+)((?:\.[0-9a-zA-Z]+)+)")


@dataclass(frozen=True)
class BidsName:
    """A file name.

    Args:
        entities: key to label, ``"sub"`` and ``"ses"`` among them.
        suffix: such as ``"T1w"``.
        extension: with its dot.

    Example:
        >>> name = BidsName.parse("sub-01_ce-low_run-1_T1w.nii.gz")
        >>> name.entities, name.suffix, name.extension
        ({'sub': '01', 'ce': 'low', 'run': '1'}, 'T1w', '.nii.gz')
        >>> str(name.with_entities({"desc": "simulated", "ce": "full"}))
        'sub-01_ce-full_run-1_desc-simulated_T1w.nii.gz'
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    @classmethod
    def parse(cls, name: str) -> BidsName | None:
        """Read a file name; None where it is not one of BIDS."""
        found = _NAME.fullmatch(name)
        if not found:
            return None
        pairs = [part for part in found[1].split("_") if part]
        entities = dict(part.split("-", 1) for part in pairs)
        return cls(entities, found[2], found[3]) if len(entities) == len(pairs) else None

    def with_entities(self, entities: Mapping[str, str], without: tuple[str, ...] = ()) -> BidsName:
        """The same name with these entities, and without others."""
        kept = {key: label for key, label in self.entities.items() if key not in without}
        return replace(self, entities={**kept, **entities})

    def __str__(self) -> str:
        """The name, its entities in the order of the standard, unknown ones before the suffix."""
        order = {key: number for number, key in enumerate(ENTITIES)}
        pairs = sorted(self.entities.items(), key=lambda pair: order.get(pair[0], len(order)))
        return "_".join([*(f"{key}-{label}" for key, label in pairs), self.suffix]) + self.extension


def parse_entities(text: str) -> dict[str, str]:
    """Read entities as they stand in a file name.

    Args:
        text: such as ``"ce-low"`` or ``"acq-lowdose_ce-gadobutrol"``; empty for none.

    Raises:
        ConfigurationError: it is none, or has the subject or session in it.

    Example:
        >>> parse_entities("acq-lowdose_ce-gadobutrol")
        {'acq': 'lowdose', 'ce': 'gadobutrol'}
    """
    if not re.fullmatch(rf"({_ENTITY}(?:_{_ENTITY})*)?", text):
        raise ConfigurationError(
            f"expected entities as in a BIDS file name, such as ce-low or acq-lowdose_ce-gadobutrol, got {text!r}"
        )
    entities = dict(part.split("-", 1) for part in text.split("_") if part)
    if unknown := sorted({*entities} & {"sub", "ses"} | {*entities} - {*ENTITIES}):
        raise ConfigurationError(
            f"expected entities that tell images of a session apart, such as ce, acq, rec or run, got {unknown[0]!r}"
        )
    return entities
