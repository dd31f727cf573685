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
"""Which series is what: by their UIDs, or by rules; and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monai_lipcar.errors import StudyError

from .header import number, words
from .rules import MEMBERS, Rule, SeriesRules
from .series import Series

__all__ = ["Pick", "pick_series"]

_ADVICE = "say which with --pre-uid, --low-uid and --high-uid, or write rules for them (--series-rules FILE)"
_SHOWN = 12
"""Series that a message names at most."""


@dataclass(frozen=True)
class Pick:
    """The series of a member.

    Args:
        series: the series.
        reason: why it was picked.
    """

    series: Series
    reason: str


def pick_series(
    series: Sequence[Series],
    study: str,
    rules: SeriesRules,
    uids: Mapping[str, str] | None = None,
    required: Sequence[str] = ("pre", "low"),
) -> tuple[dict[str, Pick], list[str]]:
    """Pick the series of each member of a study.

    A member whose UID is given is that series. The others are found by their rules: the first rule that fits any series
    decides, and has to fit exactly one.

    Args:
        series: the candidates.
        study: whose they are, for messages.
        rules: of the members whose UIDs are not given.
        uids: SeriesInstanceUID by member.
        required: members that have to be found. Others are left out where several series fit, with a note.

    Returns:
        The picks, and the notes.

    Raises:
        StudyError: no series, or more than one, for a required member, or the same one for two. The message names the
            candidates.
    """
    picks: dict[str, Pick] = {}
    notes: list[str] = []
    for name, uid in (uids or {}).items():
        known = [one for one in series if one.uid == uid]
        if not known:
            raise _refusal(f"there is no series with the UID {uid}", series, study, name)
        picks[name] = Pick(known[0], "its UID was given")
    used = {pick.series.uid: name for name, pick in picks.items()}
    if len(used) < len(picks):
        raise StudyError("the same series was given for two members", study=study, advice=_ADVICE)
    for name, alternatives in rules.members.items():
        if name in picks:
            continue
        try:
            found = _by_rules(name, alternatives, rules.every, series, picks, study)
        except StudyError as error:
            if name in required:
                raise
            notes.append(f"{name} was left out: {error.reason}")
            continue
        if found is not None:
            picks[name] = found
    for name in (*rules.members, *required):
        if name in required and name not in picks:
            if name not in rules.members:
                raise _refusal("there are no rules for it", series, study, name)
            missed = _nearly(rules.members[name], rules.every, series, picks)
            raise _refusal(f"no series fits its rules{missed}", series, study, name)
    seen: dict[str, str] = {}
    for name in (member for member in MEMBERS if member in picks):
        other = seen.setdefault(picks[name].series.uid, name)
        if other == name:
            continue
        spare = next((member for member in (name, other) if member not in required), None)
        if spare is None:
            raise StudyError(
                f"{other} and {name} would both be {picks[name].series}", study=study, member=name, advice=_ADVICE
            )
        notes.append(f"{spare} was left out: it would be the same series as {name if spare == other else other}")
        del picks[spare]
        seen[picks[name if spare == other else other].series.uid] = name if spare == other else other
    return picks, notes


def _by_rules(
    name: str,
    alternatives: Sequence[Rule],
    every: Rule,
    series: Sequence[Series],
    picks: Mapping[str, Pick],
    study: str,
) -> Pick | None:
    eligible = [one for one in series if _fits(one, every, picks)]
    for number_of_rule, rule in enumerate(alternatives, 1):
        if any(getattr(rule, kind) and getattr(rule, kind) not in picks for kind in ("like", "before", "after")):
            continue  # compares with a member that was not found
        found = [one for one in eligible if _fits(one, rule, picks)]
        if rule.take and len(found) > 1:
            found = _taken(found, rule.take)
        if len(found) > 1:
            raise _refusal(f"{len(found)} series fit rule {number_of_rule}", found, study, name)
        if found:
            return Pick(found[0], f"rule {number_of_rule}: {rule}")
    return None


def _nearly(alternatives: Sequence[Rule], every: Rule, series: Sequence[Series], picks: Mapping[str, Pick]) -> str:
    """The first series that would fit, were it like the one that it is compared with: a slice may be missing."""
    used = {pick.series.uid for pick in picks.values()}
    for rule in alternatives:
        if rule.like is None or any(getattr(rule, kind) not in (None, *picks) for kind in ("like", "before", "after")):
            continue
        for one in series:
            if one.uid not in used and _fits(one, every, picks) and _fits(one, replace(rule, like=None), picks):
                difference = _difference(one, picks[rule.like].series)
                return f" ({one.name} would, but for {difference} that {rule.like} has)"
    return ""


def _fits(series: Series, rule: Rule, picks: Mapping[str, Pick]) -> bool:
    if not all(_holds(series, keyword, value) for keyword, value in rule.attributes.items()):
        return False
    if any(_holds(series, keyword, value) for keyword, value in rule.excluded.items()):
        return False
    if rule.like and _difference(series, picks[rule.like].series):
        return False
    if rule.before and not _earlier(series, picks[rule.before].series):
        return False
    return not rule.after or _earlier(picks[rule.after].series, series)


def _holds(series: Series, keyword: str, expected: str | bool) -> bool:
    values = words(series.header, keyword)
    if keyword == "ContrastBolusAgent" and not values and "ContrastBolusAgentSequence" in series.header:
        values = ["".join(words(item, keyword)) or "yes" for item in series.header.ContrastBolusAgentSequence]
    if isinstance(expected, bool):
        return bool("".join(values).strip()) is expected
    return re.search(expected, "\\".join(values), re.IGNORECASE) is not None


def _difference(one: Series, other: Series) -> str:
    """What a series' grid or timing differs in from another's, as far as both headers say; empty where it does not."""
    if one.frames != other.frames:
        return f"its {one.frames} images, not {other.frames}"
    for keyword in ("Rows", "Columns", "RepetitionTime", "EchoTime", "FlipAngle"):
        here, there = number(one.header, keyword), number(other.header, keyword)
        if here is not None and there is not None and abs(here - there) > 0.01 * max(here, there):
            return f"its {keyword} of {here:g}, not {there:g}"
    for keyword in ("PixelSpacing", "ImageOrientationPatient"):
        first, second = _numbers(one, keyword), _numbers(other, keyword)
        if len(first) != len(second) or not np.allclose(first, second, atol=1e-3):
            return f"its {keyword}, not the one"
    return ""


def _numbers(series: Series, keyword: str) -> list[float]:
    try:
        return [float(word) for word in words(series.header, keyword)]
    except ValueError:
        return []


def _earlier(one: Series, other: Series) -> bool:
    return bool(one.acquired and other.acquired) and one.acquired < other.acquired


def _taken(found: list[Series], which: str) -> list[Series]:
    """The one acquired first or last; all of them where their times do not tell."""
    if not all(one.acquired for one in found):
        return found
    times = sorted(one.acquired for one in found)
    wanted = times[0] if which == "first" else times[-1]
    return [one for one in found if one.acquired == wanted]


def _refusal(message: str, series: Sequence[Series], study: str, member: str) -> StudyError:
    shown = "; ".join(str(one) for one in series[:_SHOWN])
    more = f"; and {len(series) - _SHOWN} more" if len(series) > _SHOWN else ""
    return StudyError(f"{message}: {shown}{more}" if series else message, study=study, member=member, advice=_ADVICE)
