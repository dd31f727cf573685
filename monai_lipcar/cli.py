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
"""The command line: ``python -m monai_lipcar <verb>``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_lipcar.bundle_ranks import process_group, work_for_the_first
from monai_lipcar.cli_options import (
    AcquisitionFile,
    AcrossSlices,
    Alpha,
    Also,
    Anatomy,
    Bids,
    Bundle,
    BundleDoseFraction,
    Denoise,
    Device,
    DoseFraction,
    HighEntities,
    HighUid,
    Json,
    LogFile,
    LowEntities,
    LowUid,
    MaxIterations,
    OutOfDomain,
    Policy,
    Precision,
    PreEntities,
    PreUid,
    Prior,
    RefineRegistration,
    RegistrationPolicy,
    Section,
    SeriesRules,
    Solver,
    Workers,
    WriteDicom,
    acquired,
    given,
    of_section,
)
from monai_lipcar.cli_show import print_table, show_result, show_results, tell
from monai_lipcar.errors import ConfigurationError, LipcarError
from monai_lipcar.log import log_to, quiet_libraries

__all__ = ["app", "main"]


def _spelled(name: str) -> str:
    """Options and commands with - or _, as the bundles' own options are spelled; bundles as they are called."""
    return name if name in {bundle.value for bundle in Bundle} else name.replace("_", "-")


app = typer.Typer(
    help="Contrast agent reduction as a learned inverse problem. Research use only, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": _spelled},
)


def main() -> None:
    """Entry point: known errors end in one line on standard error and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quiet_libraries()
    try:
        with process_group() as rank:
            app() if rank == 0 else work_for_the_first()  # one does what was asked for, the others help
    except LipcarError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("output/demo"),
    max_iterations: MaxIterations = None,
    precision: Precision = None,
) -> None:
    """Simulate the full dose of the sample study, and show its figure, report and metrics."""
    from monai_lipcar.bundle import run_bundle
    from monai_lipcar.data import find_studies, sample_dataset_dir

    options: dict[str, Any] = {"max_iterations": max_iterations, "precision": precision and precision.value}
    result = run_bundle("ph2l_gentv", sample_dataset_dir(), output, overwrite=True, **options)
    for study in find_studies(sample_dataset_dir()):
        show_result(study, output)
    raise typer.Exit(result)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Dataset folder to write.")],
    anatomy: Annotated[Anatomy, typer.Option(help="What kind of head.")] = Anatomy.mni152,
    studies: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    noise_level: Annotated[float | None, typer.Option(min=0.0, help="Noise, relative to the brightest tissue.")] = None,
    motion_voxels: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Largest shift of pre and high against low; they turn by up to a third of a degree per voxel."
        ),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=0.5, help="Largest relative difference of receiver gain of pre and high against low."
        ),
    ] = None,
    expected_low: Annotated[
        bool,
        typer.Option("--expected-low", help="The low dose without its noise, as its expectation: a training target."),
    ] = False,
    still_high: Annotated[
        bool,
        typer.Option("--still-high", help="The full dose in the very place and gain of the low dose: a training pair."),
    ] = False,
    vary_scanner: Annotated[
        bool,
        typer.Option("--vary-scanner", help="Draw sequence, agent and doses of every study (its acquisition.json)."),
    ] = False,
    skull_stripped_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of mni152 studies that show the brain only.")
    ] = 0.0,
    tumor_free_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of studies without lesion.")
    ] = 0.2,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Write a simulated cohort in the dataset layout.

    Noise, motion and gain that are not given have their defaults; for the anatomy random they are drawn for each study.
    """
    from monai_lipcar.data.phantom import write_cohort

    rotation_deg = None if motion_voxels is None else motion_voxels / 3
    wanted = {"noise_level": noise_level, "motion_voxels": motion_voxels, "rotation_deg": rotation_deg, "gain": gain}
    acquisition: dict[str, float | bool] = {name: value for name, value in wanted.items() if value is not None}
    if expected_low:
        acquisition["expected_low"] = True
    if still_high:
        acquisition["still_high"] = True
    anatomy_options = {"brain_extracted_fraction": skull_stripped_fraction} if skull_stripped_fraction else {}
    if anatomy_options and anatomy is not Anatomy.mni152:
        raise ConfigurationError(f"--skull-stripped-fraction is for the anatomy mni152, not for {anatomy.value}")
    paths = write_cohort(
        out,
        anatomy.value,
        studies,
        seed=seed,
        tumor_free_fraction=tumor_free_fraction,
        anatomy_options=anatomy_options,
        acquisition=acquisition,
        vary_scanner=vary_scanner,
        workers=workers,
    )
    tell({"dataset": str(out), "studies": [path.name for path in paths]}, f"{len(paths)} studies in {out}", as_json)


