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
"""Evaluation study by study: what goes wrong with one study never stops the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import Dataset
from monai.data.utils import list_data_collate
from monai.engines import SupervisedEvaluator
from monai.transforms import Transform

from monai_lipcar.data import Study, explain_failure
from monai_lipcar.data.failures import without_paths
from monai_lipcar.errors import StudyError
from monai_lipcar.physics import Acquisition

__all__ = ["StudyDataset", "StudyEvaluator", "collate_study", "prepare_study"]

logger = logging.getLogger(__name__)

_RECORD = "record"
"""Key of what is no tensor in a prepared study; MONAI's collation would take it apart."""


def prepare_study(
    study: Study,
    transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    required: Sequence[str] = ("pre", "low"),
    optional: Sequence[str] = (),
) -> dict[str, Any]:
    """Load and preprocess one study, without those of its optional members that cannot be used.

    Args:
        study: the study.
        transform: preprocessing of :meth:`monai_lipcar.data.Study.to_dict`.
        required: members that have to be there.
        optional: members that are needed only to score: the study does not fail for one that cannot be used (damaged,
            on another grid, displaced...), but is prepared as if it were not there.

    Returns:
        What the preprocessing returns; under ``"warnings"`` a line for each member that was left out, with its file
        and the reason.

    Raises:
        StudyError: the study cannot be used.
    """
    left_out: dict[str, str] = {}
    used = study
    while True:
        try:
            used.check(required)
            prepared: dict[str, Any] = dict(used.to_dict())
            if transform is not None:
                prepared = dict(transform(prepared))
            break
        except Exception as error:
            logger.debug("preparing study %s failed", study.study_id, exc_info=True)
            explained = explain_failure(used, error)
            # messages name a member by its file, whose label begins with the member's name
            at_fault = next((name for name in optional if (explained.member or "").startswith(name)), None)
            if at_fault is None or at_fault in left_out:
                raise explained from error
            left_out[at_fault] = _left_out(explained, study)
            used = used.without(at_fault)
    if left_out:
        prepared["warnings"] = [*prepared.get("warnings", ()), *left_out.values()]
    return prepared


def _left_out(error: StudyError, study: Study) -> str:
    """The warning about a member that is not used; with file names only, since results are passed on."""
    reason = f"{error.reason}; {error.advice}" if error.advice else error.reason
    reason = without_paths(reason, study.members.values())
    return f"{error.member} was left out, and with it the metrics that need it: {reason}"


class StudyDataset(Dataset):
    """Studies for evaluation; a study that cannot be prepared is returned as its error.

    Args:
        data: the studies.
        transform, required, optional: see :func:`prepare_study`.
        acquisition: of this run; a study that says it was acquired otherwise is not computed.
    """

    def __init__(
        self,
        data: Sequence[Study],
        transform: Transform | None = None,
        required: Sequence[str] = ("pre", "low"),
        optional: Sequence[str] = (),
        acquisition: Acquisition | None = None,
    ) -> None:
        super().__init__(data=data, transform=None)
        self.acquisition = acquisition
        self.preprocessing = transform
        self.required = tuple(required)
        self.optional = tuple(optional)

    def _transform(self, index: int) -> dict[str, Any]:
        study: Study = self.data[index]
        logger.info(
            "preparing study %s (%d of %d): loading its volumes, registration, intensities",
            study.study_id,
            index + 1,
            len(self.data),
            extra={"study": study.study_id},
        )
        try:
            self._check_acquisition(study)
            prepared = prepare_study(study, self.preprocessing, self.required, self.optional)
        except StudyError as error:
            return {_RECORD: {"study": study, "error": error}}
        tensors = {key: value for key, value in prepared.items() if isinstance(value, torch.Tensor)}
        record = {key: value for key, value in prepared.items() if key not in tensors}
        return {**tensors, _RECORD: {**record, "study": study}}

    def _check_acquisition(self, study: Study) -> None:
        expected, found = self.acquisition, study.acquisition
        if expected is None or found is None:
            return
        if differing := expected.differences(found):
            own, others = expected.options(), found.options()
            raise StudyError(
                "expected what this run is set to, "
                + ", ".join(f"{name} {own[name]}; the study says {others[name]}" for name in differing),
                study=study.study_id,
                advice="run studies of one acquisition together, this one with "
                + ", ".join(f"{name} {others[name]}" for name in differing),
            )


def collate_study(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batch of one study: tensors get a batch dimension, everything else stays as it is."""
    if len(batch) != 1:
        raise ValueError(f"studies differ in shape: expected batch_size=1, got {len(batch)} studies")
    tensors = {key: value for key, value in batch[0].items() if key != _RECORD}
    return {**(list_data_collate([tensors]) if tensors else {}), _RECORD: batch[0][_RECORD]}


class StudyEvaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator`` for studies one at a time, each isolated from the failures of the others.

    After each iteration ``state.study`` is the :class:`~monai_lipcar.data.Study`, ``state.record`` all that
    preprocessing noted besides volumes, ``state.seconds`` the time it took, and ``state.error`` its error or None.
    Handlers look there before they use ``state.output``, which is empty after an error; metrics that ignite updates
    by itself are therefore not for this evaluator (:class:`~monai_lipcar.handlers.ResultWriter` computes them).
    """

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Evaluate every study; when all are finished already there is nothing to do, and nothing to warn about."""
        if self.state.epoch_length:
            super().run(global_epoch)

    def _iteration(self, engine: StudyEvaluator, batchdata: dict[str, Any]) -> Any:  # type: ignore[override]
        started = time.perf_counter()
        record = dict(batchdata.pop(_RECORD))
        engine.state.study = record.pop("study")
        engine.state.error = record.pop("error", None)
        engine.state.record = record
        engine.state.output = {}
        if engine.state.error is None:
            try:
                super()._iteration(engine, batchdata)
            except Exception as error:
                logger.debug("study %s failed", engine.state.study.study_id, exc_info=True)
                engine.state.error = explain_failure(engine.state.study, error)
                engine.state.output = {}
        engine.state.seconds = time.perf_counter() - started
        return engine.state.output
