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
"""The options of the command line: their types and what ``--help`` says of them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_lipcar.errors import ConfigurationError

__all__ = [
    "AcquisitionFile",
    "AcrossSlices",
    "Alpha",
    "Also",
    "Anatomy",
    "Bids",
    "Bundle",
    "BundleDoseFraction",
    "Denoise",
    "Device",
    "DomainPolicy",
    "DoseFraction",
    "ExtraSeries",
    "HighEntities",
    "HighUid",
    "Json",
    "LogFile",
    "LowEntities",
    "LowUid",
    "MaxIterations",
    "OutOfDomain",
    "Policy",
    "PreEntities",
    "PreUid",
    "Precision",
    "PrecisionName",
    "Prior",
    "PriorName",
    "RefineRegistration",
    "RegistrationPolicy",
    "Section",
    "SeriesRules",
    "Solver",
    "SolverName",
    "Workers",
    "WriteDicom",
    "acquired",
    "given",
    "of_section",
]


class Anatomy(str, Enum):
    """Anatomies of the digital phantom."""

    rat = "rat"
    mni152 = "mni152"
    random = "random"


class Policy(str, Enum):
    """What to do about misregistered studies."""

    refuse = "raise"
    drop = "drop"
    register = "register"


class DomainPolicy(str, Enum):
    """What to do about studies of another kind than the operator was trained on."""

    flag = "flag"
    refuse = "refuse"
    ignore = "ignore"


class SolverName(str, Enum):
    """The algorithms for the inverse problem."""

    proximal = "proximal"
    paper = "paper"


class PrecisionName(str, Enum):
    """Arithmetic of the network while an inverse problem is solved."""

    float32 = "float32"
    auto = "auto"


class PriorName(str, Enum):
    """Guesses of the generalized total variation."""

    gentv = "gentv"
    adaptive = "adaptive"


class Bundle(str, Enum):
    """The bundles."""

    l2h = "l2h"
    pl2h = "pl2h"
    h2l = "h2l"
    ph2l = "ph2l"
    h2l_tv = "h2l_tv"
    ph2l_tv = "ph2l_tv"
    ph2l_gentv = "ph2l_gentv"
    physics_tv = "physics_tv"


class ExtraSeries(str, Enum):
    """Derived series or images on demand."""

    residual = "residual"
    enhancement = "enhancement"


def _number_or_auto(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor 'auto'.") from None


Json = Annotated[bool, typer.Option("--json", help="Print a line of JSON for scripts.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default the GPU where there is one.")]
Alpha = Annotated[
    Any,
    typer.Option(
        parser=_number_or_auto,
        metavar="NUMBER|auto",
        help="Weight of the prior; auto: from the noise of each study; by default the bundle's number.",
    ),
]
Prior = Annotated[
    PriorName | None,
    typer.Option(help="Of ph2l_gentv; adaptive: guess and alpha from the noise of each study; by default gentv."),
]
MaxIterations = Annotated[
    int | None, typer.Option(min=1, help="Most iterations of the solver; by default the solver's.")
]
Solver = Annotated[SolverName | None, typer.Option(help="Of an inverse problem; by default the bundle's.")]
Precision = Annotated[
    PrecisionName | None,
    typer.Option(
        help="Of the network that is inverted; auto: bfloat16 where it is faster and accurate enough; by "
        "default float32."
    ),
]
RegistrationPolicy = Annotated[Policy, typer.Option(help="Of misregistered studies: refuse, drop slices, register.")]
OutOfDomain = Annotated[
    DomainPolicy | None,
    typer.Option(
        help="Of studies that are not of the kind the operator was trained on: flag the result, refuse, ignore; by "
        "default the bundle's."
    ),
]
AcrossSlices = Annotated[
    bool | None,
    typer.Option(
        "--across-slices/--no-across-slices",
        help="One inverse problem for the volume, with its total variation; by default one for each slice.",
        show_default=False,
    ),
]
BundleDoseFraction = Annotated[
    float | None, typer.Option(min=0.001, max=0.999, help="Low dose over full dose; by default the bundle's.")
]
AcquisitionFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Dose fraction, sequence and agent, as in acquisition.json."),
]
Denoise = Annotated[str | None, typer.Option(help="Of the low dose: none, bm3d, nlm, wavelet or tv; by default none.")]
RefineRegistration = Annotated[
    bool | None,
    typer.Option(
        "--refine-registration/--no-refine-registration",
        help="Undo motion within the tolerance; by default the bundle's choice.",
        show_default=False,
    ),
]
DoseFraction = Annotated[float, typer.Option(min=0.001, max=0.999, help="Low dose over full dose.")]
LogFile = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Append the log to this file too, a JSON object a line.")
]
Section = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of a datalist, where the dataset is one; by default test.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the studies and the processor cores.")]
SeriesRules = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="YAML file that tells which DICOM series is pre, low and high."),
]
PreUid = Annotated[str | None, typer.Option("--pre-uid", help="SeriesInstanceUID of the series before contrast.")]
LowUid = Annotated[str | None, typer.Option("--low-uid", help="SeriesInstanceUID of the series at reduced dose.")]
HighUid = Annotated[str | None, typer.Option("--high-uid", help="SeriesInstanceUID of the series at full dose.")]
WriteDicom = Annotated[
    bool | None,
    typer.Option(
        "--dicom/--no-dicom",
        help="Write the results as DICOM series too; by default where the input is DICOM.",
        show_default=False,
    ),
]
Also = Annotated[
    list[ExtraSeries] | None, typer.Option(help="A further derived DICOM series or BIDS image; may be repeated.")
]
Bids = Annotated[
    bool, typer.Option("--bids", help="The input is a BIDS dataset; write the results as a BIDS derivative.")
]
_ENTITIES = "BIDS entities of the image {}, such as {}; by default what its name says."
PreEntities = Annotated[
    str | None, typer.Option("--pre-entities", metavar="TEXT", help=_ENTITIES.format("before contrast", "acq-pre"))
]
LowEntities = Annotated[
    str | None, typer.Option("--low-entities", metavar="TEXT", help=_ENTITIES.format("at reduced dose", "ce-low"))
]
HighEntities = Annotated[
    str | None, typer.Option("--high-entities", metavar="TEXT", help=_ENTITIES.format("at full dose", "ce-full"))
]


def acquired(file: Path | None, dose_fraction: float | None) -> dict[str, Any]:
    """Options of a bundle that say how the studies were acquired."""
    from monai_lipcar.data.acquisition import load_acquisition

    known: dict[str, Any] = {} if file is None else dict(load_acquisition(file).options())
    return known if dose_fraction is None else {**known, "dose_fraction": dose_fraction}


def given(pre: str | None, low: str | None, high: str | None) -> dict[str, str]:
    """Options of the members, without those that were not given."""
    return {name: text for name, text in (("pre", pre), ("low", low), ("high", high)) if text is not None}


def of_section(dataset: Path, section: str | None) -> dict[str, str]:
    """The option of a bundle for a section of a datalist, where one was given.

    Raises:
        ConfigurationError: the dataset is no datalist.
    """
    if section is None:
        return {}
    if not dataset.is_file():
        raise ConfigurationError(f"--section is of a datalist, and {dataset} is no file; leave it out")
    return {"section": section}