@app.command("simulate-dose")
def simulate_dose(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder with pre and high.")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to write: pre, low, high.")],
    dose_fraction: DoseFraction = 0.2,
    noise_level: Annotated[float, typer.Option(min=0.0, help="Noise, relative to the brightest tissue.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    registration_policy: RegistrationPolicy = Policy.register,
    field_mm: Annotated[
        float, typer.Option(min=0.0, help="Smoothness of the gain field between the two; 0 for a single gain.")
    ] = 20.0,
    as_json: Json = False,
) -> None:
    """Make the low dose of examinations that have only pre and high, through the signal equation."""
    from monai_lipcar.simulate import simulate_low_doses

    done, failures = simulate_low_doses(
        dataset, out, dose_fraction, noise_level, seed, registration_policy.value, field_mm or None
    )
    for failure in failures:
        typer.echo(str(failure), err=True)
    tell({"dataset": str(out), "studies": done}, f"{len(done)} studies in {out}", as_json)
    raise typer.Exit(1 if failures else 0)


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, or datalist (JSON).")],
    registration_policy: RegistrationPolicy = Policy.refuse,
    as_json: Json = False,
) -> None:
    """Are these studies usable? A table; exit status 1 if any is not."""
    from monai_lipcar.check import check_studies

    rows = check_studies(dataset, registration_policy.value)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        width = max(len(row["study_id"]) for row in rows)
        for row in rows:
            verdict = "ok" if row["usable"] else "NOT USABLE"
            typer.echo(f"{row['study_id']:<{width}}  {verdict:<10}  {row['note']}")
        typer.echo(f"{sum(row['usable'] for row in rows)} of {len(rows)} studies are usable")
    raise typer.Exit(0 if all(row["usable"] for row in rows) else 1)


