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
"""Write what an evaluator computes: volumes, ``result.json``, and a summary over all studies."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing

from monai_lipcar.data import Study, explain_failure
from monai_lipcar.data.geometry import slice_axis
from monai_lipcar.data.output import StudyOutput, refuse_input_folders
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.inferers import AlphaChoice, LIPInferer, SolveRecord
from monai_lipcar.metrics import judge, not_judged, study_metrics, with_findings
from monai_lipcar.options import is_true
from monai_lipcar.physics import LinearDoseOperator, linear_extrapolation
from monai_lipcar.transforms.foreground import head_mask

from .failed import write_failures
from .record import configuration_changes, input_hashes, result_record
from .summary import write_summary

__all__ = ["ResultWriter"]

logger = logging.getLogger(__name__)


class ResultWriter:
    """Handler that writes each study's result, atomically, and knows which studies are already done.

    For every study of a :class:`~monai_lipcar.engines.StudyEvaluator` it writes ``<output_dir>/<study_id>/`` with the
    simulated volume, the residual of an inverse problem, and ``result.json``; a study that failed gets one line in
    the log. :meth:`finish` reports and sets the exit status.

    Args:
        output_dir: folder of the results.
        bundle: name of the bundle, for the record.
        output_name: ``"high_sim"``, or ``"low_sim"`` for a forward operator.
        configuration: what decides the result besides the inputs (alpha, solver, dose fraction, checksums of
            weights...); a result made with another configuration is never taken for this one's.
        overwrite: do finished studies again.
        dose_fraction: low dose over high dose, for the linear dose model that every table shows.
        summary: scoring is what the run is for: a study that cannot be scored has failed, and ``metrics.json`` and
            ``metrics.csv`` are written over all studies. Otherwise it has a result without metrics, and a warning.
        dataset_dir: the dataset folder that the studies come from, where they come from one: never written into.
        bundle_version: of the bundle, for the record.
        share: ``(k, n)`` of a worker, which does every n-th study from the k-th on and leaves what concerns all of them
            to the process that started it.
        finished, failed: ids of the studies that workers have done, and errors of those that they could not do: they
            are reported, and not tried again.

    Raises:
        ConfigurationError: the output folder holds the inputs, or cannot be created or written to.
    """

    def __init__(
        self,
        output_dir: str | Path,
        bundle: str,
        output_name: str = "high_sim",
        configuration: Mapping[str, Any] | None = None,
        overwrite: bool | str = False,
        dose_fraction: float = 0.2,
        summary: bool = False,
        dataset_dir: str | Path | None = None,
        bundle_version: str | None = None,
        share: Sequence[int] | None = None,
        finished: Sequence[str] = (),
        failed: Sequence[StudyError] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.bundle = bundle
        self.output_name = output_name
        self.configuration = dict(configuration or {})
        self.overwrite = is_true(overwrite)
        self.dose_fraction = dose_fraction
        self.summary = summary
        self.dataset_dir = dataset_dir
        self.bundle_version = bundle_version
        self.share = share
        self.failed = {error.study: error for error in failed}
        self.failures: list[StudyError] = []
        self.requested: list[Study] = []
        self.finished: list[str] = list(finished)
        self.skipped: list[str] = []

    def pending(self, studies: Sequence[Study]) -> list[Study]:
        """The studies that have no finished result of this configuration yet."""
        refuse_input_folders(self.output_dir, studies, self.dataset_dir)
        _make_writable(self.output_dir)
        if self.share is not None:
            first, step = self.share
            studies = studies[first::step]
        self.requested = list(studies)
        todo = []
        for study in studies:
            if study.study_id in self.failed:
                self._fail(self.failed[study.study_id])
                continue
            if study.study_id in self.finished:
                continue
            existing = None if self.overwrite else self._existing(study)
            if existing is None:
                todo.append(study)
                continue
            try:
                hashes = input_hashes(study)
            except OSError as problem:  # gone, or not to be read any more, since the result was made
                self._fail(explain_failure(study, problem))
                continue
            try:
                changed = configuration_changes(existing, self.bundle, self.configuration, hashes)
            except (AttributeError, TypeError, ValueError):  # a record that this package did not write
                changed = ["result.json"]
            if changed:
                error = StudyError(
                    f"{self.output_dir / study.study_id} holds the result of another run ({', '.join(changed)} differ)",
                    study=study.study_id,
                    advice="choose another --output_dir, or pass --overwrite true",
                )
                self._fail(error)
            else:
                self.skipped.append(study.study_id)
        if self.skipped and self.share is None:
            logger.info(
                "%d of %d studies are finished already and are skipped (--overwrite true does them again)",
                len(self.skipped),
                len(studies),
            )
        return todo

    def _existing(self, study: Study) -> dict[str, Any] | None:
        """Record of a finished result; one whose volume somebody took away is none."""
        output = StudyOutput(self.output_dir, study.study_id)
        record = output.read()
        names = {self.output_name, "high_sim", "low_sim"}  # of another bundle, which is refused
        return record if any((output.folder / f"{name}.nii.gz").is_file() for name in names) else None

    @property
    def done(self) -> list[str]:
        """Studies that have a result of this run's configuration, computed now or found finished."""
        good = {*self.finished, *self.skipped}
        return [study.study_id for study in self.requested if study.study_id in good]

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the study the evaluator just finished."""
        state: Any = engine.state
        error: StudyError | None = state.error
        if error is None:
            try:
                self._write(engine)
            except Exception as caught:
                logger.debug("study %s failed", state.study.study_id, exc_info=True)
                error = explain_failure(state.study, caught)
        if error is not None:
            self._fail(error)

    def finish(self) -> None:
        """Report, write the summary, and leave with exit status 1 unless every study gave a result.

        Raises:
            SystemExit: with status 1, when a study failed.
        """
        if self.share is not None:
            return
        if self.summary:
            # a study that failed may still have a result, of another run
            write_summary(self.output_dir, self.done, self.bundle)
        try:
            write_failures(self.output_dir, self.requested, self.failures)
        except OSError as error:
            logger.warning("the list of failed studies cannot be written to %s (%s)", self.output_dir, error.strerror)
        logger.info("%d of %d studies have a result in %s", len(self.done), len(self.requested), self.output_dir)
        if self.failures:
            failed = ", ".join(str(error.study) for error in self.failures)
            logger.error("%d of %d studies failed, see above: %s", len(self.failures), len(self.requested), failed)
            raise SystemExit(1)

    def _fail(self, error: StudyError) -> None:
        if self.share is None:  # what a worker could not do is told once, by the process that started it
            logger.error("%s", error, extra={"study": error.study})
        self.failures.append(error)

    def _write(self, engine: Engine) -> None:
        state: Any = engine.state
        study: Study = state.study
        scale = float(state.record.get("scale", 1.0))
        batch, output = state.batch[0], state.output[0]
        prediction: MetaTensor = output["pred"]
        solve = None
        volumes = {self.output_name: prediction}
        inferer = getattr(engine, "inferer", None)
        if isinstance(inferer, LIPInferer) and inferer.record is not None and inferer.residual is not None:
            solve = inferer.record
            residual = MetaTensor(inferer.residual[0].as_subclass(torch.Tensor) * scale, affine=prediction.affine)
            volumes["residual"] = residual
        if not bool(torch.isfinite(prediction).all()) or (solve is not None and "non_finite" in solve.status):
            raise StudyError(
                "the computation gave values that are not finite",
                study=study.study_id,
                advice="check the intensities of the inputs, or use a smaller alpha",
            )
        metrics, warnings = None, list(state.record.get("warnings", ()))
        if solve is not None and solve.alpha_choice is not None and solve.alpha_choice.warning:
            warnings.append(solve.alpha_choice.warning)
        if solve is not None and solve.alpha_choice is not None and self.configuration.get("denoise", "none") != "none":
            warnings.append(_of_denoised(solve.alpha_choice))
        if solve is not None and (unfinished := _unfinished(solve)):
            warnings.append(unfinished)
        try:
            metrics = self._metrics(batch, prediction, scale, float(state.record.get("offset", 0.0)))
        except StudyError as error:
            if self.summary:
                raise
            warnings.append(f"there are no metrics: {error}")
        for warning in warnings:
            logger.warning("study %s: %s", study.study_id, warning, extra={"study": study.study_id})
        record = result_record(
            study=study,
            bundle=self.bundle,
            configuration=self.configuration,
            preprocessing={**state.record, "warnings": warnings},
            solve=solve,
            metrics=metrics,
            verdict=with_findings(
                self._verdict(engine, batch, prediction, metrics),
                (state.record.get("domain") or {}).get("findings", ()),
            ),
            seconds=state.seconds,
            device=str(state.device),
            output_dir=self.output_dir,
            bundle_version=self.bundle_version,
        )
        places = StudyOutput(self.output_dir, study.study_id).write(volumes, record)
        self.finished.append(study.study_id)
        logger.info(
            "study %s: %s (%.1f s)",
            study.study_id,
            places[self.output_name],
            state.seconds,
            extra={"study": study.study_id},
        )

    def _verdict(
        self,
        engine: Engine,
        batch: Mapping[str, Any],
        prediction: MetaTensor,
        metrics: Mapping[str, Mapping[str, float]] | None,
    ) -> dict[str, Any]:
        state: Any = engine.state
        inferer = getattr(engine, "inferer", None)
        if not isinstance(inferer, LIPInferer) or inferer.record is None or inferer.residual is None:
            return not_judged("the network leaves no residual: nothing checks its image against the data")
        scale, offset = float(state.record.get("scale", 1.0)), float(state.record.get("offset", 0.0))
        axis = slice_axis(np.asarray(batch["low"].affine), batch["low"].shape[1:])
        low = _slices_first(batch["low"], axis).numpy()
        with_pre: dict[str, Any] = {}
        if "pre" in batch and batch["image"].shape[0] == 2:
            simulated = _slices_first((prediction - offset) / scale, axis).numpy()
            with_pre = {"pre": _slices_first(batch["pre"], axis).numpy(), "low": low, "simulated": simulated}
        return judge(
            _slices_first(inferer.residual[0], axis).numpy(),
            head_mask(low, axis=0),
            state.record.get("sigma"),
            inferer.record.alpha,
            dose_fraction=self.dose_fraction,
            recovery=((metrics or {}).get("simulated") or {}).get("enhancement_recovery"),
            **with_pre,
        )

    def _metrics(
        self, batch: Mapping[str, Any], prediction: MetaTensor, scale: float, offset: float
    ) -> dict[str, dict[str, float]] | None:
        forward = self.output_name == "low_sim"
        target = batch.get("low" if forward else "high")
        if target is None:
            return None
        scored = {name: batch[name] for name in ("pre", "low", "high", "lesion") if name in batch}
        for name, volume in scored.items():
            if volume.shape != prediction.shape:
                expected, got = (tuple(shape) for shape in (prediction.shape, volume.shape))
                raise StudyError(
                    f"expected the grid of the result, {expected}, got {got}",
                    member=name,
                    advice="resample it onto the grid of the result",
                )
            if not bool(torch.isfinite(volume).all()):
                raise StudyError("the volume contains NaN or infinite values", member=name, advice="export it again")
        axis = slice_axis(np.asarray(target.affine), target.shape[1:])
        spacing = [float(step) for step in affine_to_spacing(np.asarray(target.affine))]
        spacing.insert(0, spacing.pop(axis))
        members = {name: _slices_first(volume, axis) for name, volume in scored.items()}
        pre, lesion = members.get("pre"), members.pop("lesion", None)
        reference = members.get("low" if not forward else "pre", members["high" if forward else "low"])
        head = torch.from_numpy(np.ascontiguousarray(head_mask(reference.numpy(), axis=0)))
        if not bool(head.any()):
            return None
        images: dict[str, torch.Tensor] = {}
        if forward:
            images["high"] = members["high"]
            if pre is not None:
                both = torch.stack([pre, members["high"]], dim=1)
                images["linear_dose_model"] = LinearDoseOperator(self.dose_fraction)(both)[:, 0]
        else:
            images["low"] = members["low"]
            if pre is not None:
                images["linear_extrapolation"] = linear_extrapolation(pre, members["low"], self.dose_fraction)
        images["simulated"] = _slices_first((prediction - offset) / scale, axis)
        table = study_metrics(
            images,
            members["low" if forward else "high"],
            head,
            pre=None if forward else pre,
            lesion=None if lesion is None else lesion > 0.5,
            spacing=spacing,
            target_name="low" if forward else "high",
        )
        return {name: {key: value for key, value in row.items() if math.isfinite(value)} for name, row in table.items()}


def _of_denoised(choice: AlphaChoice) -> str:
    """What the reader of a result has to know where alpha followed from what a denoiser left."""
    return (
        f"alpha {choice.alpha:.3g} follows from the noise that was found after denoising, {choice.sigma:.2g}; a "
        "denoiser leaves more than is found, and alpha is then too small; give a number, or leave the denoising out"
    )


def _unfinished(solve: SolveRecord) -> str | None:
    """What the reader of a result has to know where a solver that ends by itself did not; None where it did."""
    left = solve.certificate.get("relative_model_decrease")  # which the published solver does not have
    unfinished = [index for index, status in enumerate(solve.status) if status in ("max_iterations", "stalled")]
    if left is None or not unfinished:
        return None
    capped = any(solve.status[index] == "max_iterations" for index in unfinished)
    advice = "max_iterations allows more" if capped else "no step was an improvement; see the convergence in the report"
    return (
        f"the solver ended before its tolerance in {len(unfinished)} of {len(solve.status)} problems, with up to "
        f"{100 * max(left[index] for index in unfinished):.2g} % of the objective left to gain, after up to "
        f"{max(solve.iterations[index] for index in unfinished)} iterations; {advice}"
    )


def _slices_first(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """(1, X, Y, Z) as (S, H, W), a plain tensor on the CPU."""
    return volume.as_subclass(torch.Tensor)[0].movedim(axis, 0).float().cpu().contiguous()


def _make_writable(folder: Path) -> None:
    probe = folder / f".write-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"the output folder {folder} cannot be written to ({error.strerror}); choose another with --output_dir"
        ) from error
