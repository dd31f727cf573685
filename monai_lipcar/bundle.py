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

import inspect
import json
import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from torch import nn

from monai_lipcar.data import SECTIONS, Study, find_studies, load_datalist, split_studies
from monai_lipcar.errors import ConfigurationError, LipcarError, StudyError, WeightsError
from monai_lipcar.log import quiet_readers
from monai_lipcar.networks import file_sha256, load_weights
from monai_lipcar.options import check_options, is_true, keep_paths_as_text, options_of_this_run
from monai_lipcar.problem import AdamSolver, ProximalSolver

__all__ = [
    "BundleRun",
    "alpha_rule",
    "bundle_root",
    "bundle_version",
    "checksum",
    "find_weights",
    "is_true",
    "load_operator",
    "make_solver",
    "nested_options",
    "prepare",
    "prepare_again",
    "reported",
    "run_bundle",
    "run_studies",
    "select_studies",
    "training_split",
    "training_studies",
    "weights_sha256",
]

logger = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


def bundle_root(name: str) -> str:
    """Folder of the bundle ``name``, from any working directory.

    A config does not know its own path. Looked at in this order: the MONAI workflow that is reading the config; the
    working directory, when it is the bundle; ``bundles/<name>`` in the working directory or above it; beside the
    package, in a source checkout.

    Raises:
        ConfigurationError: the bundle is nowhere of these.
    """
    candidates = []
    frame = inspect.currentframe()
    while frame is not None:
        config_root = getattr(frame.f_locals.get("self"), "__dict__", {}).get("config_root_path")
        if config_root is not None:
            candidates.append(Path(config_root).resolve().parent)
            break
        frame = frame.f_back
    here = Path.cwd()
    candidates.append(here)
    candidates.extend(folder / "bundles" / name for folder in (here, *here.parents))
    candidates.append(Path(__file__).resolve().parent.parent / "bundles" / name)
    for candidate in candidates:
        if _bundle_name(candidate) == name:
            return str(candidate)
    raise ConfigurationError(f"bundle {name!r} not found; pass --bundle_root DIR")


def _bundle_name(folder: Path) -> str | None:
    """The bundle's name in its metadata: its folder may be called otherwise."""
    name = _metadata(folder).get("bundle")
    return None if name is None else str(name)


def bundle_version(root: str | Path) -> str | None:
    """Version of the bundle in this folder, or None where its metadata gives none."""
    version = _metadata(root).get("version")
    return None if version is None else str(version)


def _metadata(root: str | Path) -> dict[str, Any]:
    """Content of a bundle's ``configs/metadata.json``; empty where there is none."""
    try:
        content = json.loads((Path(root) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def find_weights(root: str | Path, operator: str, file: str = "model.pt") -> str:
    """Path of an operator's weights: ``models/<file>`` of the bundle itself, else the operator bundle beside it.

    Args:
        root: folder of the bundle that asks.
        operator: name of the operator bundle, e.g. ``"ph2l"``.
        file: name in the bundle's own ``models/``; a packaged bundle carries its guess network as ``guess.pt``.
    """
    own = Path(root) / "models" / file
    return str(own if own.is_file() else Path(root).parent / operator / "models" / "model.pt")


def checksum(path: str | Path) -> str:
    """SHA-256 of a weights file, for the record of a result.

    Raises:
        WeightsError: there is no such file.
    """
    if not Path(path).is_file():
        raise WeightsError(f"no weights file at {path}; train the operator first or pass --checkpoint FILE")
    return file_sha256(path)


def weights_sha256(path: str | Path) -> str | None:
    """SHA-256 that the bundle's metadata gives for a weights file, or None for files that it does not name."""
    root = Path(path).parent.parent  # of the bundle in whose models/ the file lies, if it does
    value = _metadata(root).get("weights_sha256", {}).get(f"{Path(path).parent.name}/{Path(path).name}")
    return None if value is None else str(value)


def alpha_rule(
    alpha: Any, root: str | Path, dose_fraction: float, weights: str | Path | None = None
) -> dict[str, float] | None:
    """What ``--alpha auto`` chooses by, as it was measured for the bundle's operator: ``"alpha_rule"`` of its metadata.

    A ratio of alpha to noise is for the dose fraction that it was measured at and goes with it: half the dose moves the
    low dose half as much, and the same noise hides twice the enhancement.

    Args:
        alpha: of this run; None is returned where it is a number.
        root: folder of the bundle.
        dose_fraction: of this run.
        weights: weights file of the operator, where it has one.

    Returns:
        Arguments of :class:`~monai_lipcar.problem.AlphaRule`.

    Raises:
        ConfigurationError: the rule has not been measured for this bundle, or for other weights than these.
    """
    if alpha != "auto":
        return None
    metadata = _metadata(root)
    name, measured = metadata.get("bundle", Path(root).name), dict(metadata.get("alpha_rule", {}))
    advice = "give --alpha a number, or measure it with benchmarks/alpha_auto.py and pass it as --alpha_rule"
    if not measured:
        raise ConfigurationError(f"alpha: 'auto' has not been calibrated for the bundle {name}; {advice}")
    expected, measured_at = measured.pop("weights_sha256", None), measured.pop("dose_fraction", dose_fraction)
    if weights is not None and expected != checksum(weights):
        raise ConfigurationError(
            f"alpha: 'auto' was calibrated for other weights of the bundle {name} than {weights}; {advice}"
        )
    if "ratio" in measured:
        measured["ratio"] *= dose_fraction / measured_at
    return measured


def load_operator(network: Network, path: str | Path, operator: str | None = None) -> Network:
    """Load weights strictly, verified against what is known of them, into eval mode.

    Weights that a bundle was released with have to have the checksum in its metadata, and were trained at the dose
    fraction there (``"dose_fraction"``). Other files say their dose fraction themselves.

    Args:
        network: the module that the weights belong to.
        path: weights file.
        operator: name of the operator that the file must not contradict.

    Raises:
        WeightsError: see :func:`~monai_lipcar.networks.load_weights`.
    """
    sha256 = weights_sha256(path)
    trained_fraction = None if sha256 is None else _metadata(Path(path).parent.parent).get("dose_fraction")
    return load_weights(network, path, sha256, operator, trained_fraction).eval()


def select_studies(
    dataset_dir: str | Path,
    datalist_file: str | Path | None = None,
    section: str = "test",
    required: Sequence[str] = ("pre", "low"),
) -> list[Study]:
    """Studies of a dataset folder, or those of one section of a datalist where one is given."""
    if datalist_file:
        return load_datalist(datalist_file, section, required=required)
    return find_studies(dataset_dir, required)


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
    name: str, dataset_dir: str | Path, output_dir: str | Path, config: str = "inference.json", **overrides: Any
) -> BundleRun:
    """Run a bundle as ``python -m monai.bundle run`` would, in this process.

    Args:
        name: bundle.
        dataset_dir: dataset folder.
        output_dir: folder of the results.
        config: file in the bundle's ``configs``.
        overrides: further values of the config; those that are None are left as they are.

    Returns:
        Exit status and the studies that are done.

    Raises:
        LipcarError: nothing could be run at all.
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
        writer = workflow.parser.get_parsed_content("writer") if "writer" in workflow.parser else None
        return BundleRun(status, [] if writer is None else list(writer.done))


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
        preprocessing = ConfigParser({**config, **options}).get_parsed_content("preprocessing")
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
