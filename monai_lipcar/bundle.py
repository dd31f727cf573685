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
"""What the bundles' configs call: where a bundle lives, its weights, its studies, and how errors reach the user."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from monai_lipcar.bundle_folder import (
    adaptive_prior,
    alpha_rule,
    bundle_root,
    bundle_version,
    checksum,
    domain_ranges,
    find_weights,
    load_operator,
    weights_sha256,
)
from monai_lipcar.data import (
    SECTIONS,
    Study,
    find_studies,
    list_studies,
    load_datalist,
    split_studies,
    write_datalist,
)
from monai_lipcar.errors import ConfigurationError, LipcarError, StudyError
from monai_lipcar.log import quiet_readers
from monai_lipcar.options import check_options, is_true, keep_paths_as_text, options_of_this_run
from monai_lipcar.physics.acquisition import Acquisition
from monai_lipcar.problem import AdamSolver, ProximalSolver

__all__ = [
    "BundleRun",
    "adaptive_prior",
    "alpha_rule",
    "bundle_root",
    "bundle_version",
    "checksum",
    "domain_ranges",
    "find_weights",
    "is_true",
    "load_operator",
    "make_solver",
    "nested_options",
    "prepare",
    "prepare_again",
    "reported",
    "run_bundle",
    "run_by_acquisition",
    "run_studies",
    "run_workflow",
    "select_studies",
    "training_split",
    "training_studies",
    "weights_sha256",
]

logger = logging.getLogger(__name__)


def select_studies(
    dataset_dir: str | Path,
    datalist_file: str | Path | None = None,
    section: str = "test",
    required: Sequence[str] = ("pre", "low"),
) -> list[Study]:
    """Studies of a dataset folder, or those of one section of a datalist where one is given, in place of it too."""
    if datalist_file:
        return load_datalist(datalist_file, section, required=required)
    return list_studies(dataset_dir, required, section)


def training_split(
    dataset_dir: str | Path,
    datalist_file: str | Path | None,
    seed: int = 0,
    required: Sequence[str] = ("pre", "low", "high"),
) -> dict[str, list[Study]]:
    """Studies to train on, to validate on and to test with: as a datalist says, or split at random by subject.

    A datalist needs no ``"test"``. Of too few subjects none are held back, and sections stay empty.
    """
    if not datalist_file:
        return split_studies(find_studies(dataset_dir, required), seed=seed)
    split = {section: load_datalist(datalist_file, section, required=required) for section in SECTIONS[:2]}
    try:
        split[SECTIONS[2]] = load_datalist(datalist_file, SECTIONS[2], required=required)
    except ConfigurationError:  # what is wrong with the file itself was said above
        split[SECTIONS[2]] = []
    return split


def training_studies(
    split: Mapping[str, Sequence[Study]], section: str, dose_fraction: float | None = None
) -> list[Study]:
    """Studies of one section of a split; with ``dose_fraction`` those that do not say that they have another one.

    With too few subjects to hold any back, all studies are validated on, those of the training too, with a warning:
    enough to try things out, not to judge them.
    """

    def fits(study: Study) -> bool:
        known = study.acquisition
        return not dose_fraction or not known or math.isclose(known.dose_fraction, dose_fraction, rel_tol=0.01)

    if chosen := [study for study in split[section] if fits(study)]:
        return chosen
    studies = [study for studies in split.values() for study in studies if fits(study)]
    logger.warning(
        "%d studies are too few to split; %s uses all of them, so its numbers say nothing about new studies",
        len(studies),
        section,
    )
    return studies


def nested_options() -> dict[str, Any]:
    """Options of this run that reach into a component, such as ``--train::trainer::max_epochs 3``."""
    this_run = options_of_this_run()
    given = this_run[0] if this_run is not None else {}
    return {name: value for name, value in given.items() if "::" in name or "#" in name}


def make_solver(name: str, max_iterations: int | None = None) -> AdamSolver | ProximalSolver:
    """Solver by its name on the command line.

    Args:
        name: ``"proximal"``, or ``"paper"`` for the published one.
        max_iterations: cap on the iterations; by default the solver's.

    Raises:
        ConfigurationError: a name or a number of iterations that cannot be used.
    """
    solvers: dict[str, type[AdamSolver | ProximalSolver]] = {"proximal": ProximalSolver, "paper": AdamSolver}
    if name not in solvers:
        raise ConfigurationError(f"solver: expected 'proximal' or 'paper', got {name!r}")
    if max_iterations is None:
        return solvers[name]()
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise ConfigurationError(f"max_iterations: expected a whole number of at least 1, got {max_iterations!r}")
    return solvers[name](max_iterations=max_iterations)


def prepare() -> None:
    """First step of every run: look at its options, and let errors end ``python -m monai.bundle`` in one line.

    Programs of others that use the bundle see the exceptions as they are.

    Raises:
        ConfigurationError: an option that does not exist, or a value that cannot be meant.
    """
    if Path(sys.argv[0]).parts[-2:] == ("bundle", "__main__.py"):
        sys.excepthook = _report_error
    quiet_readers()
    this_run = options_of_this_run()
    if this_run is not None:
        check_options(*this_run)
        keep_paths_as_text(this_run[0])


class BundleRun(NamedTuple):
    """How the run of a bundle ended.

    Args:
        status: exit status: 0 when every study gave a result, otherwise 1.
        done: ids of the studies that have a result of this run's configuration, computed now or finished before.
    """

    status: int
    done: list[str]


def run_bundle(
    name: str, dataset_dir: str | Path, output_dir: str | Path, config: str = "inference.json", **overrides: Any
) -> int:
    """Exit status of :func:`run_studies`, with the same arguments."""
    return run_studies(name, dataset_dir, output_dir, config, **overrides).status


def run_studies(
    name: str,
    dataset_dir: str | Path,
    output_dir: str | Path,
    config: str = "inference.json",
    workers: int = 1,
    **overrides: Any,
) -> BundleRun:
    """Run a bundle as ``python -m monai.bundle run`` would, in this process.

    Args:
        name: bundle.
        dataset_dir: dataset folder, or the file of a datalist.
        output_dir: folder of the results.
        config: file in the bundle's ``configs``.
        workers: processes that share the studies, see :func:`~monai_lipcar.bundle_workers.run_in_workers`; 1 computes
            in this one, or in those that ``torchrun`` has started (:mod:`monai_lipcar.bundle_ranks`).
        overrides: further values of the config; those that are None are left as they are.

    Returns:
        Exit status and the studies that are done.

    Raises:
        LipcarError: nothing could be run at all.
    """
    from monai_lipcar.bundle_ranks import processes, run_in_ranks
    from monai_lipcar.bundle_workers import run_in_workers

    if workers > 1 and processes() > 1:
        raise ConfigurationError(
            f"torchrun has started {processes()} processes that share the studies; leave workers out, got {workers}"
        )
    shared: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if processes() > 1:
        shared = run_in_ranks(name, dataset_dir, output_dir, config, overrides)
    elif workers > 1:
        shared = run_in_workers(workers, name, dataset_dir, output_dir, config, overrides)
    with shared as made:
        status, writer = run_workflow(name, dataset_dir, output_dir, config, **overrides, **made)
    return BundleRun(status, [] if writer is None else list(writer.done))


def run_workflow(
    name: str, dataset_dir: str | Path, output_dir: str | Path, config: str, **overrides: Any
) -> tuple[int, Any]:
    """Run a bundle in this process; arguments as in :func:`run_studies`.

    Returns:
        Exit status, and the bundle's :class:`~monai_lipcar.handlers.ResultWriter`, or None where it has none.
    """
    from monai.bundle import ConfigParser, ConfigWorkflow

    given = {key: value for key, value in overrides.items() if value is not None}
    config_file = str(Path(bundle_root(name)) / "configs" / config)
    check_options(given, ConfigParser.load_config_file(config_file))
    with reported():
        workflow = ConfigWorkflow(
            config_file=config_file,
            workflow_type="infer",
            logging_file=False,
            dataset_dir=str(dataset_dir),
            output_dir=str(output_dir),
            **given,
        )
        workflow.initialize()
        status = 0
        try:
            workflow.run()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, workflow.parser.get_parsed_content("writer") if "writer" in workflow.parser else None


def run_by_acquisition(
    name: str,
    studies: Sequence[Study],
    output_dir: str | Path,
    datalist_file: Path,
    options: Mapping[str, Any],
) -> BundleRun:
    """Run a bundle over studies that say how they were acquired, those of one acquisition together.

    Args:
        name: bundle.
        studies: the studies; one that says nothing was acquired as :class:`Acquisition` has it by default.
        output_dir: folder of the results.
        datalist_file: datalist of the studies, which is written.
        options: further options of the bundle; where they tell the acquisition too, they win, and a study that says
            another one fails.

    Raises:
        LipcarError: nothing could be run at all.
    """
    groups: dict[Acquisition, list[Study]] = {}
    for study in studies:
        groups.setdefault(study.acquisition or Acquisition(), []).append(study)
    sections = {f"acquisition-{number}": group for number, group in enumerate(groups.values(), 1)}
    if sections:
        write_datalist(datalist_file, sections)
    status = 0
    done: list[str] = []
    for section, acquisition in zip(sections, groups, strict=True):
        run = run_studies(
            name,
            datalist_file.parent,
            output_dir,
            datalist_file=str(datalist_file),
            **{"section": section, **acquisition.options(), **options},
        )
        status, done = status or run.status, [*done, *run.done]
    return BundleRun(status, done)


def prepare_again(study: Study, record: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocess a study just as it was for a finished result, to show what was computed from what.

    The transforms are those of the bundle that made the result, with the options in the result's configuration: the
    same registration, matching and denoising, the same members left out.

    Args:
        study: the inputs of the result.
        record: content of its ``result.json``.

    Returns:
        What the preprocessing gives: among others the members on the [0, 1] scale, and the ``"scale"``.

    Raises:
        StudyError: the study cannot be prepared any more, or comes out on another scale than that of the record.
        ConfigurationError: the bundle is not found.
    """
    from monai.bundle import ConfigParser

    from monai_lipcar.engines import prepare_study

    config_file = Path(bundle_root(record["bundle"]["name"])) / "configs" / "inference.json"
    config = ConfigParser.load_config_file(str(config_file))
    options = {key: value for key, value in record.get("configuration", {}).items() if key in config}
    with reported():
        # what kind of study it is was said when the result was made
        settings = {**config, **options, "out_of_domain": "ignore"}
        preprocessing = ConfigParser(settings).get_parsed_content("preprocessing")
    dataset = config["dataset"]
    prepared = prepare_study(study, preprocessing, dataset["required"], dataset["optional"])
    if not math.isclose(prepared["scale"], record.get("scale") or 0.0, rel_tol=1e-3):
        raise StudyError(
            f"the inputs come out on another intensity scale than when the result was made: expected "
            f"{record.get('scale')}, got {prepared['scale']:g}",
            study=study.study_id,
            advice="run it again with this version and these options",
        )
    return prepared


