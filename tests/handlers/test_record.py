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
"""The content of ``result.json``, part by part."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_lipcar.data import Study
from monai_lipcar.handlers import configuration_changes, input_hashes, result_record
from monai_lipcar.handlers.record import objective_history, plain
from monai_lipcar.inferers import AlphaChoice, GuessChoice, SolveRecord
from monai_lipcar.problem import AlphaRule, GuessRule


def test_input_hashes_of_files_and_dicom_folders(tmp_path: Path) -> None:
    (tmp_path / "pre.nrrd").write_bytes(b"pre")
    (tmp_path / "low").mkdir()
    for name, content in (("2.dcm", b"second"), ("1.dcm", b"first")):
        (tmp_path / "low" / name).write_bytes(content)
    study = Study("sub-01", {"pre": tmp_path / "pre.nrrd", "low": tmp_path / "low", "high": tmp_path / "gone.nii"})
    checksums = "".join(hashlib.sha256(content).hexdigest() for content in (b"first", b"second"))
    assert input_hashes(study) == {
        "pre": {
            "file": "pre.nrrd",
            "sha256": hashlib.sha256(b"pre").hexdigest(),
        },
        "low": {
            "file": "low",
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        },
    }


@pytest.mark.parametrize(("out", "expected"), [("out", "../data/pre.nii"), ("data/below", "../pre.nii"), (None, None)])
def test_where_inputs_are_is_said_relative_to_the_results(
    out: str | None, expected: str | None, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pre.nii").write_bytes(b"pre")
    study = Study("sub-01", {"pre": tmp_path / "data" / "pre.nii"})
    place = None if out is None else tmp_path / out
    record = result_record(study, "pl2h", {}, {}, None, None, 1.0, "cpu", place)
    assert record["inputs"]["pre"]["path"] == expected
    assert str(tmp_path) not in str(record)


def finished() -> dict[str, Any]:
    return {
        "bundle": {"name": "ph2l_tv"},
        "configuration": {"alpha": 0.003, "size": [128, 128]},
        "inputs": {"pre": {"file": "pre.nii", "sha256": "a"}, "low": {"file": "low.nii", "sha256": "b"}},
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"configuration": {"alpha": np.float64(0.003), "size": (128, 128)}}, []),  # what JSON does not tell apart
        ({"configuration": {"alpha": 0.006, "size": [128, 128]}}, ["alpha"]),
        ({"configuration": {"size": [128, 128]}}, ["alpha"]),
        ({"configuration": {"alpha": 0.003, "size": [128, 128], "weights": "ab"}}, ["weights"]),
        ({"bundle": "h2l_tv"}, ["bundle"]),
        ({"inputs": {"pre": {"sha256": "a"}, "low": {"sha256": "c"}}}, ["inputs"]),
        ({"inputs": {"pre": {"sha256": "a"}}}, ["inputs"]),
        ({"bundle": "h2l_tv", "configuration": {}, "inputs": {}}, ["bundle", "alpha", "size", "inputs"]),
    ],
)
def test_configuration_changes(change: dict[str, Any], expected: list[str]) -> None:
    now = {"bundle": "ph2l_tv", "configuration": finished()["configuration"], "inputs": finished()["inputs"], **change}
    assert configuration_changes(finished(), **now) == expected


def test_a_record_of_something_else_differs() -> None:
    assert configuration_changes({"hello": 1}, "ph2l_tv", {"alpha": 1.0}, {}) == ["bundle", "alpha"]


def test_plain_has_the_types_of_json_only() -> None:
    value = {
        1: np.float32(0.5),
        "array": np.array([[1, 2]]),
        "tensor": torch.tensor([0.5, float("nan")]),
        "flag": np.bool_(True),
        "path": Path("folder/file"),
        "tuple": (1, float("inf"), None, "text"),
        "nested": {"number": torch.tensor(3)},
    }
    assert plain(value) == {
        "1": 0.5,
        "array": [[1, 2]],
        "tensor": [0.5, None],
        "flag": True,
        "path": "folder/file",
        "tuple": [1, None, None, "text"],
        "nested": {"number": 3},
    }


def solve_record(*status: str) -> SolveRecord:
    count = len(status)
    return SolveRecord(
        solver={"name": "paper"},
        alpha=0.003,
        status=list(status),
        iterations=list(range(1, count + 1)),
        objective_first=[2.0] * count,
        objective_last=[0.5] * count,
        discrepancy=[3.0, 4.0, 0.0][:count],
        certificate={"gradient": [0.1, 0.7, 0.2][:count]},
        objective=[[2.0] + [0.5] * steps for steps in range(1, count + 1)],
        network_evaluations=9,
    )


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("converged", "converged", "converged"), "converged"),
        (("converged", "max_iterations", "converged"), "max_iterations"),
        (("stalled", "max_iterations", "converged"), "stalled"),
        (("stalled", "max_iterations", "non_finite"), "non_finite"),
    ],
)
def test_the_worst_slice_speaks_for_the_study(statuses: tuple[str, ...], expected: str) -> None:
    record = result_record(Study("sub-01", {}), "ph2l_tv", {}, {}, solve_record(*statuses), None, 1.23456, "cpu")
    assert record["status"] == expected
    assert record["iterations"] == 3
    assert record["network_evaluations"] == 9
    assert record["objective"] == {"first": 6.0, "last": 1.5}
    assert record["discrepancy"] == pytest.approx((25 / 3) ** 0.5)  # root mean square over the slices' own
    assert record["certificate"] == {"gradient": 0.7}
    assert record["slices"]["status"] == list(statuses)
    assert record["slices"]["gradient"] == [0.1, 0.7, 0.2]
    assert record["history"] == {
        "iterations": [0, 1, 2, 3],
        "objective": [[2.0, 0.5], [2.0, 0.5, 0.5], [2.0, 0.5, 0.5, 0.5]],
    }
    assert record["seconds"] == 1.235
    assert record["warnings"] == []
    assert record["scale"] is None


def test_how_alpha_was_chosen() -> None:
    solve = solve_record("converged")
    assert result_record(Study("sub-01", {}), "ph2l_tv", {}, {}, solve, None, 1.0, "cpu")["alpha_choice"] is None
    rule = AlphaRule(operator_error=0.003, kappa=1.5)
    solve.alpha_choice = AlphaChoice(0.003, 0.01, rule, 0.0107, "met", 4, 31, [2, 3], 0.0108)
    record = result_record(Study("sub-01", {}), "ph2l_tv", {}, {}, solve, None, 1.0, "cpu")
    assert record["alpha"] == record["alpha_choice"]["alpha"] == 0.003
    assert record["alpha_choice"] == {
        **{"alpha": 0.003, "sigma": 0.01, "wanted": 0.0107, "reached": 0.0108},
        "rule": {"operator_error": 0.003, "kappa": 1.5, "ratio": None, "scale": 0.0},
        **{"status": "met", "solves": 4, "network_evaluations": 31, "slices": [2, 3]},
    }
    assert json.loads(json.dumps(record)) == record


def test_which_guess_was_taken() -> None:
    solve = solve_record("converged")
    assert result_record(Study("sub-01", {}), "ph2l_gentv", {}, {}, solve, None, 1.0, "cpu")["guess_choice"] is None
    solve.guess_choice = GuessChoice.by(GuessRule(error=0.01), 0.02, 0.0)
    record = result_record(Study("sub-01", {}), "ph2l_gentv", {}, {}, solve, None, 1.0, "cpu")
    assert record["guess_choice"] == {
        **{"end_to_end": pytest.approx(0.2), "pre": pytest.approx(0.8), "sigma": 0.02, "sigma_pre": 0.0},
        "rule": {"error": 0.01, "gain": 1.0},
    }


def test_without_a_solver_there_is_nothing_about_one() -> None:
    metrics = {"low": {"psnr": 20.0}}
    record = result_record(Study("sub-01", {}), "pl2h", {}, {"scale": 2.0, "sigma": 0.1}, None, metrics, 1.0, "cpu")
    assert not {"alpha", "solver", "status", "slices"} & record.keys()
    assert (record["metrics"], record["scale"], record["sigma"]) == (metrics, 2.0, 0.1)


def test_slices_that_were_marked_unusable_are_a_warning() -> None:
    preprocessing = {"usable_slices": [True, False, True, False]}
    record = result_record(Study("sub-01", {}), "pl2h", {}, preprocessing, None, None, 1.0, "cpu")
    (warning,) = record["warnings"]
    assert warning.startswith("slices 1, 3 (counted from 0) do not show the same in all volumes")
    preprocessing = {"usable_slices": [True, True]}
    assert result_record(Study("sub-01", {}), "pl2h", {}, preprocessing, None, None, 1.0, "cpu")["warnings"] == []


def test_a_long_history_is_thinned_out() -> None:
    falling = [100.0 / (1 + step) for step in range(151)]
    short = falling[:41]
    history = objective_history([falling, short])
    iterations = history["iterations"]
    assert len(iterations) <= 32
    assert (iterations[:3], iterations[-1]) == ([0, 1, 2], 150)
    assert np.all(np.diff(iterations) > 0)
    first, second = history["objective"]
    assert first == pytest.approx([falling[step] for step in iterations], rel=1e-5)
    # the slice that was done earlier: up to the first of the iterations at which it was done, with its last value
    assert iterations[len(second) - 2] < 40 <= iterations[len(second) - 1]
    assert second[-1] == pytest.approx(short[-1], rel=1e-5)
    assert second[:-1] == first[: len(second) - 1]


def test_the_verdict_is_recorded() -> None:
    verdict = {"level": "explained", "measures": {"residual_head": np.float64(0.9)}}
    record = result_record(Study("sub-01", {}), "physics_tv", {}, {}, None, None, 1.0, "cpu", verdict=verdict)
    assert record["verdict"] == {"level": "explained", "measures": {"residual_head": 0.9}}
