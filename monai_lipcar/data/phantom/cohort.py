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
"""Simulated cohorts on disk, in the dataset layout: ``<out>/<anatomy>-0001/{pre,low,high,lesion}.nii.gz``."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm.auto import tqdm

from monai_lipcar.data.acquisition import write_acquisition
from monai_lipcar.data.atomic import new_folder, read_json, write_text
from monai_lipcar.data.phantom.acquisition import AcquisitionOptions, acquire, random_acquisition_options
from monai_lipcar.data.phantom.maps import TissueMaps
from monai_lipcar.data.phantom.scanner import Scanner, draw_scanner
from monai_lipcar.data.workers import end_with_parent
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import DoseProtocol
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho

__all__ = ["ANATOMIES", "simulate_study", "study_scanner", "write_cohort"]

logger = logging.getLogger(__name__)

ANATOMIES: dict[str, str] = {
    "rat": "monai_lipcar.data.phantom.rat:rat_head",
    "mni152": "monai_lipcar.data.phantom.mni152:mni152_head",
    "random": "monai_lipcar.data.phantom.randomized:random_head",
}
"""Where the generator of each anatomy is: ``generator(rng, lesions, **options) -> TissueMaps``."""

_RECORD = "cohort.json"
_ADDED_SINCE = {"expected_low": False, "still_high": False}
"""Acquisition options that older records do not have, and what they were."""


@dataclass(frozen=True)
class _Recipe:
    """All that decides the content of a cohort but its size."""

    anatomy: str
    seed: int
    tumor_free_fraction: float
    options: AcquisitionOptions | None
    protocol: DoseProtocol
    agent: ContrastAgent
    signal_model: SignalModel
    anatomy_options: dict[str, Any] = field(default_factory=dict)
    acquisition: dict[str, Any] = field(default_factory=dict)
    vary_scanner: bool = False

    def record(self) -> dict[str, Any]:
        acquisition: Any = asdict(replace(self.options or AcquisitionOptions(), **self.acquisition))
        if self.options is None and self.anatomy == "random":
            acquisition = (
                {"drawn for each study, but": self.acquisition} if self.acquisition else "drawn for each study"
            )
        content = {
            "seed": self.seed,
            "tumor_free_fraction": self.tumor_free_fraction,
            "acquisition": acquisition,
            "protocol": asdict(self.protocol),
            "agent": asdict(self.agent),
            "signal_model": repr(self.signal_model),
            "anatomy_options": self.anatomy_options,
        }
        if self.vary_scanner:
            drawn = "drawn for each study"
            content |= {"protocol": drawn, "agent": drawn, "signal_model": drawn}
        return json.loads(json.dumps(content))


def write_cohort(
    out_dir: str | os.PathLike[str],
    anatomy: str,
    studies: int,
    *,
    seed: int = 0,
    tumor_free_fraction: float = 0.2,
    options: AcquisitionOptions | None = None,
    protocol: DoseProtocol | None = None,
    agent: ContrastAgent = HIGH_RELAXIVITY,
    signal_model: SignalModel | None = None,
    anatomy_options: Mapping[str, Any] | None = None,
    acquisition: Mapping[str, Any] | None = None,
    vary_scanner: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Write a simulated cohort in the dataset layout.

    Study ``n`` depends on the arguments, the seed and ``n`` only: not on the number of studies, the order or the number
    of workers. Each study appears at once when it is complete. Studies that are there already are kept, so the same
    call continues after an interruption and a larger ``studies`` extends a cohort. Several anatomies may share a
    folder.

    Args:
        out_dir: dataset folder, created if need be; its ``cohort.json`` records options, seeds and versions.
        anatomy: ``"rat"``, ``"mni152"`` or ``"random"``.
        studies: number of studies, at least 1.
        seed: seed of the cohort, not negative.
        tumor_free_fraction: probability that a study has no lesion, 0 to 1.
        options: imperfections of the acquisition. Default: ``AcquisitionOptions()``, and for ``"random"`` a new draw of
            :func:`random_acquisition_options` in each study.
        protocol: doses, default ``DoseProtocol()``.
        agent: contrast agent.
        signal_model: default ``SpinEcho()``.
        anatomy_options: further arguments of the generator, e.g. ``{"shape": (128, 128, 12)}``; what JSON can hold.
        acquisition: single fields of :class:`AcquisitionOptions` that every study gets, e.g. ``{"gain": 0.0}``; the
            others are those of ``options``, or drawn.
        vary_scanner: draw sequence, agent and doses of every study (:func:`draw_scanner`), in place of ``protocol``,
            ``agent`` and ``signal_model``. A study's ``acquisition.json`` then tells them.
        workers: processes.
        progress: show a progress bar.

    Returns:
        The study folders, in order.

    Raises:
        ConfigurationError: for an unknown anatomy, a number out of range, a folder with a cohort of other options, or a
            folder that cannot be written (finished studies stay).

    Example:
        >>> import tempfile
        >>> small = {"shape": (64, 64, 4)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = write_cohort(folder, "random", 1, seed=1, anatomy_options=small, progress=False)
        ...     sorted(file.name for file in paths[0].iterdir())
        ['high.nii.gz', 'lesion.nii.gz', 'low.nii.gz', 'pre.nii.gz']
    """
    if anatomy not in ANATOMIES:
        raise ConfigurationError(f"anatomy {anatomy!r} is not known, choose one of {', '.join(ANATOMIES)}")
    if studies < 1 or workers < 1 or seed < 0:
        raise ConfigurationError(
            f"studies and workers must be at least 1 and the seed not negative, got {studies}, {workers} and {seed}"
        )
    if not 0 <= tumor_free_fraction <= 1:
        raise ConfigurationError(f"the tumor-free fraction must be between 0 and 1, got {tumor_free_fraction}")
    known = [option.name for option in fields(AcquisitionOptions)]
    unknown = sorted({*(acquisition or {})} - {*known})
    if unknown:
        raise ConfigurationError(f"acquisition: {', '.join(unknown)} is not known, there are {', '.join(known)}")
    recipe = _Recipe(
        anatomy=anatomy,
        seed=seed,
        tumor_free_fraction=tumor_free_fraction,
        options=options,
        protocol=protocol or DoseProtocol(),
        agent=agent,
        signal_model=signal_model or SpinEcho(),
        anatomy_options=dict(anatomy_options or {}),
        acquisition=dict(acquisition or {}),
        vary_scanner=vary_scanner,
    )
    out = Path(out_dir)
    paths = [out / f"{anatomy}-{number:04d}" for number in range(1, studies + 1)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_record(out, recipe)
        missing = [(recipe, number, path) for number, path in enumerate(paths, start=1) if not path.is_dir()]
        if len(missing) < studies:
            logger.info("%d of %d studies are in %s already", studies - len(missing), studies, out)
        finished = _run(missing, workers)
        for path in tqdm(finished, total=len(missing), desc=f"{anatomy} cohort", unit="study", disable=not progress):
            logger.debug("wrote %s", path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the cohort to {out}: {error.strerror or error}; finished studies are kept, "
            "the same command continues once there is room and permission to write"
        ) from error
    return paths


def simulate_study(
    anatomy: str,
    number: int,
    *,
    seed: int = 0,
    tumor_free_fraction: float = 0.2,
    options: AcquisitionOptions | None = None,
    protocol: DoseProtocol | None = None,
    agent: ContrastAgent = HIGH_RELAXIVITY,
    signal_model: SignalModel | None = None,
    anatomy_options: Mapping[str, Any] | None = None,
    acquisition: Mapping[str, Any] | None = None,
    vary_scanner: bool = False,
) -> tuple[TissueMaps, dict[str, np.ndarray]]:
    """Simulate study ``number`` of a cohort in memory; arguments as in :func:`write_cohort`.

    Returns:
        The tissue maps, and the volumes ``{"pre", "low", "high"}`` as they are before rounding to int16. With
        ``vary_scanner`` its scanner is that of :func:`study_scanner`.

    Example:
        >>> maps, volumes = simulate_study("random", 1, anatomy_options={"shape": (64, 64, 4)})
        >>> sorted(volumes)
        ['high', 'low', 'pre']
    """
    anatomy_rng, scanner_rng = (np.random.default_rng(stream) for stream in _streams(anatomy, number, seed)[:2])
    module, function = ANATOMIES[anatomy].split(":")
    generator: Callable[..., TissueMaps] = getattr(importlib.import_module(module), function)
    # drawn first, so that the fraction decides about the lesions only
    tumor_free = anatomy_rng.random() < tumor_free_fraction
    maps = generator(anatomy_rng, lesions=0 if tumor_free else None, **(anatomy_options or {}))
    if options is None and anatomy == "random":
        options = random_acquisition_options(scanner_rng)
    options = replace(options or AcquisitionOptions(), **(acquisition or {}))
    if vary_scanner:
        scanner = study_scanner(anatomy, number, seed)
        maps = scanner.dose(maps)
        signal_model, agent, protocol = scanner.signal_model, scanner.agent, scanner.protocol
    volumes = acquire(maps, scanner_rng, signal_model=signal_model, agent=agent, protocol=protocol, options=options)
    return maps, volumes


def study_scanner(anatomy: str, number: int, seed: int = 0) -> Scanner:
    """The scanner drawn for study ``number`` of a cohort with ``vary_scanner``.

    Example:
        >>> study_scanner("random", 1) == study_scanner("random", 1)
        True
    """
    return draw_scanner(np.random.default_rng(_streams(anatomy, number, seed)[2]))


def _streams(anatomy: str, number: int, seed: int) -> list[np.random.SeedSequence]:
    """Independent sources of randomness: of the head, of the acquisition, of the scanner."""
    return np.random.SeedSequence([seed, number, zlib.crc32(anatomy.encode())]).spawn(3)


def _run(tasks: list[tuple[_Recipe, int, Path]], workers: int) -> Iterable[Path]:
    if workers == 1 or len(tasks) < 2:
        yield from (_write_study(*task) for task in tasks)
        return
    # spawned, not forked: a fork of a process with running torch threads can hang
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), initializer=end_with_parent) as pool:
        futures = [pool.submit(_write_study, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_study(recipe: _Recipe, number: int, path: Path) -> Path:
    maps, volumes = simulate_study(
        recipe.anatomy,
        number,
        seed=recipe.seed,
        tumor_free_fraction=recipe.tumor_free_fraction,
        options=recipe.options,
        protocol=recipe.protocol,
        agent=recipe.agent,
        signal_model=recipe.signal_model,
        anatomy_options=recipe.anatomy_options,
        acquisition=recipe.acquisition,
        vary_scanner=recipe.vary_scanner,
    )
    with new_folder(path) as partial:
        for member, volume in (*volumes.items(), ("lesion", maps.lesion)):
            dtype = np.uint8 if member == "lesion" else np.int16
            image = nib.Nifti1Image(np.rint(volume).astype(dtype), maps.affine)
            image.header.set_xyzt_units("mm")
            nib.save(image, partial / f"{member}.nii.gz")
        if recipe.vary_scanner:
            scanner = study_scanner(recipe.anatomy, number, recipe.seed)
            write_acquisition(partial, scanner.acquisition, {"uptake_factor": scanner.uptake_factor})
    return path


def _write_record(out: Path, recipe: _Recipe) -> None:
    """Add the recipe to ``cohort.json``, or check that it is the one the folder was written with."""
    file = out / _RECORD
    records: dict[str, Any] = {}
    if file.exists():
        try:
            records = read_json(file)
        except ValueError as error:
            raise ConfigurationError(f"{file} is not readable as JSON ({error}); choose another folder") from error
        if not (isinstance(records, dict) and all(isinstance(record, dict) for record in records.values())):
            raise ConfigurationError(
                f"{file}: expected the recipe of each anatomy, got other content; choose another folder"
            )
    record = recipe.record()
    if recipe.anatomy in records:
        known = {key: value for key, value in records[recipe.anatomy].items() if key != "versions"}
        if "units" in known.get("acquisition", ()):  # complete options, perhaps older than some of them
            known["acquisition"] = {**_ADDED_SINCE, **known["acquisition"]}
        differing = sorted(key for key in {*known, *record} if known.get(key) != record.get(key))
        if differing:
            details = ", ".join(f"{key} is {known.get(key)!r} there, {record.get(key)!r} here" for key in differing)
            raise ConfigurationError(
                f"{out} holds a {recipe.anatomy} cohort made with other options ({details}); choose another folder"
            )
        return
    records[recipe.anatomy] = {**record, "versions": _versions()}
    write_text(file, json.dumps(records, indent=2, sort_keys=True) + "\n")


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("monai_lipcar", "numpy", "scipy", "torch", "nilearn"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions
