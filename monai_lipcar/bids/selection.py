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
"""Which image of a session is what: by entities that were given, or by what its names say; and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monai_lipcar.errors import StudyError

from .dataset import Image, Session
from .sidecar import number

__all__ = ["MEMBERS", "Entities", "Pick", "dose_entities", "pick_images"]

MEMBERS = ("low", "high", "pre")
"""What an image can be picked for, in the order in which it is done."""
Entities = Mapping[str, str]
"""Key to label."""

# The label of ce- is about the agent, so a word is enough; elsewhere "low" may be a resolution, "full" a field of view.
_LOW = r"low|reduced|half|quarter|tenth|partial|(?<!\d)[1-9]\d?(pct|percent|perc)"
_FULL = r"full|high|standard|complete|100(pct|percent|perc)"
_DOSED = "({})(dose|gd|gad|gbca|contrast|agent)"
_SAYS = {
    "low": (re.compile(_LOW, re.IGNORECASE), re.compile(_DOSED.format(_LOW), re.IGNORECASE)),
    "high": (re.compile(_FULL, re.IGNORECASE), re.compile(_DOSED.format(_FULL), re.IGNORECASE)),
}
_DOSES = ("ContrastBolusTotalDose", "ContrastBolusVolume")
_SHOWN = 12
"""Images that a message names at most."""


@dataclass(frozen=True)
class Pick:
    """The image of a member.

    Args:
        image: the image.
        reason: why it was picked.
    """

    image: Image
    reason: str


def dose_entities(member: str, entities: Entities, given: Entities | None = None) -> set[str]:
    """The entities that say that an image is at a reduced dose, or at the full one.

    Args:
        member: ``"low"`` or ``"high"``.
        entities: of the image.
        given: those that were given for the member; what they say is about the dose.

    Example:
        >>> dose_entities("low", {"sub": "01", "acq": "lowres", "ce": "gd25pct"})
        {'ce'}
        >>> dose_entities("low", {"acq": "lowdose", "ce": "gadobutrol"})
        {'acq'}
    """
    of_agent, elsewhere = _SAYS[member]
    about_doses = {"ce", *(given or {})}
    return {
        key
        for key, label in entities.items()
        if (key in about_doses and of_agent.search(label)) or (key in ("acq", "rec") and elsewhere.search(label))
    }


def pick_images(
    session: Session, given: Mapping[str, Entities] | None = None, required: Sequence[str] = ("pre", "low")
) -> tuple[dict[str, Pick], list[str]]:
    """Pick the images of a session.

    A member whose entities are given is the image that has these and no others, or else the one that has others too;
    a ``pre`` without ``ce`` in them must have been acquired without agent. Otherwise ``low`` is the image with agent
    whose name says a reduced dose, or the one of two whose sidecar gives the smaller dose; ``high`` the one that says a
    full dose, or the other one with agent; ``pre`` the one without agent. Of several, it is the one whose other
    entities are those of the image that was picked first.

    Args:
        session: the candidates.
        given: entities by member.
        required: members that have to be found. Others are left out where several images fit, with a note.

    Returns:
        The picks, and the notes.

    Raises:
        StudyError: no image, or more than one, for a required member. The message names the candidates.
    """
    given = given or {}
    picks: dict[str, Pick] = {}
    notes: list[str] = []
    meant = {member: _by_entities(member, session.images, entities) for member, entities in given.items()}
    for member in MEMBERS:
        taken = [pick.image for pick in picks.values()]
        taken += [fitting[0] for other, fitting in meant.items() if other != member and len(fitting) == 1]
        free = [image for image in session.images if all(image is not other for other in taken)]
        entities = given.get(member)
        if entities is None:
            fitting, reason = _by_names(member, free)
        else:
            fitting, reason = _by_entities(member, free, entities), "its entities were given"
        if len(fitting) > 1 and (like := _like(fitting, picks, given)):
            fitting, reason = [like], f"{reason}, and its other entities are those of {next(iter(picks))}"
        if len(fitting) == 1:
            picks[member] = Pick(fitting[0], reason)
        elif member in required:
            raise _refusal(session, member, fitting, entities)
        elif fitting:
            notes.append(f"{member} was left out: several images fit, {_named(fitting)}; {_advice(member, fitting)}")
    return picks, notes


def _by_entities(member: str, images: Sequence[Image], entities: Entities) -> list[Image]:
    fitting = [image for image in images if entities.items() <= image.name.entities.items()]
    if member == "pre" and "ce" not in entities:
        fitting = [image for image in fitting if not image.with_agent]
    return [image for image in fitting if _own(image) == entities] or fitting


def _by_names(member: str, free: Sequence[Image]) -> tuple[list[Image], str]:
    if member == "pre":
        return [image for image in free if not image.with_agent], "it was acquired without agent"
    dosed = [image for image in free if image.with_agent]
    if told := [image for image in dosed if dose_entities(member, image.name.entities)]:
        return told, f"its name says a {'reduced' if member == 'low' else 'full'} dose"
    if member == "high":
        others = [image for image in dosed if not dose_entities("low", image.name.entities)]
        return others, "it is the other one with agent"
    for key in _DOSES:
        doses = {number(image.sidecar, key) or 0.0: image for image in dosed}
        if len(dosed) == len(doses) == 2 and min(doses) > 0:
            return [doses[min(doses)]], f"its {key} is the smaller one"
    return [], ""


def _own(image: Image) -> dict[str, str]:
    """Its entities without those of the session."""
    return {key: label for key, label in image.name.entities.items() if key not in ("sub", "ses")}


def _like(fitting: Sequence[Image], picks: Mapping[str, Pick], given: Mapping[str, Entities]) -> Image | None:
    """The only one that differs from what was picked in nothing but what tells members apart."""
    if not picks:
        return None
    telling = {"ce", "desc", *(key for entities in given.values() for key in entities)}

    def rest(image: Image) -> dict[str, str]:
        entities = _own(image)
        left_out = telling | dose_entities("low", entities) | dose_entities("high", entities)
        return {key: label for key, label in entities.items() if key not in left_out}

    reference = rest(next(iter(picks.values())).image)
    alike = [image for image in fitting if rest(image) == reference]
    return alike[0] if len(alike) == 1 else None


def _refusal(session: Session, member: str, fitting: Sequence[Image], entities: Entities | None) -> StudyError:
    if fitting:
        message = f"expected one image, {len(fitting)} fit: {_named(fitting)}"
    else:
        wanted = {"low": "says that its dose is reduced", "high": "says that its dose is the full one"}
        what = wanted.get(member, "was acquired without agent")
        if entities is not None:
            what = "has the entities " + "_".join(f"{key}-{label}" for key, label in entities.items())
        message = f"no image {what}; there is {_named(session.images)}"
    candidates = fitting or session.images
    return StudyError(message, study=session.study_id, member=member, advice=_advice(member, candidates))


def _named(images: Sequence[Image]) -> str:
    more = f", and {len(images) - _SHOWN} more" if len(images) > _SHOWN else ""
    return ", ".join(map(str, images[:_SHOWN])) + more


def _advice(member: str, candidates: Sequence[Image]) -> str:
    examples = ["_".join(f"{key}-{label}" for key, label in _own(image).items()) for image in candidates]
    example = next((text for text in reversed(examples) if text), f"ce-{member}")
    return f"say which with --{member}-entities, such as --{member}-entities {example}"
