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
"""Patients' names and numbers, which messages and file names must not have in them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from .header import words

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["tells_identity", "without_identity"]

_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName")
_NUMBERS = ("PatientID", "OtherPatientIDs")
_LONG = 3
"""Letters from which on a part of a name is told from other words wherever it stands."""
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"})
_ONE_LETTER = str.maketrans({"ø": "o", "æ": "a", "ł": "l", "đ": "d"})
_WORD = re.compile(r"[^\W_]+")


def without_identity(text: str, header: Dataset) -> str:
    """Text for messages and file names: the patient's names and numbers are taken out.

    So are words that are put together of names and initials (``DOEJANE``, ``doej``), whatever their accents, and short
    names where they are words of their own.

    Args:
        text: any text.
        header: where the patient's names and numbers are.

    Example:
        >>> patient = {"PatientName": "Doe^Jane", "PatientID": "4711"}
        >>> without_identity("T1 of Doe", patient), without_identity("DOEJANE_4711 doeskin", patient)
        ('T1 of ***', '***_*** doeskin')
    """
    known = [*_values(header, _NAMES), *_values(header, _NUMBERS)]
    parts = {part for value in known for part in (value, *re.split(r"[\^=\s,_]+", value)) if len(part) >= _LONG}
    for part in sorted(parts, key=len, reverse=True):
        text = re.sub(rf"(?<![^\W_]){re.escape(part)}(?![^\W_])", "***", text, flags=re.IGNORECASE)
    names = {part for value in _values(header, _NAMES) for part in _spelled(value)}
    return _WORD.sub(lambda word: "***" if _is_made_of(_plain(word[0]), names) else word[0], text) if names else text


def tells_identity(text: str, header: Dataset) -> bool:
    """Whether a text could tell the patient: stricter than :func:`without_identity`, for names of studies.

    A part of a name of at least three letters, or of a number of at least three digits, inside another word counts too.

    Args:
        text: the name of a folder.
        header: where the patient's names and numbers are.

    Example:
        >>> patient = {"PatientName": "Doe^Jane", "PatientID": "HOSP-4711"}
        >>> tells_identity("20260105-mrdoe", patient), tells_identity("exam4711", patient), tells_identity("x", patient)
        (True, True, False)
    """
    if without_identity(text, header) != text:
        return True
    parts = {part for value in _values(header, _NAMES) for part in _spelled(value)}
    parts |= {part for value in _values(header, _NUMBERS) for part in re.findall(r"\d+", value)}
    plain = "".join(_WORD.findall(_plain(text)))
    return any(len(part) >= _LONG and part in plain for part in parts)


def _values(header: Dataset, keywords: tuple[str, ...]) -> list[str]:
    return [value for keyword in keywords for value in words(header, keyword)]


def _is_made_of(word: str, names: set[str]) -> bool:
    """Whether a word is put together of names, at least one of more than a letter, initials and digits."""
    whole = {name for name in names if len(name) > 1 or not name.isascii()}
    pieces = whole | {name[0] for name in names} | set("0123456789")
    reached: set[tuple[int, bool]] = set()  # places in the word, and whether a whole name lies before
    todo = [(0, False)]
    while todo:  # no regular expression: it could take forever
        place, named = todo.pop()
        if (place, named) in reached:
            continue
        if place == len(word) and named:
            return True
        reached.add((place, named))
        todo += [(place + len(part), named or part in whole) for part in pieces if word.startswith(part, place)]
    return False


def _spelled(name: str) -> set[str]:
    """The parts of a name, as they may be spelled without accents."""
    lower = unicodedata.normalize("NFC", name).casefold()
    return {part for text in (_plain(name), _plain(lower.translate(_TWO_LETTERS))) for part in _letters(text)}


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)


def _plain(text: str) -> str:
    """Lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).casefold().translate(_ONE_LETTER))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
