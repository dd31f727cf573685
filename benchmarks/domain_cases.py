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
"""Studies that an operator should not be given, made of real and simulated ones, and studies that it should.

Real are the examinations (pre and full dose; the low dose is simulated as in ``benchmarks/real_examinations.py``), a
T2-weighted head, and what pydicom carries for its own tests: a CT of a head, a CT of a spine and an MR of an abdomen,
a slice each, which is repeated. Simulated are heads of a seed that the ranges were not measured on. Every fault is one
that a mix-up of series, a converter or a scanner makes. The dose fraction is 0.2 and the noise 0.01 where nothing else
is said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import LoadImage
from tqdm import tqdm

from benchmarks.examinations import Examination, read_examinations
from monai_lipcar.bundle import bundle_root, reported, run_studies
from monai_lipcar.data import Study, find_studies
from monai_lipcar.data.geometry import slice_axis, take_slices
from monai_lipcar.data.output import write_volume
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.engines import prepare_study
from monai_lipcar.errors import StudyError
from monai_lipcar.handlers import read_failures
from monai_lipcar.simulate import SIMULATIONS, Simulation, pair_transform

__all__ = ["CASES_SEED", "describe", "run_cases"]

logger = logging.getLogger("domain")

CASES_SEED = 7301
BUNDLE = "physics_tv"
SLICES = 12
"""Of a case, at most."""
NOISE = 0.01
GOOD, BAD = "should pass", "should be refused"
NAMES = {
    "good": "as acquired",
    "noise 0.066": "as acquired, noise 0.066",
    "dose 0.1": "as acquired, dose fraction 0.1",
    "exchanged": "pre and low exchanged",
    "equal agent in pre": "as much contrast agent in pre as in low",
    "twice the agent in pre": "twice as much contrast agent in pre as in low",
    "half the agent in pre": "half as much contrast agent in pre as in low",
    "low upside down": "low upside down",
    "both upside down": "pre and low upside down",
    "low inverted": "low of inverted contrast",
    "noise 0.2": "noise 0.2",
    "standardized": "standardized intensities (mean 0, deviation 1)",
    "ten times": "voxel sizes ten times too large",
    "coarse": "every fourth pixel",
    "cut out": "a cut-out of a quarter of the slice",
    "spikes": "an artifact 20 times as bright as tissue in 1 % of the head",
}
RELATED = ("exchanged", *(f"{amount} agent in pre" for amount in ("equal", "twice the", "half the")))
RELATED += ("low upside down", "both upside down", "low inverted")
"""Faults in how the two images go together, which the registration check may see too; made of every examination."""
Volumes = dict[str, MetaTensor]


@dataclass(frozen=True)
class Case:
    """A study of the benchmark.

    Args:
        source: what it is made of.
        fault: what is wrong with it, a key of ``NAMES``, or in words; ``"good"``, ``"noise 0.066"`` and ``"dose 0.1"``
            are nothing wrong.
        volumes: ``"pre"`` and ``"low"``.
    """

    source: str
    fault: str
    volumes: Volumes

    @property
    def good(self) -> bool:
        """The study is one that should pass."""
        return self.fault in ("good", "noise 0.066", "dose 0.1")


def _rng(label: str) -> np.random.Generator:
    return np.random.default_rng(list(label.encode()))


def _noisy(volume: MetaTensor, level: float, label: str) -> MetaTensor:
    """Rician noise, relative to the brightest tissue (99.5th percentile)."""
    values = volume.as_tensor().numpy()
    scale = level * float(np.percentile(values, 99.5))
    normal = _rng(label).normal(scale=scale, size=(2, *values.shape))
    return _like(np.hypot(values + normal[0], normal[1]), volume)


def _like(values: np.ndarray, volume: MetaTensor) -> MetaTensor:
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), affine=volume.affine)


def _plane(volume: MetaTensor) -> tuple[int, int]:
    """The axes of the array in a slice."""
    axis = 1 + slice_axis(volume.affine, volume.shape[1:])
    first, second = (one for one in (1, 2, 3) if one != axis)
    return first, second


def _upright_axis(volume: MetaTensor) -> int:
    """The axis of the array that turns a head upside down: the one closest to inferior-superior."""
    return 1 + int(np.argmax(np.abs(np.asarray(volume.affine)[2, :3]) / np.linalg.norm(volume.affine[:3, :3], axis=0)))


def faults(volumes: Volumes, with_agent: Callable[[float], MetaTensor] | None, label: str) -> dict[str, Volumes]:
    """What can go wrong with a good study.

    Args:
        volumes: the study.
        with_agent: the image at this many times the low dose, with noise of its own.
        label: decides the noise.
    """
    pre, low = volumes["pre"], volumes["low"]
    first, second = _plane(low)

    def both(change: Callable[[MetaTensor], MetaTensor]) -> Volumes:
        return {name: change(volume) for name, volume in volumes.items()}

    def flipped(volume: MetaTensor) -> MetaTensor:
        return _like(np.flip(volume.as_tensor().numpy(), _upright_axis(volume)), volume)

    def standardized(volume: MetaTensor) -> MetaTensor:
        values = volume.as_tensor().numpy()
        return _like((values - values.mean()) / values.std(), volume)

    def ten_times(volume: MetaTensor) -> MetaTensor:
        affine = volume.affine.clone()
        affine[:3, :3] *= 10.0
        return MetaTensor(volume.as_tensor(), affine=affine)

    def coarse(volume: MetaTensor) -> MetaTensor:
        index = [slice(None)] * 4
        index[first] = index[second] = slice(None, None, 4)
        affine = volume.affine.clone()
        affine[:3, [first - 1, second - 1]] *= 4.0
        return MetaTensor(volume.as_tensor()[tuple(index)].contiguous(), affine=affine)

    def cut_out(volume: MetaTensor) -> MetaTensor:
        index = [slice(None)] * 4
        for side in (first, second):
            index[side] = slice(volume.shape[side] // 4, 3 * volume.shape[side] // 4)
        return MetaTensor(volume.as_tensor()[tuple(index)].contiguous(), affine=volume.affine)

    def spikes(volume: MetaTensor) -> MetaTensor:
        values = volume.as_tensor().numpy().copy()
        bright = values > np.percentile(values, 60)
        values[bright & (_rng(label).random(values.shape) < 0.01)] = 20.0 * np.median(values[bright])
        return _like(values, volume)

    top = float(np.percentile(pre.as_tensor(), 99.5))
    inverted = np.where(pre.as_tensor().numpy() > 0.1 * top, np.maximum(1.2 * top - pre.as_tensor().numpy(), 0.0), 0.0)
    found = {
        "exchanged": {"pre": low, "low": pre},
        "low upside down": {"pre": pre, "low": flipped(low)},
        "both upside down": both(flipped),
        "low inverted": {"pre": pre, "low": _noisy(_like(inverted, pre), NOISE, label)},
        "noise 0.2": {name: _noisy(volume, 0.2, f"{label} {name}") for name, volume in volumes.items()},
        "standardized": both(standardized),
        "ten times": both(ten_times),
        "coarse": both(coarse),
        "cut out": both(cut_out),
        "spikes": both(spikes),
    }
    if with_agent is not None:
        for name, amount in (("equal", 1.0), ("twice", 2.0), ("half", 0.5)):
            found[f"{name} {'' if name == 'equal' else 'the '}agent in pre"] = {"pre": with_agent(amount), "low": low}
    return found


def real_cases(examination: Examination, every_fault: bool) -> Iterator[Case]:
    """An examination as it should be under both simulations, and with faults under the first."""
    paths = {"study_id": examination.study_id, "pre": str(examination.pre), "high": str(examination.high)}
    pair = dict(pair_transform(contrast_mm=8.0)(paths))
    axis = slice_axis(pair["high"].affine, pair["high"].shape[1:])
    center = examination.center or pair["high"].shape[1 + axis] // 2
    pair |= {name: take_slices(pair[name], center, SLICES, axis) for name in ("pre", "high")}

    def low_dose(simulation: Simulation, cleaned: Mapping[Any, Any], fraction: float, seed: int = 0) -> MetaTensor:
        return simulation.low_dose(cleaned, fraction, NOISE, seed)

    for number, (name, simulation) in enumerate(SIMULATIONS.items()):
        source = f"{examination.name} ({name})"
        low_at = partial(low_dose, simulation, simulation.clean(pair))
        good = {"pre": pair["pre"], "low": low_at(0.2)}
        yield Case(source, "good", good)
        if number:
            continue
        yield Case(source, "noise 0.066", {**good, "low": _noisy(good["low"], 0.066, examination.study_id)})
        yield Case(source, "dose 0.1", {**good, "low": low_at(0.1)})
        for fault, volumes in faults(good, lambda amount: low_at(0.2 * amount, seed=1), examination.study_id).items():  # noqa: B023
            if every_fault or fault in RELATED:
                yield Case(source, fault, volumes)


def simulated_cases(folder: Path, anatomy: str, with_faults: bool) -> Iterator[Case]:
    """Two simulated studies at low and at high noise, and faults of the first."""
    load = LoadImage(image_only=True, ensure_channel_first=True)
    for noise in (NOISE, 0.066):
        place = folder / f"{anatomy}-{noise:g}"
        write_cohort(place, anatomy, 2, seed=CASES_SEED, acquisition={"noise_level": noise})
        for number, study in enumerate(find_studies(place)[:2]):
            volumes = {name: load(str(study.members[name])) for name in ("pre", "low")}
            source = f"simulated {study.study_id}"
            yield Case(source, "good" if noise == NOISE else "noise 0.066", volumes)
            if with_faults and noise == NOISE and number == 0:
                for fault, changed in faults(volumes, None, study.study_id).items():
                    yield Case(source, fault, changed)


def t2w_cases(path: Path) -> Iterator[Case]:
    """A T2-weighted head in place of both images: as it is, and with a lesion that enhances."""
    pre = LoadImage(image_only=True, ensure_channel_first=True)(str(path))
    low = _noisy(pre, NOISE, "t2w")
    yield Case("T2-weighted rat", "T2-weighted, nothing enhances", {"pre": pre, "low": low})
    middle = [side // 2 for side in pre.shape[1:]]
    steps = np.linalg.norm(pre.affine[:3, :3], axis=0)
    grid = np.meshgrid(
        *((np.arange(side) - at) * step for side, at, step in zip(pre.shape[1:], middle, steps, strict=True)),
        indexing="ij",
    )
    lesion = np.exp(-sum(axis**2 for axis in grid) / (2 * 1.5**2))
    brighter = _like(low.as_tensor().numpy() * (1.0 + 0.3 * lesion), low)
    darker = _like(low.as_tensor().numpy() * (1.0 - 0.3 * lesion), low)
    yield Case("T2-weighted rat", "T2-weighted, a lesion becomes brighter", {"pre": pre, "low": brighter})
    yield Case("T2-weighted rat", "T2-weighted, a lesion becomes darker", {"pre": pre, "low": darker})


def dicom_cases() -> Iterator[Case]:
    """CT and another body part, from the files that pydicom tests itself with; nothing of them is copied."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    for name, source, modality in (
        ("J2K_pixelrep_mismatch.dcm", "CT of a head", "CT"),
        ("CT_small.dcm", "CT of a spine", "CT"),
        ("examples_overlay.dcm", "MR of an abdomen", "MR"),
    ):
        dataset = dcmread(str(get_testdata_file(name, download=False)))
        step = [float(value) for value in dataset.PixelSpacing]
        affine = np.diag([-step[1], -step[0], float(dataset.SliceThickness), 1.0])
        plane = dataset.pixel_array.T.astype(np.float32)
        units = plane + float(dataset.get("RescaleIntercept", 0.0) or 0.0) if modality == "CT" else plane
        variants = {"HU": units, "HU + 1024": np.maximum(units, -1024.0) + 1024.0} if modality == "CT" else {"": plane}
        for unit, values in variants.items():
            pre = MetaTensor(
                torch.from_numpy(np.repeat(values[None, :, :, None], 8, axis=3)), affine=torch.from_numpy(affine)
            )
            spread = NOISE * float(np.percentile(values, 99.5))
            noisy = pre.as_tensor().numpy() + _rng(name).normal(scale=spread, size=pre.shape)
            low = _noisy(pre, NOISE, name) if modality == "MR" else _like(noisy.clip(float(values.min())), pre)
            fault = f"{source}{', ' if unit else ''}{unit}"
            yield Case(source, fault, {"pre": pre, "low": low})


