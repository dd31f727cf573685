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
"""Numbers of the table."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.race.summary import ADAM, BATCHED, PROXIMAL, against_adam, first_at, summarize


def row(objective: list[float], seconds: float, steps: int, psnr: float) -> dict[str, Any]:
    count = len(objective)
    return {
        "objective": objective,
        "evaluations": list(range(1, count + 1)),
        "seconds": [seconds * (index + 1) / count for index in range(count)],
        "status": "converged",
        "steps": steps,
        "total_seconds": seconds,
        "inside_seconds": 0.75 * seconds,
        "cpu_seconds": seconds,
        "forwards": steps,
        "backwards": steps,
        "gflop": 30.0 * seconds,
        "psnr_head": psnr,
        "ssim_head": 0.9,
    }


ROWS = {
    ADAM: {"a": row([9.0, 5.0, 3.0, 2.0], 8.0, 4, 30.0), "b": row([9.0, 5.0, 3.0, 2.0], 8.0, 4, 31.0)},
    BATCHED: {"a": row([9.0, 5.0, 3.0, 2.0], 4.0, 4, 30.0), "b": row([9.0, 5.0, 3.0, 2.0], 4.0, 4, 31.0)},
    PROXIMAL: {"a": row([9.0, 1.0], 1.0, 2, 30.5), "b": row([9.0, 3.0], 1.0, 2, 31.0)},
}
THIRD: dict[str, dict[str, Any]] = {
    ADAM: {"c": row([9.0, 5.0, 3.0, 2.0], 6.0, 4, 30.0)},
    BATCHED: {"c": row([9.0, 5.0, 3.0, 2.0], 3.0, 4, 30.0)},
    PROXIMAL: {"c": row([9.0, 2.0], 1.0, 2, 30.5)},
}


def test_against_adam() -> None:
    found = against_adam(ROWS)
    assert found["reached"] == 0.5  # slice b stays above, where nothing is saved
    assert found["times_fewer_evaluations"] == 1.0
    assert found["times_faster"] == 4.0
    assert found["times_faster_than_batched"] == 2.0
    assert found["psnr_head_difference"] == pytest.approx(0.25)
    assert found["outside_network"] == pytest.approx(0.25)


def test_against_adam_where_most_slices_get_there() -> None:
    found = against_adam({racer: {**rows, **THIRD[racer]} for racer, rows in ROWS.items()})
    assert found["reached"] == pytest.approx(2 / 3)
    assert found["times_fewer_evaluations"] == 2.0
    assert found["times_faster"] == 6.0  # of 0, 6 and 8
    assert found["times_faster_than_batched"] == 3.0


def test_what_is_clipped_in_the_end_is_an_image_in_the_end_only() -> None:
    free = {"a": row([9.0, 1.0, 2.0], 6.0, 3, 30.0)}
    found = summarize(free, free, threads=1, rate=1.0, free=True)
    assert found["evaluations_to_adam"] == 3
    assert found["seconds_to_adam"] == 6.0
    assert summarize(free, free, threads=1, rate=1.0)["evaluations_to_adam"] == 2


def test_summary() -> None:
    found = summarize(ROWS[PROXIMAL], ROWS[ADAM], threads=2, rate=80.0)
    assert found["reached_adam"] == 0.5
    assert found["evaluations_to_adam"] is None  # no more than half get there
    assert found["seconds_to_adam"] is None
    assert found["objective_over_adam"] == pytest.approx(1.0)
    assert found["gflops"] == pytest.approx(40.0)  # 60 GFLOP in 1.5 s
    assert found["of_matrix_product"] == pytest.approx(0.5)
    assert found["processor_use"] == pytest.approx(0.5)
    assert found["status"] == {"converged": 2}
    assert found["psnr_head"] == pytest.approx(30.75)


def test_evaluations_where_most_slices_get_there() -> None:
    proximal, adam = ({**ROWS[racer], **THIRD[racer]} for racer in (PROXIMAL, ADAM))
    found = summarize(proximal, adam, threads=2, rate=80.0)
    assert found["evaluations_to_adam"] == 2
    assert found["seconds_to_adam"] == 1.0


def test_a_racer_that_never_gets_there() -> None:
    found = summarize({"b": ROWS[PROXIMAL]["b"]}, ROWS[ADAM], threads=1, rate=80.0)
    assert first_at(ROWS[PROXIMAL]["b"], 2.0) is None
    assert found["reached_adam"] == 0.0
    assert found["evaluations_to_adam"] is None
