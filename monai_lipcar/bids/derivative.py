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
"""A finished result as images of a BIDS derivative."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_lipcar.data import Study
from monai_lipcar.data.atomic import replacing, write_json
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.data.output import StudyOutput, refuse_links, write_volume
from monai_lipcar.errors import StudyError
from monai_lipcar.volumes import result_volumes

from .acquisition import DOSE_FRACTION
from .dataset import Session
from .description import NOTICE, RESULTS, SOURCE
from .names import BidsName
from .selection import Entities, Pick, dose_entities
from .sidecar import read_json

__all__ = ["KINDS", "derivative_name", "write_derivative"]

logger = logging.getLogger(__name__)

KINDS = {
    "high_sim": ("simulated", "Simulated image at the full dose of contrast agent"),
    "low_sim": ("simulated", "Simulated image at the reduced dose of contrast agent"),
    "residual": ("residual", "What the simulated full dose does not explain of the acquired low dose"),
    "enhancement": ("enhancement", "Simulated enhancement: the simulated full dose minus the image before contrast"),
}
"""The volumes that become images: their label of ``desc-``, and their description."""
_KEPT = (
    *("Modality", "BodyPart", "BodyPartDetails", "MagneticFieldStrength", "Manufacturer", "ManufacturersModelName"),
    *("PulseSequenceType", "ScanningSequence", "SequenceVariant", "ScanOptions", "SequenceName", "MRAcquisitionType"),
    *("SpoilingState", "SpoilingType", "RepetitionTime", "RepetitionTimeExcitation", "RepetitionTimePreparation"),
    *("EchoTime", "InversionTime", "FlipAngle"),
    *("SpatialReference", "Resolution"),
)
"""What an image has in common with the one that it is on the grid of. A list of what is kept, not of what is left out:
other keys may say who was examined, when and where."""


def derivative_name(kind: str, picks: Mapping[str, Pick], given: Mapping[str, Entities] | None = None) -> BidsName:
    """Name of an image: that of an image acquired at the dose that it shows, with ``desc-``.

    The residual is about the low dose as it was acquired, and has its entities. A simulated dose is named like the
    image it was computed from, but for the entities that tell the dose: these are those that were given for images of
    the other dose, or say ``full`` (``low``).

    Args:
        kind: ``"high_sim"``, ``"low_sim"``, ``"residual"`` or ``"enhancement"``.
        picks: the images of the session.
        given: entities by member, as they were given.

    Example:
        >>> from monai_lipcar.bids.dataset import Image
        >>> name = BidsName.parse("sub-01_ce-low_run-1_T1w.nii")
        >>> str(derivative_name("high_sim", {"low": Pick(Image(Path("low.nii"), name, {}), "")}))
        'sub-01_ce-full_run-1_desc-simulated_T1w.nii.gz'
    """
    given = given or {}
    member, other = ("high", "low") if kind == "low_sim" else ("low", "high")
    acquired = picks[member].image.name
    name = acquired
    if kind != "residual":
        own = given.get(member, {})
        telling = dose_entities(member, acquired.entities, own) or {"ce"} & {*acquired.entities} or {*own} or {"ce"}
        if other in given:
            name = name.with_entities(given[other], without=(*telling, *own))
        else:
            name = name.with_entities(dict.fromkeys(telling, "low" if other == "low" else "full"))
    name = name.with_entities({"desc": KINDS[kind][0]})
    return BidsName(name.entities, name.suffix, ".nii.gz")


def write_derivative(
    study: Study,
    session: Session,
    picks: Mapping[str, Pick],
    out: Path,
    given: Mapping[str, Entities] | None = None,
    also: Sequence[str] = (),
) -> list[Path]:
    """Write a finished result as ``<out>/sub-<label>/[ses-<label>/]anat/*_desc-<label>_T1w.{nii.gz,json}``.

    An image appears whole or not at all, its sidecar after it. Images that were made of the same result already stay;
    those of another one, or that are not asked for any more, are removed.

    Args:
        study: the inputs.
        session: where they come from.
        picks: the image of each member.
        out: folder of the derivative, with the result in ``sourcedata/monai_lipcar/<study_id>/``.
        given: entities by member, as they were given.
        also: further images, ``"residual"`` and ``"enhancement"``.

    Returns:
        The images.

    Raises:
        StudyError: there is no result, or the images cannot be written.
    """
    output = StudyOutput(out.joinpath(*RESULTS), study.study_id)
    record = output.read()
    if record is None:
        raise StudyError(f"no finished result in {output.folder}", study=study.study_id, advice="run it first")
    folder = out.joinpath(*session.folders, "anat")
    refuse_links(out, folder, study.study_id)
    digest = hashlib.sha256(output.result_file.read_bytes()).hexdigest()
    forward = (output.folder / "low_sim.nii.gz").is_file()
    wanted = ["low_sim"] if forward else ["high_sim", *also]
    places = {kind: folder / str(derivative_name(kind, picks, given)) for kind in wanted}
    sidecars = {kind: _sidecar(kind, session, picks, record, digest) for kind in wanted}
    missing = [
        kind for kind, place in places.items() if not place.is_file() or read_json(_json(place)) != sidecars[kind]
    ]
    with explain_write_failure("the BIDS derivative cannot be written", study.study_id):
        volumes = result_volumes(study, record, output.folder, also) if missing else {}
        _remove_others(folder, [places[kind] for kind in volumes or places])
        folder.mkdir(parents=True, exist_ok=True)
        for kind, volume in volumes.items():
            if kind not in missing:
                continue
            place = places[kind]
            with replacing(place) as partial:
                write_volume(volume, partial)
                _json(place).unlink(missing_ok=True)  # until both are there again
            write_json(_json(place), sidecars[kind])
            logger.info("study %s: %s", study.study_id, place)
    return [place for place in places.values() if place.is_file()]


def _json(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")


def _remove_others(folder: Path, kept: Sequence[Path]) -> None:
    labels = {label for label, _ in KINDS.values()}
    for path in folder.glob("*_desc-*.nii.gz"):
        name = BidsName.parse(path.name)
        if path not in kept and name is not None and name.entities.get("desc") in labels:
            _json(path).unlink(missing_ok=True)
            path.unlink()


def _sidecar(
    kind: str, session: Session, picks: Mapping[str, Pick], record: Mapping[str, Any], digest: str
) -> dict[str, Any]:
    """Sidecar of an image: BIDS's keys, what holds for the image it is made of too, and how it was made."""
    used = [name for name in (("pre", "high") if kind == "low_sim" else ("pre", "low")) if name in record["inputs"]]
    reference = picks[used[0] if kind == "low_sim" else "low"].image.sidecar
    place = "/".join((*session.folders, "anat"))
    version = record["bundle"].get("version")
    content: dict[str, Any] = {
        "Description": f"{KINDS[kind][1]}, computed by {record['bundle']['name']}{f' {version}' if version else ''} of "
        f"monai_lipcar {record['versions']['monai_lipcar']}. {NOTICE}",
        "Sources": [f"bids:{SOURCE}:{place}/{picks[name].image.path.name}" for name in used],
        # of a raw image it is not told: it is as the scanner made it
        "SkullStripped": reference.get("SkullStripped") is True,
        **{key: reference[key] for key in _KEPT if key in reference},
    }
    if "ContrastBolusIngredient" in picks[used[-1]].image.sidecar:
        content["ContrastBolusIngredient"] = picks[used[-1]].image.sidecar["ContrastBolusIngredient"]
    configuration = record["configuration"]
    simulation = {
        "Notice": NOTICE,
        "Bundle": record["bundle"]["name"],
        "BundleVersion": version,
        DOSE_FRACTION: configuration.get("dose_fraction"),
        "Alpha": record.get("alpha"),
        "Solver": (record.get("solver") or {}).get("name"),
        "Status": record.get("status"),
        "Iterations": record.get("iterations"),
        "Discrepancy": record.get("discrepancy"),
        "NoiseLevel": record.get("sigma"),
        "Verdict": (record.get("verdict") or {}).get("level"),
        "Warnings": record.get("warnings"),
        "OperatorWeightsSHA256": record.get("operator_weights_sha256"),
        "SourcesSHA256": [record["inputs"][name]["sha256"] for name in used],
        "Result": f"bids::{'/'.join(RESULTS)}/{session.study_id}/result.json",
        "ResultSHA256": digest,
    }
    return {**content, "Simulation": {key: value for key, value in simulation.items() if value is not None}}