def all_cases(examinations: Path, t2w: Path | None, folder: Path) -> Iterator[Case]:
    """Every case, in the order of the table."""
    if t2w is not None:
        yield from t2w_cases(t2w)
    yield from dicom_cases()
    for number, examination in enumerate(reversed(read_examinations(examinations))):
        yield from real_cases(examination, every_fault=number == 0)
    for anatomy in ("mni152", "rat", "random"):
        yield from simulated_cases(folder / "simulated", anatomy, with_faults=anatomy != "random")


def run_cases(examinations: Path, t2w: Path | None, output: Path) -> Iterator[list[dict[str, Any]]]:
    """What becomes of every case, kept in ``output``.

    Yields:
        After each case a row of all until then: its source and fault, whether it should pass, the findings of the
        domain check without the registration check, with faults in how the images go together what the registration
        check says (``"registration"``), and where nothing is found the verdict on the result of the bundle as it ships.
    """
    folder = output / "cases"
    file = output / "cases.json"
    rows: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    config = ConfigParser.load_config_file(f"{bundle_root(BUNDLE)}/configs/inference.json")
    with reported():
        as_shipped = ConfigParser(dict(config)).get_parsed_content("preprocessing")
        alone = ConfigParser({**config, "registration_policy": "none"}).get_parsed_content("preprocessing")
    for case in tqdm(all_cases(examinations, t2w, folder), desc="cases", unit="case"):
        label = f"{case.source}: {case.fault}"
        if label not in rows:
            rows[label] = _run(case, label, folder, as_shipped, alone)
            file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        yield list(rows.values())


