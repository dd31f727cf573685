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
"""From a folder of studies, in the dataset layout or as DICOM, to results and derived series."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser
from tqdm import tqdm

from monai_lipcar.bundle import bundle_root, run_by_acquisition, run_studies
from monai_lipcar.data import Study, explain_failure, find_studies, list_studies
from monai_lipcar.data.formats import SUFFIXES
from monai_lipcar.data.output import refuse_input_folders
from monai_lipcar.data.studies import MEMBERS
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.handlers import add_failures
from monai_lipcar.physics.acquisition import Acquisition
from monai_lipcar.volumes import EXTRA_VOLUMES

from .importing import INPUTS, Examination, Imported, find_examinations, import_examination
from .results import write_derived_series
from .rules import load_rules
from .series import Series, scan_folder

__all__ = ["FolderRun", "SeriesChoice", "run_folder"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeriesChoice:
    """Which series are wanted.

    Args:
        rules: YAML file with rules; by default those of the package.
        uids: SeriesInstanceUID by member.
    """

    rules: Path | None = None
    uids: Mapping[str, str] = field(default_factory=dict)


class FolderRun(NamedTuple):
    """How a run over a folder ended.

    Args:
        status: exit status: 0 when every study gave a result and its derived series, otherwise 1.
        done: ids of the studies that have a result.
        dataset: dataset folder of the inputs, or their datalist, where reports find them.
    """

    status: int
    done: list[str]
    dataset: Path


def run_folder(
    bundle: str,
    folder: str | Path,
    out: str | Path,
    choice: SeriesChoice | None = None,
    derived: bool | None = None,
    also: Sequence[str] = (),
    acquisition: Mapping[str, Any] | None = None,
    dose_fraction: float | None = None,
    **options: Any,
) -> FolderRun:
    """Run a bundle over a dataset folder, or over DICOM examinations.

    DICOM examinations become volumes in ``<out>/inputs/<study_id>/`` first. They are computed with the sequence that
    their headers tell, those of one sequence together.

    Args:
        bundle: name of the bundle.
        folder: dataset folder, file of a datalist, folder of one DICOM examination, or folder of many.
        out: folder of the results.
        choice: which series are pre, low and high; only for DICOM.
        derived: write the results as DICOM series too; by default where the input is DICOM.
        also: further derived series, ``"residual"`` and ``"enhancement"``.
        acquisition: options of the bundle that say how all was acquired, instead of what headers say.
        dose_fraction: low dose over full dose; by default that of ``acquisition``, or the bundle's.
        options: further options of the bundle.

    Raises:
        LipcarError: nothing could be run at all.
    """
    if unknown := sorted({*also} - {*EXTRA_VOLUMES}):
        raise ConfigurationError(f"expected derived series among {', '.join(EXTRA_VOLUMES)}, got {', '.join(unknown)}")
    root, results = Path(folder).expanduser(), Path(out).expanduser()
    given = {**(acquisition or {}), **({} if dose_fraction is None else {"dose_fraction": dose_fraction})}
    choice = choice or SeriesChoice()
    series = [] if _is_dataset(root) else scan_folder(root)
    if not series:
        if choice.rules or choice.uids:
            raise ConfigurationError(f"rules and UIDs choose among DICOM series, and there are none in {root}")
        status, done = run_studies(bundle, root, results, **given, **options)
        failed = derived and not _derive([(one, None) for one in _done(root, done)], results, also)
        return FolderRun(int(status or bool(failed)), done, root)
    config = ConfigParser.load_config_file(str(Path(bundle_root(bundle)) / "configs" / "inference.json"))
    rules, known = load_rules(choice.rules), Acquisition.of_options({**config, **given})
    examinations = _examinations(root, series, choice.uids)
    _refuse_places(examinations, root, results)
    if (results / INPUTS).is_symlink():
        raise ConfigurationError(
            f"expected a folder, found the symbolic link {results / INPUTS}: nothing is written through links; remove "
            "it, or choose another output folder"
        )
    imported: list[Imported] = []
    failures: list[StudyError] = []
    for examination in tqdm(examinations, desc="reading DICOM", unit="study", disable=None):
        try:
            imported.append(
                import_examination(
                    examination,
                    results / INPUTS,
                    rules,
                    known,
                    uids=choice.uids,
                    required=config["dataset"]["required"],
                    from_header=not acquisition,
                )
            )
        except Exception as error:
            failures.append(_tell(Study(examination.study_id, {}), error))
    datalist = results / INPUTS / "datalist.json"
    status, done = run_by_acquisition(bundle, [one.study for one in imported], results, datalist, options)
    if derived is not False:
        pairs = [(one.study, {name: pick.series for name, pick in one.picks.items()}) for one in imported]
        derived_all = _derive([pair for pair in pairs if pair[0].study_id in done], results, also)
        status = status or int(not derived_all)
    if failures:
        add_failures(results, failures)
        named = ", ".join(str(error.study) for error in failures)
        logger.error("%d of %d studies could not be read, see above: %s", len(failures), len(examinations), named)
    return FolderRun(int(status or bool(failures)), done, results / INPUTS)


def _is_dataset(root: Path) -> bool:
    """Whether a folder has the dataset layout, or is a study of it, rather than being DICOM as it was exported."""
    members = {f"{name}{suffix}" for name in MEMBERS for suffix in ("", *SUFFIXES)}
    if not root.is_dir() or any(path.name in members for path in root.iterdir()):
        return True  # or nothing at all, which is said where the dataset is read
    try:
        return any(study.members for study in find_studies(root, required=()))
    except ConfigurationError:
        return False


def _examinations(root: Path, series: list[Series], uids: Mapping[str, str]) -> list[Examination]:
    """All examinations; where UIDs are given, the one that they are of."""
    wanted = {one.study_uid for one in series if one.uid in uids.values()}
    return find_examinations(root, [one for one in series if not wanted or one.study_uid in wanted], bool(uids))


def _refuse_places(examinations: Sequence[Examination], root: Path, results: Path) -> None:
    for examination in examinations:
        for series in examination.series:
            study = Study(examination.study_id, {"low": series.files[0]})
            refuse_input_folders(results, [study], root)
            refuse_input_folders(results / INPUTS, [study], root)


def _done(root: Path, done: Sequence[str]) -> list[Study]:
    return [study for study in list_studies(root, required=()) if study.study_id in done]


def _derive(studies: Sequence[tuple[Study, Mapping[str, Series] | None]], results: Path, also: Sequence[str]) -> bool:
    """Write derived series of finished studies; one line for each that has none, and False."""
    good = True
    for study, series in tqdm(studies, desc="derived series", unit="study", disable=None):
        try:
            if series is None:
                found = {name: scan_folder(path) for name, path in study.members.items() if path.is_dir()}
                series = {name: several[0] for name, several in found.items() if several}
            write_derived_series(study, series, results, also)
        except Exception as error:
            _tell(study, error)
            good = False
    return good


def _tell(study: Study, error: Exception) -> StudyError:
    logger.debug("study %s failed", study.study_id, exc_info=True)
    explained = explain_failure(study, error)
    logger.error("%s", explained, extra={"study": study.study_id})
    return explained
