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
"""Low doses for examinations that have none: a dataset of pre and high becomes one of pre, low and high."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from tqdm import tqdm

from monai_lipcar.data import explain_failure, find_studies
from monai_lipcar.data.atomic import new_folder, write_json
from monai_lipcar.data.failures import explain_write_failure
from monai_lipcar.data.geometry import slice_axis, take_slices
from monai_lipcar.data.output import refuse_input_folders, write_volume
from monai_lipcar.errors import StudyError
from monai_lipcar.physics import (
    CONVENTIONAL,
    REFERENCE_T1_MS,
    Acquisition,
    ContrastAgent,
    SpinEcho,
    SpoiledGradientEcho,
)
from monai_lipcar.transforms import (
    BRAIN_T1_MS,
    CheckRegistrationd,
    DenoiseSlicesd,
    MatchContrastd,
    MatchIntensityd,
    SimulateLowDosed,
)

__all__ = ["SIMULATIONS", "Simulation", "pair_transform", "simulate_low_doses"]

logger = logging.getLogger(__name__)

RECORD = "simulation.json"
"""In the folder of a written study: what its low dose was made with."""


@dataclass(frozen=True)
class Simulation:
    """How the low dose of a real examination is made, to judge approaches with.

    Args:
        signal_model: sequence of the low dose.
        agent: contrast agent.
        t1_range_ms: gives every voxel a native T1 of its own in this range; None gives all that of gray matter.
        own_noise: pre and high are denoised (non-local means) before the low dose is made of them, so that its noise is
            its own. Otherwise it carries most of the noise of pre, which an acquired low dose never does, and which
            every method that adds to pre then gets for free.
    """

    signal_model: SpinEcho | SpoiledGradientEcho
    agent: ContrastAgent = CONVENTIONAL
    t1_range_ms: tuple[float, float] | None = None
    own_noise: bool = False

    def clean(self, pair: Mapping[str, Any]) -> dict[Hashable, Any]:
        """What :meth:`low_dose` is computed from, for any number of doses.

        Args:
            pair: ``"pre"`` and ``"high"``, registered and matched channel-first volumes, and the ``"study_id"``, which
                the noise belongs to.
        """
        members = ("pre", "high")
        data: dict[Hashable, Any] = {name: pair[name] for name in (*members, "study_id") if name in pair}
        return DenoiseSlicesd(members, method="nlm")(data) if self.own_noise else data

    def low_dose(
        self, cleaned: Mapping[Hashable, Any], dose_fraction: float, noise_level: float, seed: int = 0
    ) -> MetaTensor:
        """The low dose of a pair.

        Args:
            cleaned: what :meth:`clean` returns.
            dose_fraction, noise_level, seed: see :class:`~monai_lipcar.transforms.SimulateLowDose`.
        """
        simulate = SimulateLowDosed(
            dose_fraction=dose_fraction,
            noise_level=noise_level,
            signal_model=self.signal_model,
            agent=self.agent,
            t1_ms=REFERENCE_T1_MS if self.t1_range_ms is None else BRAIN_T1_MS,
            seed=seed,
            t1_range_ms=self.t1_range_ms,
        )
        low: MetaTensor = simulate(cleaned)["low"]
        return low

    def options(self, dose_fraction: float) -> dict[str, Any]:
        """Options that tell a bundle what is known at the scanner: dose fraction, sequence and agent."""
        return dict(Acquisition.of(dose_fraction, self.signal_model, self.agent).options())


SIMULATIONS: dict[str, Simulation] = {
    "gradient echo, voxel T1": Simulation(
        SpoiledGradientEcho(repetition_time_ms=8.0, echo_time_ms=3.0, flip_angle_deg=20.0),
        t1_range_ms=(600.0, 4000.0),
        own_noise=True,
    ),
    "spin echo, one tissue": Simulation(SpinEcho(repetition_time_ms=500.0, echo_time_ms=10.0)),
}
"""What approaches are judged with on real examinations.