@app.command()
def run(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Dataset folder, datalist (JSON), folder of a DICOM examination, or folder of many; a BIDS dataset "
            "with --bids.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the results.")],
    bundle: Annotated[Bundle, typer.Option(help="What computes the image.")] = Bundle.ph2l_gentv,
    alpha: Alpha = None,
    prior: Prior = None,
    solver: Solver = None,
    max_iterations: MaxIterations = None,
    precision: Precision = None,
    across_slices: AcrossSlices = None,
    dose_fraction: BundleDoseFraction = None,
    acquisition: AcquisitionFile = None,
    denoise: Denoise = None,
    registration_policy: RegistrationPolicy = Policy.refuse,
    refine_registration: RefineRegistration = None,
    out_of_domain: OutOfDomain = None,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option(help="Do finished studies again.")] = False,
    section: Section = None,
    workers: Workers = 1,
    log_file: LogFile = None,
    series_rules: SeriesRules = None,
    pre_uid: PreUid = None,
    low_uid: LowUid = None,
    high_uid: HighUid = None,
    dicom: WriteDicom = None,
    also: Also = None,
    bids: Bids = False,
    pre_entities: PreEntities = None,
    low_entities: LowEntities = None,
    high_entities: HighEntities = None,
) -> None:
    """Simulate the full dose of every study, with figures and reports; of DICOM and BIDS as DICOM and BIDS too."""
    if log_file is not None:
        log_to(log_file)
    options: dict[str, Any] = {
        "also": [one.value for one in also or ()],
        "acquisition": acquired(acquisition, None),
        "dose_fraction": dose_fraction,
        "alpha": alpha,
        "prior": prior and prior.value,
        "solver": solver and solver.value,
        "max_iterations": max_iterations,
        "precision": precision and precision.value,
        "across_slices": across_slices,
        "denoise": denoise,
        "registration_policy": registration_policy.value,
        "refine_registration": refine_registration,
        "out_of_domain": out_of_domain and out_of_domain.value,
        "device": device,
        "overwrite": overwrite,
        "workers": workers,
        **of_section(dataset, section),
    }
    uids = given(pre_uid, low_uid, high_uid)
    entities = given(pre_entities, low_entities, high_entities)
    if (uids or series_rules or dicom is not None) if bids else entities:
        raise ConfigurationError("UIDs, --series-rules and --dicom are for DICOM, entities for --bids; leave them out")
    if bids:
        from monai_lipcar.bids import parse_entities, run_bids

        chosen = {name: parse_entities(text) for name, text in entities.items()}
        ended = run_bids(bundle.value, dataset, out, chosen, **options)
        shown = show_results(ended.results, None, ended.done, ended.studies)
        if ended.done:
            typer.echo(f"BIDS derivative: {out}")
        raise typer.Exit(0 if ended.status == 0 and shown else 1)
    from monai_lipcar.dicom import SeriesChoice, run_folder

    if (dataset / "dataset_description.json").is_file():
        typer.echo(f"{dataset} looks like a BIDS dataset, which is read with --bids", err=True)
    status, done, inputs = run_folder(
        bundle.value, dataset, out, SeriesChoice(series_rules, uids), derived=dicom, **options
    )
    shown = show_results(out, inputs, done)
    raise typer.Exit(0 if status == 0 and shown else 1)


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder with high, or datalist (JSON).")],
    out: Annotated[Path, typer.Argument(help="Folder of the results.")],
    bundle: Annotated[Bundle, typer.Option(help="What to evaluate.")] = Bundle.ph2l_gentv,
    alpha: Alpha = None,
    prior: Prior = None,
    solver: Solver = None,
    max_iterations: MaxIterations = None,
    precision: Precision = None,
    across_slices: AcrossSlices = None,
    dose_fraction: BundleDoseFraction = None,
    acquisition: AcquisitionFile = None,
    denoise: Denoise = None,
    registration_policy: RegistrationPolicy = Policy.refuse,
    refine_registration: RefineRegistration = None,
    out_of_domain: OutOfDomain = None,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option(help="Do finished studies again.")] = False,
    section: Section = None,
    workers: Workers = 1,
    log_file: LogFile = None,
    as_json: Json = False,
) -> None:
    """Metrics against the acquired image, for each study and in the mean: metrics.csv and metrics.json."""
    if log_file is not None:
        log_to(log_file)
    from monai_lipcar.bundle import run_bundle

    status = run_bundle(
        bundle.value,
        dataset,
        out,
        config="evaluate.json",
        alpha=alpha,
        prior=prior and prior.value,
        solver=solver and solver.value,
        max_iterations=max_iterations,
        precision=precision and precision.value,
        across_slices=across_slices,
        **acquired(acquisition, dose_fraction),
        denoise=denoise,
        registration_policy=registration_policy.value,
        refine_registration=refine_registration,
        out_of_domain=out_of_domain and out_of_domain.value,
        device=device,
        overwrite=overwrite,
        workers=workers,
        **of_section(dataset, section),
    )
    summary = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(summary))
    elif summary["studies"]:
        print_table(summary["mean"])
        typer.echo(f"mean of {summary['studies']} studies; each of them in {out / 'metrics.csv'}")
    raise typer.Exit(status)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="Dataset folder or datalist of the inputs, where results cannot tell where they are."),
    ] = None,
) -> None:
    """Figure and HTML page of every finished result, and a page that lists all studies, the most concerning first."""
    raise typer.Exit(0 if show_results(out, dataset) else 1)


@app.command()
def package(
    bundle: Annotated[Bundle, typer.Argument(help="Which one.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder that gets the bundle's folder and its zip.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older package of the bundle.")] = False,
    as_json: Json = False,
) -> None:
    """Make a self-contained copy of a bundle, weights inside: a folder as in MONAI's model zoo, and a zip."""
    from monai_lipcar.bundle_package import package_bundle

    made = package_bundle(bundle.value, out, overwrite)
    places = {"bundle": bundle.value, "folder": str(made.folder), "archive": str(made.archive)}
    tell({**places, "weights_sha256": made.weights_sha256}, f"{made.folder}\n{made.archive}", as_json)
