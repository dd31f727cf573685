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
"""Rules that tell which series is pre, low and high: a small YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_lipcar.errors import ConfigurationError

from .header import need_dicom

__all__ = ["DEFAULT_RULES", "MEMBERS", "Rule", "SeriesRules", "load_rules"]

DEFAULT_RULES = Path(__file__).parent / "series_rules.yaml"
"""The rules that are used where none are given; its comments say how to write others."""
MEMBERS = ("pre", "low", "high")
"""What a series can be picked for."""
_REFERRING = ("like", "before", "after")


@dataclass(frozen=True)
class Rule:
    """Conditions that a series has to fulfil, all of them.

    Args:
        attributes: keyword to a regular expression, or to whether the attribute has a value.
        excluded: the same, none of which may hold.
        like, before, after: members whose series it is compared with.
        take: ``"first"`` or ``"last"`` acquired, of those that fulfil the rest.
    """

    attributes: Mapping[str, str | bool]
    excluded: Mapping[str, str | bool]
    like: str | None = None
    before: str | None = None
    after: str | None = None
    take: str | None = None

    def __str__(self) -> str:
        """The conditions in words, for the reason why a series was picked."""
        parts = [
            f"{keyword} {('is there' if value else 'is empty') if isinstance(value, bool) else 'matches its pattern'}"
            for keyword, value in self.attributes.items()
        ]
        parts += [f"{name} {getattr(self, name)}" for name in _REFERRING if getattr(self, name)]
        return ", ".join([*parts, *([f"the {self.take} of those"] if self.take else [])]) or "the only one"


@dataclass(frozen=True)
class SeriesRules:
    """Rules for each member.

    Args:
        every: conditions of all members.
        members: rules of each member, in the order in which members and rules are tried.
    """

    every: Rule
    members: Mapping[str, tuple[Rule, ...]]


def load_rules(file: str | Path | None = None) -> SeriesRules:
    """Read rules from a YAML file; see ``series_rules.yaml`` in this package for how to write one.

    Args:
        file: the file; by default that of the package.

    Raises:
        ConfigurationError: the file cannot be read, or what it says is no such rule.

    Example:
        >>> rules = load_rules()
        >>> list(rules.members), rules.members["pre"][1].before
        (['low', 'pre', 'high'], 'low')
    """
    need_dicom(("pydicom", "yaml"))
    import yaml

    path = Path(file or DEFAULT_RULES)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"series rules {path.name} cannot be read: {reason}") from error
    place = f"series rules {path.name}"
    if not isinstance(content, dict) or not {*content} - {"every"} or not {*content} <= {"every", *MEMBERS}:
        got = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ConfigurationError(f"{place}: expected the keys {', '.join(MEMBERS)} and perhaps every, got {got}")
    every = _rule(content.pop("every", None) or {}, f"{place}, every", ())
    if every.take:
        raise ConfigurationError(f"{place}, every: 'take' is for the rules of a member")
    members: dict[str, tuple[Rule, ...]] = {}
    for name, rules in content.items():
        if not isinstance(rules, list) or not rules:
            raise ConfigurationError(f"{place}, {name}: expected a list of rules, got {rules!r}")
        members[name] = tuple(
            _rule(rule, f"{place}, {name}, rule {number}", tuple(members)) for number, rule in enumerate(rules, 1)
        )
    return SeriesRules(every, members)


def _rule(content: Any, place: str, known: tuple[str, ...]) -> Rule:
    if not isinstance(content, dict):
        raise ConfigurationError(f"{place}: expected conditions, got {content!r}")
    content = dict(content)
    excluded = content.pop("not", {})
    if not isinstance(excluded, dict):
        raise ConfigurationError(f"{place}, not: expected conditions, got {excluded!r}")
    references = {name: content.pop(name) for name in _REFERRING if name in content}
    for name, member in references.items():
        if member not in known:
            raise ConfigurationError(
                f"{place}, {name}: expected a member with its rules above ({', '.join(known) or 'none'}), "
                f"got {member!r}"
            )
    take = content.pop("take", None)
    if take not in (None, "first", "last"):
        raise ConfigurationError(f"{place}, take: expected first or last, got {take!r}")
    return Rule(_attributes(content, place), _attributes(excluded, f"{place}, not"), take=take, **references)


def _attributes(content: dict[Any, Any], place: str) -> dict[str, str | bool]:
    from pydicom.datadict import tag_for_keyword

    for keyword, value in content.items():
        if not isinstance(keyword, str) or tag_for_keyword(keyword) is None:
            raise ConfigurationError(f"{place}: {keyword!r} is no keyword of a DICOM attribute, and no condition")
        if not isinstance(value, (str, bool)):
            raise ConfigurationError(f"{place}, {keyword}: expected a quoted pattern, true or false, got {value!r}")
        try:
            re.compile(str(value))
        except re.error as error:
            raise ConfigurationError(f"{place}, {keyword}: {value!r} is no regular expression ({error})") from error
    return content