@contextmanager
def reported() -> Iterator[None]:
    """Turn what MONAI's config parser wrapped back into the known error at its root.

    Raises:
        LipcarError: the error the user should read.
    """
    known: LipcarError | None = None
    try:
        yield
    except Exception as error:
        known = _known_error(error)
        if known is None:
            raise
    if known is not None:
        raise known  # out here, so that it keeps its own cause and does not become that of its wrapper's


def _known_error(error: BaseException) -> LipcarError | None:
    cause: BaseException | None = error
    refused: LipcarError | None = None
    while cause is not None and not isinstance(cause, LipcarError):
        component = re.match("Failed to instantiate component '([^']+)'", str(cause))
        reason = cause.__cause__
        if component and isinstance(reason, (TypeError, ValueError)):
            # an argument in the config, or on the command line, that the component does not take
            refused = ConfigurationError(f"{component[1].rpartition('.')[2]}: {str(reason).splitlines()[0]}")
        cause = reason or cause.__context__
    return cause or refused


def _report_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the message of a known error; leave others to Python."""
    known = _known_error(error)
    if known is None:
        sys.__excepthook__(kind, error, trace)
        return
    logger.debug("traceback of the error", exc_info=(kind, error, trace))
    sys.stderr.write(f"error: {known}\n")