def _run(case: Case, label: str, folder: Path, as_shipped: Any, alone: Any) -> dict[str, Any]:
    name = "".join(letter if letter.isalnum() else "-" for letter in label).lower()
    place = folder / "data" / name / name
    place.mkdir(parents=True, exist_ok=True)
    members = {}
    for member, volume in case.volumes.items():
        members[member] = place / f"{member}.nii.gz"
        write_volume(volume, members[member])
    study = Study(name, members)
    row: dict[str, Any] = {"source": case.source, "fault": NAMES.get(case.fault, case.fault), "good": case.good}
    row |= {"registration": None, "findings": None, "measures": None, "verdict": None}
    if case.fault in RELATED:
        row["registration"] = "passes"
        try:
            prepare_study(study, as_shipped)
        except StudyError as error:
            row["registration"] = error.reason
    try:
        domain = prepare_study(study, alone)["domain"]
    except StudyError as error:
        return {**row, "failed": error.reason}
    row |= {"findings": domain["findings"], "measures": domain["measures"]}
    if not domain["findings"]:
        out = folder / "results"
        if run_studies(BUNDLE, place.parent, out, overwrite=True).done:  # as it ships, registration check and all
            record = json.loads((out / name / "result.json").read_text(encoding="utf-8"))
            row["verdict"] = {key: record["verdict"][key] for key in ("level", "reasons", "measures")}
        elif row["registration"] is None:
            row["registration"] = read_failures(out)[name]
    return row


def describe(rows: list[dict[str, Any]]) -> str:
    """The cases as a table in Markdown."""
    lines = ["| study | fault | registration check | domain check | verdict |", "| --- | --- | --- | --- | --- |"]
    for row in sorted(rows, key=lambda row: (not row["good"], row["fault"], row["source"])):
        registration = (row["registration"] or "").split(" (")[0][:70]
        found = row.get("failed") or "; ".join(finding.split(":")[0] for finding in row["findings"]) or "passes"
        verdict = (row["verdict"] or {}).get("level", "")
        lines.append(f"| {row['source']} | {row['fault']} | {registration} | {found} | {verdict} |")
    good = [row for row in rows if row["good"]]
    bad = [row for row in rows if not row["good"]]
    lines += ["", f"{sum(bool(row['findings']) for row in good)} false alarms in {len(good)} studies; "]
    lines[-1] += f"of {len(bad)} studies with faults the domain check alone finds "
    lines[-1] += f"{sum(row['findings'] is None or bool(row['findings']) for row in bad)}"
    return "\n".join(lines)
