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
"""Why a study could not be processed, in one line that names the study and the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from monai.transforms import LoadImage

from monai_lipcar.data.formats import find_fault
from monai_lipcar.data.studies import MEMBERS, Study, member_label, missing_member
from monai_lipcar.errors import LipcarError, StudyError

__all__ = ["explain_failure", "explain_write_failure", "without_paths"]


def explain_failure(study: Study, error: BaseException) -> StudyError:
    """Turn what a chain of transforms raised on a study into an error that a user can act on.

    MONAI wraps a transform's exception, and a reader's exception rarely names its file. So the members are loaded
    once more, one by one, to find the file at fault.

    Args:
        study: the study that was processed.
        error: the exception caught.

    Returns:
        An error to raise, to log or to list, caused by ``error``.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    explained = (
        _own_error(study, chain)
        or _missing_key(study, chain)
        or _unreadable_member(study)
        or StudyError(f"the study cannot be processed: {_one_line(chain[-1])}", study=study.study_id)
    )
    explained.__cause__ = error
    return explained


def _own_error(study: Study, chain: Sequence[BaseException]) -> StudyError | None:
    for error in chain:
        if isinstance(error, StudyError):
            own_id = error.study or study.study_id
            return StudyError(error.reason, study=own_id, member=error.member, advice=error.advice)
        if isinstance(error, LipcarError):
            return StudyError(str(error), study=study.study_id)
    return None


def _missing_key(study: Study, chain: Sequence[BaseException]) -> StudyError | None:
    """A transform asked for a member that the study does not have: a KeyError that is, or quotes, its name."""
    asked = " ".join(str(error) for error in chain if isinstance(error, KeyError))
    for name in MEMBERS:
        if name not in study.members and (f"'{name}'" in asked or f"`{name}`" in asked):
            return missing_member(study.study_id, name, study.members)
    return None


def _unreadable_member(study: Study) -> StudyError | None:
    load = LoadImage(image_only=True)
    for name, path in study.members.items():
        try:
            # first what would make the reader wait, or allocate what a header promises
            if fault := find_fault(path):
                return StudyError(fault, study=study.study_id, member=member_label(name, path))
            load(path)
        except Exception as error:
            return StudyError(
                f"the file cannot be read: {_one_line(error)}",
                study=study.study_id,
                member=member_label(name, path),
                advice="check that it is complete, or export it again",
            )
    return None


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


@contextmanager
def explain_write_failure(what: str, study: str, advice: str = "free space, then run again") -> Iterator[None]:
    """Within, an error of the file system becomes one that says what could not be done.

    Args:
        what: the beginning of the sentence, such as ``"the volumes cannot be written"``.
        study: id of the study.
        advice: what to do.

    Raises:
        StudyError: from within an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise StudyError(f"{what} ({error.strerror or error})", study=study, advice=advice) from error


def without_paths(text: str, paths: Iterable[Path]) -> str:
    """The text with each of the paths, however it is written, replaced by its last part.

    Example:
        >>> without_paths("/data/jane/out/sub-01 holds another result", [Path("/data/jane/out")])
        'out/sub-01 holds another result'
    """
    written = {str(form): path.name for path in paths for form in (path, path.absolute(), path.resolve())}
    for form in sorted(written, key=len, reverse=True):  # a file before its folder
        if written[form] and form != written[form]:
            text = text.replace(form, written[form])
    return text
