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
"""From a BIDS dataset to results and a BIDS derivative."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from tqdm import tqdm

from monai_lipcar.bundle import bundle_root, run_by_acquisition
from monai_lipcar.data import Study, explain_failure
from monai_lipcar.data.output import refuse_input_folders
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.handlers import add_failures
from monai_lipcar.physics.acquisition import Acquisition
from monai_lipcar.volumes import EXTRA_VOLUMES

from .acquisition import acquisition_of
from .dataset import Session, find_sessions
from .derivative import write_derivative
from .description import RESULTS, describe_dataset, refuse_other_dataset
from .selection import MEMBERS, Entities, Pick, pick_images

__all__ = ["BidsRun", "run_bids"]

logger = logging.getLogger(__name__)


class BidsRun(NamedTuple):
    """How a run over a BIDS dataset ended.

    Args:
        status: exit status: 0 when every session gave a result and its images, otherwise 1.
        done: ids of the studies that have a result.
        studies: the inputs of all studies that could be read.
        results: folder of the results.
    """

    status: int
    done: list[str]
    studies: list[Study]
    results: Path


def run_bids(
    bundle: str,
    dataset: str | Path,
    out: str | Path,
    entities: Mapping[str, Entities] | None = None,
    also: Sequence[str] = (),
    acquisition: Mapping[str, Any] | None = None,
    dose_fraction: float | None = None,
    **options: Any,
) -> BidsRun:
    """Run a bundle over the sessions of a BIDS dataset, and write the results as a BIDS derivative.

    Each session with T1-weighted images is a study. It is computed with the sequence and dose fraction that the sidecar
    of its low dose tells; where that contradicts what is given for the run, the study fails.

    Args:
        bundle: name of the bundle.
        dataset: BIDS dataset, raw or derivative; never changed.
        out: folder of the derivative.
        entities: by member, which image it is; see :func:`~monai_lipcar.bids.selection.pick_images`.
        also: further images, ``"residual"`` and ``"enhancement"``.
        acquisition: options of the bundle that say how all was acquired.
        dose_fraction: low dose over full dose; by default that of ``acquisition``, or the bundle's.
        options: further options of the bundle.

    Raises:
        LipcarError: nothing could be run at all.
    """
    if unknown := sorted({*also} - {*EXTRA_VOLUMES}):
        raise ConfigurationError(f"expected further images among {', '.join(EXTRA_VOLUMES)}, got {', '.join(unknown)}")
    if unknown := sorted({*(entities or {})} - {*MEMBERS}):
        raise ConfigurationError(f"expected entities of {', '.join(MEMBERS)}, got {', '.join(unknown)}")
    root, place = Path(dataset).expanduser(), Path(out).expanduser()
    results = place.joinpath(*RESULTS)
    given = {**(acquisition or {}), **({} if dose_fraction is None else {"dose_fraction": dose_fraction})}
    config = ConfigParser.load_config_file(str(Path(bundle_root(bundle)) / "configs" / "inference.json"))
    default, required = Acquisition.of_options({**config, **given}), config["dataset"]["required"]
    sessions = find_sessions(root)
    for folder in (place, results):
        refuse_input_folders(folder, [Study(one.study_id, {"low": one.images[0].path}) for one in sessions], root)
    refuse_other_dataset(place)
    studies: dict[str, Study] = {}
    picks: dict[str, dict[str, Pick]] = {}
    failures: list[StudyError] = []
    for session in sessions:
        try:
            picks[session.study_id] = _picked(session, entities, required)
            studies[session.study_id] = _study(session, picks[session.study_id], default, bool(acquisition))
        except StudyError as error:
            logger.error("%s", error, extra={"study": session.study_id})
            failures.append(error)
    datalist = results / ".datalist.json"  # where all machines that share the studies find it
    try:
        status, done = run_by_acquisition(bundle, [*studies.values()], results, datalist, {**given, **options})
    finally:
        with suppress(OSError):  # not there
            datalist.unlink()  # it names places of this machine
    if failures:
        add_failures(results, failures)
        named = ", ".join(str(error.study) for error in failures)
        logger.error("%d of %d studies could not be read, see above: %s", len(failures), len(sessions), named)
    finished = [session for session in sessions if session.study_id in done]
    written = _write(finished, studies, picks, root, place, entities, also)
    return BidsRun(int(bool(status or failures or not written)), done, [*studies.values()], results)


def _picked(session: Session, entities: Mapping[str, Entities] | None, required: Sequence[str]) -> dict[str, Pick]:
    picks, notes = pick_images(session, entities, required)
    for member, pick in picks.items():
        logger.info("study %s: %s is %s (%s)", session.study_id, member, pick.image, pick.reason)
        if not pick.image.path.exists():  # a link of git-annex whose content was not fetched
            raise StudyError(
                f"{pick.image} is a link to a file that is not there",
                study=session.study_id,
                member=member,
                advice="fetch it first, with datalad get or git annex get",
            )
    for note in notes:
        logger.warning("study %s: %s", session.study_id, note)
    return picks


def _study(session: Session, picks: Mapping[str, Pick], default: Acquisition, given: bool) -> Study:
    acquisition, doubts = acquisition_of(session.study_id, picks, default, given)
    members = {member: pick.image.path for member, pick in picks.items()}
    if len(session.lesions) == 1:
        members["lesion"] = session.lesions[0]
    elif session.lesions:
        names = ", ".join(path.name for path in session.lesions)
        doubts = [*doubts, f"lesion was left out: there are {len(session.lesions)} masks, {names}"]
    for doubt in doubts:
        logger.warning("study %s: %s", session.study_id, doubt)
    return Study(session.study_id, members, acquisition=acquisition)


def _write(
    sessions: Sequence[Session],
    studies: Mapping[str, Study],
    picks: Mapping[str, Mapping[str, Pick]],
    root: Path,
    out: Path,
    entities: Mapping[str, Entities] | None,
    also: Sequence[str],
) -> bool:
    """Write the images of finished studies; one line for each that has none, and False."""
    if not sessions:
        return False
    good = True
    try:
        describe_dataset(out, root)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written to ({error.strerror}); choose another folder") from error
    for session in tqdm(sessions, desc="BIDS derivative", unit="study", disable=None):
        study = studies[session.study_id]
        try:
            write_derivative(study, session, picks[session.study_id], out, entities, also)
        except Exception as error:
            logger.debug("study %s failed", session.study_id, exc_info=True)
            logger.error("%s", explain_failure(study, error), extra={"study": study.study_id})
            good = False
    return good
