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
    made_of_names = _made_of_names(header)
    return text if made_of_names is None else _WORD.sub(lambda word: _hidden(word[0], made_of_names), text)


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


def _made_of_names(header: Dataset) -> re.Pattern[str] | None:
    """Words, spelled plainly, that are put together of the parts of a name, its initials, and digits."""
    parts = {part for value in _values(header, _NAMES) for part in _spelled(value)}
    whole = [re.escape(part) for part in sorted(parts, key=len, reverse=True) if len(part) > 1 or not part.isascii()]
    if not whole:
        return None
    pieces = [*whole, *sorted({re.escape(part[0]) for part in parts}), r"\d"]
    return re.compile(rf"(?:{'|'.join(pieces)})*(?:{'|'.join(whole)})(?:{'|'.join(pieces)})*")


def _hidden(word: str, made_of_names: re.Pattern[str]) -> str:
    return "***" if made_of_names.fullmatch(_plain(word)) else word


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
