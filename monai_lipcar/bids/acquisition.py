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
"""How a session was acquired, from the sidecars of its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_lipcar.data.sequence import sequence_told
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.physics.acquisition import Acquisition

from .selection import Pick
from .sidecar import number, words

__all__ = ["DOSE_FRACTION", "acquisition_of", "sequence_of"]

DOSE_FRACTION = "DoseFraction"
"""Key of this package in the sidecar of a low dose: low dose over full dose. BIDS has none."""
_MS = 1000.0
_LONGEST_TR_MS, _LONGEST_TE_MS = 20e3, 1e3
"""No T1-weighted image has longer times; a sidecar that says so has milliseconds where BIDS has seconds."""
_GRADIENT_ECHO_TR_MS = 100.0


def sequence_of(sidecar: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[Acquisition | None, str]:
    """Read repetition time, echo time and flip angle, where the sidecar tells the sequence without doubt.

    Times are in seconds there; RepetitionTimeExcitation goes before RepetitionTime, which for other images is the time
    from volume to volume. A sidecar without ScanningSequence, as it is written by hand, tells enough of a T1-weighted
    image where its flip angle is 90 degrees (a spin echo, or what has the same signal) or where it is smaller and the
    repetition time no longer than 100 ms (a spoiled gradient echo), unless there is an inversion.

    Args:
        sidecar: of an image.
        known: what sidecars do not tell: ``dose_fraction``, ``r1``, ``r2``.

    Returns:
        The acquisition, or None, and what was read or why nothing could be, in words.

    Example:
        >>> sequence_of({"RepetitionTime": 0.008, "EchoTime": 0.003, "FlipAngle": 15}, {"dose_fraction": 0.2})[1]
        'spoiled gradient echo, TR 8 ms, TE 3 ms, flip angle 15 degrees'
    """
    sequence, variant = words(sidecar, "ScanningSequence"), words(sidecar, "SequenceVariant")
    repetition = number(sidecar, "RepetitionTimeExcitation") or number(sidecar, "RepetitionTime")
    echo, flip = number(sidecar, "EchoTime"), number(sidecar, "FlipAngle")
    if (repetition or 0.0) * _MS > _LONGEST_TR_MS or (echo or 0.0) * _MS > _LONGEST_TE_MS:
        return None, f"the sidecar is impossible: TR {repetition or 0:g} s, TE {echo or 0:g} s"
    tr = None if repetition is None else float(f"{repetition * _MS:.6g}")
    te = None if echo is None else float(f"{echo * _MS:.6g}")
    if "InversionTime" in sidecar and "IR" not in sequence:
        sequence = [*sequence, "IR"]
    if sidecar.get("SpoilingState") is True:
        variant = [*variant, "SP"]
    if not sequence and flip is not None and tr is not None:
        if abs(flip - 90) < 1:
            sequence = ["SE"]
        elif flip < 90 and tr <= _GRADIENT_ECHO_TR_MS and sidecar.get("SpoilingState", True):
            sequence, variant = ["GR"], ["SP"]
    return sequence_told(sequence, variant, tr, te, flip, known, "sidecar")


def acquisition_of(
    study_id: str, picks: Mapping[str, Pick], default: Acquisition, given: bool = False
) -> tuple[Acquisition, list[str]]:
    """The acquisition that the sidecars of a session tell.

    Args:
        study_id: whose they are, for messages.
        picks: its images.
        default: what holds where they do not tell.
        given: the default was given for this run, so there is nothing to doubt about it.

    Returns:
        The acquisition, and what is doubtful about it, in words.

    Raises:
        StudyError: a dose fraction that is impossible.
    """
    reference = next(name for name in ("low", "pre", "high") if name in picks)
    known: dict[str, Any] = {"dose_fraction": default.dose_fraction, "r1": default.r1, "r2": default.r2}
    if "low" in picks and DOSE_FRACTION in picks["low"].image.sidecar:
        try:
            known["dose_fraction"] = Acquisition(picks["low"].image.sidecar[DOSE_FRACTION]).dose_fraction
        except ConfigurationError as error:
            raise StudyError(
                f"{DOSE_FRACTION} of its sidecar is impossible: {error}",
                study=study_id,
                member="low",
                advice="correct or remove it",
            ) from error
    found = {name: sequence_of(pick.image.sidecar, known) for name, pick in picks.items()}
    acquisition, told = found[reference]
    if acquisition is not None:
        doubts = [
            f"{reference} and {name} were acquired differently ({told}; {other_told}): "
            "they differ in more than contrast"
            for name, (other, other_told) in found.items()
            if other is not None and acquisition.differences(other)
        ]
        return acquisition, doubts
    options = {**default.options(), "dose_fraction": known["dose_fraction"]}
    computed = ", ".join(f"{name} {value:g}" for name, value in options.items() if value is not None)
    doubts = [] if given else [f"{told}; it is computed as {computed}; say it with --acquisition FILE"]
    return Acquisition.of_options(options), doubts