Neither has the sequence and the agent of the bundles' defaults. The first is the harder test, and the nearer to an
acquired low dose: a kind of sequence that no operator was trained on (times and flip angle as usual for
three-dimensional scans of the head), a native T1 of its own in every voxel, between that of bright white matter and
that of fluid, and noise of its own. The second has the dose response of one tissue everywhere and the noise of the
pair, which is the very kind of model that ``physics_tv`` inverts, and flatters it."""


def pair_transform(
    policy: str = "register", refine: bool = True, field_mm: float | None = 20.0, contrast_mm: float | None = None
) -> Compose:
    """What makes ``pre`` and ``high`` of a study (paths) a pair: loaded, ``pre`` registered and matched to ``high``.

    Args:
        policy, refine: see :class:`~monai_lipcar.transforms.CheckRegistrationd`.
        field_mm: see :class:`~monai_lipcar.transforms.MatchIntensityd`; acquisitions weeks or coils apart differ by a
            smooth field, not by one gain.
        contrast_mm: also bring ``pre`` to the sequence of ``high``, see
            :class:`~monai_lipcar.transforms.MatchContrastd`. The low dose of an examination has the sequence of its
            full dose; without this, one simulated from acquisitions of two sequences shows a fraction of their
            difference.
    """
    members = ("pre", "high")
    contrast = [] if contrast_mm is None else [MatchContrastd("pre", "high", field_mm=contrast_mm)]
    return Compose(
        [
            LoadImaged(keys=members, image_only=True, ensure_channel_first=True),
            CheckRegistrationd(keys=members, reference_key="high", policy=policy, refine=refine),
            MatchIntensityd(keys="pre", reference_key="high", field_mm=field_mm),
            *contrast,
        ]
    )


def simulate_low_doses(
    dataset_dir: str | Path,
    out_dir: str | Path,
    dose_fraction: float = 0.2,
    noise_level: float = 0.01,
    seed: int = 0,
    registration_policy: str = "register",
    field_mm: float | None = 20.0,
    refine: bool = True,
) -> tuple[list[str], list[StudyError]]:
    """Write a dataset with a simulated low dose, ``pre`` registered and matched in intensity to ``high``.

    Studies that are there already are kept if their ``simulation.json`` says that they were made with the same options;
    otherwise they fail. With the registration policy ``"drop"``, the longest run of usable slices is written: a volume
    has no gaps.

    Args:
        dataset_dir: dataset folder with ``pre`` and ``high``.
        out_dir: dataset folder to write, another one than ``dataset_dir``.
        dose_fraction: low dose over full dose.
        noise_level: see :class:`~monai_lipcar.transforms.SimulateLowDosed`.
        seed: of the noise.
        registration_policy: what to do about pairs that do not lie on each other, see
            :class:`~monai_lipcar.transforms.CheckRegistrationd`.
        refine: undo motion within the tolerance too, see :class:`~monai_lipcar.transforms.CheckRegistrationd`.
        field_mm: smoothness of the gain field between the two acquisitions (two coils, two sessions), see
            :class:`~monai_lipcar.transforms.MatchIntensityd`; None matches one gain.

    Returns:
        Ids of the studies that are in ``out_dir`` now, and the errors of the others.

    Raises:
        ConfigurationError: ``out_dir`` is the dataset itself or lies in it, or cannot be written to.
    """
    out = Path(out_dir)
    members = ("pre", "high")
    studies = find_studies(dataset_dir, members)
    refuse_input_folders(out, studies, dataset_dir)
    transform = Compose(
        [
            pair_transform(registration_policy, refine, field_mm),
            SimulateLowDosed(dose_fraction=dose_fraction, noise_level=noise_level, seed=seed),
        ]
    )
    made_with: dict[str, Any] = {
        "dose_fraction": dose_fraction,
        "noise_level": noise_level,
        "seed": seed,
        "registration_policy": registration_policy,
        "field_mm": field_mm,
        "refine": refine,
    }
    done, failures = [], []
    for study in tqdm(studies, desc="simulating", unit="study"):
        try:
            folder = out / study.study_id
            if folder.is_dir():
                _check_record(folder, made_with)
            else:
                study.check(members)
                data = transform(study.to_dict())
                volumes = {name: data[name] for name in ("pre", "low", "high")}
                lesion = study.members.get("lesion")
                if registration_policy == "drop" and not all(data["usable_slices"]):
                    if lesion is not None:
                        load = LoadImaged(keys="lesion", image_only=True, ensure_channel_first=True)
                        volumes["lesion"] = load({"lesion": str(lesion)})["lesion"]
                        lesion = None
                    volumes, kept = _usable(volumes, data["usable_slices"], study.study_id)
                    _write(folder, volumes, lesion, {**made_with, "slices": kept})
                else:
                    _write(folder, volumes, lesion, made_with)
            done.append(study.study_id)
        except Exception as error:
            failures.append(explain_failure(study, error))
    return done, failures


def _usable(
    volumes: dict[str, MetaTensor], usable: Sequence[bool], study_id: str
) -> tuple[dict[str, MetaTensor], list[int]]:
    """The longest run of usable slices of each volume, and the numbers of its first and last slice."""
    edges = np.flatnonzero(np.diff([0, *map(int, usable), 0]))
    if not edges.size:
        raise StudyError(
            "no slice of pre shows the same as that of high",
            study=study_id,
            advice="check that both show the same head, or choose the registration policy 'register'",
        )
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    first, count = int(starts[longest]), int(ends[longest] - starts[longest])
    image = volumes["high"]
    axis = slice_axis(image.affine, image.shape[1:])
    cut = {name: take_slices(volume, first + count // 2, count, axis) for name, volume in volumes.items()}
    logger.warning("study %s: slices %d to %d of 0-%d are kept", study_id, first, first + count - 1, len(usable) - 1)
    return cut, [first, first + count - 1]


def _check_record(folder: Path, made_with: dict[str, Any]) -> None:
    """Refuse a study that is there already, but was made with other options."""
    advice = "delete the study to make it again, or choose another folder"
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        differing = {key: (found[key], value) for key, value in made_with.items() if found[key] != value}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{folder} is there already, without a readable {RECORD} that says how it was made",
            study=folder.name,
            advice=advice,
        ) from error
    if differing:
        details = ", ".join(f"{key} {there!r} instead of {here!r}" for key, (there, here) in differing.items())
        raise StudyError(f"{folder} was made with {details}", study=folder.name, advice=advice)


def _write(folder: Path, volumes: dict[str, MetaTensor], lesion: Path | None, record: dict[str, Any]) -> None:
    advice = "free space or choose another folder, then run again: finished studies are kept"
    with (
        explain_write_failure(f"the study cannot be written to {folder}", folder.name, advice),
        new_folder(folder) as partial,
    ):
        for name, volume in volumes.items():
            write_volume(volume, partial / f"{name}.nii.gz")
        if lesion is not None:
            (shutil.copytree if lesion.is_dir() else shutil.copy)(lesion, partial / lesion.name)
        write_json(partial / RECORD, record)
