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
"""The content of ``result.json``: everything needed to judge and to repeat a result."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_lipcar import __version__
from monai_lipcar.data import Study
from monai_lipcar.data.output import path_from
from monai_lipcar.inferers import SolveRecord
from monai_lipcar.networks import file_sha256

__all__ = ["SCHEMA_VERSION", "configuration_changes", "input_hashes", "objective_history", "result_record"]

SCHEMA_VERSION = "1.5"
"""Of the format of ``result.json``."""
_NOTICE = "simulated image, for research use only, not for diagnosis"
_HISTORY_POINTS = 32
"""Iterations of which a record keeps the objective, at most: enough for a curve, few enough for a file."""
_RELATIVE_STATUS = ("non_finite", "stalled", "max_iterations", "converged")  # the worst of the slices speaks for all


def input_hashes(study: Study) -> dict[str, dict[str, str]]:
    """File name and SHA-256 of each member; of a DICOM folder, that of its files' checksums in order of name."""
    hashes = {}
    for name, path in study.members.items():
        if path.is_dir():
            digest = hashlib.sha256()
            for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
                digest.update(file_sha256(file).encode())
            sha256 = digest.hexdigest()
        elif path.is_file():
            sha256 = file_sha256(path)
        else:
            continue
        hashes[name] = {"file": path.name, "sha256": sha256}
    return hashes


def configuration_changes(
    existing: Mapping[str, Any], bundle: str, configuration: Mapping[str, Any], inputs: Mapping[str, Any]
) -> list[str]:
    """Names of what differs between a finished result and the run that would be made now."""
    before = dict(existing.get("configuration", {}))
    now = plain(configuration)
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if dict(existing.get("bundle", {})).get("name") != bundle:
        changed.insert(0, "bundle")
    stored = {name: entry.get("sha256") for name, entry in dict(existing.get("inputs", {})).items()}
    if stored != {name: entry["sha256"] for name, entry in inputs.items()}:
        changed.append("inputs")
    return changed


def result_record(
    study: Study,
    bundle: str,
    configuration: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    solve: SolveRecord | None,
    metrics: Mapping[str, Mapping[str, float]] | None,
    seconds: float,
    device: str,
    output_dir: str | Path | None = None,
    bundle_version: str | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Assemble the record of one study; see ``docs/outputs.md`` for the meaning of each entry.

    Records are passed on with results: nothing in them is an absolute path. Where the inputs are is said relative to
    ``output_dir``, the folder of all results, and only where :func:`~monai_lipcar.data.output.path_from` gives a path.
    """
    import monai
    import torch

    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "notice": _NOTICE,
        "study_id": study.study_id,
        "bundle": {"name": bundle, "version": bundle_version},
        "versions": {"monai_lipcar": __version__, "monai": monai.__version__, "torch": torch.__version__},
        "device": device,
        "configuration": plain(configuration),
        "operator_weights_sha256": configuration.get("weights"),
        "inputs": {
            name: {**entry, "path": None if output_dir is None else path_from(output_dir, study.members[name])}
            for name, entry in input_hashes(study).items()
        },
        "scale": preprocessing.get("scale"),
        "registration": preprocessing.get("registration"),
        "domain": preprocessing.get("domain"),
        "warnings": _warnings(preprocessing),
        "sigma": preprocessing.get("sigma"),
        "seconds": round(seconds, 3),
    }
    if solve is not None:
        statuses = set(solve.status)
        record |= {
            "alpha": solve.alpha,
            "alpha_choice": None if solve.alpha_choice is None else solve.alpha_choice.describe(),
            "guess_choice": None if solve.guess_choice is None else solve.guess_choice.describe(),
            "solver": solve.solver,
            "status": next(status for status in _RELATIVE_STATUS if status in statuses),
            "iterations": max(solve.iterations),
            "network_evaluations": solve.network_evaluations,
            "objective": {"first": sum(solve.objective_first), "last": sum(solve.objective_last)},
            "discrepancy": math.sqrt(sum(value**2 for value in solve.discrepancy) / len(solve.discrepancy)),
            "certificate": {name: max(values) for name, values in solve.certificate.items()},
            "history": objective_history(solve.objective),
            "slices": {
                "status": solve.status,
                "iterations": solve.iterations,
                "objective_first": solve.objective_first,
                "objective_last": solve.objective_last,
                "discrepancy": solve.discrepancy,
                **solve.certificate,
            },
        }
    if verdict is not None:
        record["verdict"] = verdict
    if metrics is not None:
        record["metrics"] = metrics
    result: dict[str, Any] = plain(record)
    return result


def objective_history(objective: Sequence[Sequence[float]]) -> dict[str, list[Any]]:
    """The objective of each slice over the iterations, thinned out where there are many.

    Args:
        objective: of each slice the values at the start and after each iteration.

    Returns:
        ``"iterations"``, at most 32 of them, close together at the start, where most happens; and ``"objective"``, of
        each slice the values at these iterations to six digits. A slice that was done earlier has fewer of them, the
        last one being its last value.

    Example:
        >>> objective_history([[4.0, 2.0, 1.0], [3.0, 2.5]])
        {'iterations': [0, 1, 2], 'objective': [[4.0, 2.0, 1.0], [3.0, 2.5]]}
    """
    last = max((len(values) for values in objective), default=1) - 1
    # k -> last (k / n)^2: steps that grow
    steps = _HISTORY_POINTS - 1
    kept = range(last + 1) if last <= steps else sorted({round(last * (k / steps) ** 2) for k in range(steps + 1)})
    thinned = []
    for values in objective:
        end = len(values) - 1
        points = [iteration for iteration in kept if iteration < end]
        thinned.append([float(f"{values[point]:.6g}") for point in (*points, end)])
    return {"iterations": list(kept), "objective": thinned}


def _warnings(preprocessing: Mapping[str, Any]) -> list[str]:
    warnings = list(preprocessing.get("warnings", []))
    unusable = [str(index) for index, usable in enumerate(preprocessing.get("usable_slices") or ()) if not usable]
    if unusable:
        warnings.append(
            f"slices {', '.join(unusable)} (counted from 0) do not show the same in all volumes: "
            "do not rely on the result there"
        )
    return warnings


def plain(value: Any) -> Any:
    """JSON's types only: numpy and torch scalars become numbers, paths their text, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
