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
"""The page of the documentation shows what was measured, and no number of the paper's that is not known."""

from __future__ import annotations

import json

from benchmarks.paper import page
from benchmarks.paper.reported import TABLE_1, reported
from benchmarks.paper.settings import full
from benchmarks.paper.theory import slope

from .conftest import REPOSITORY


def test_the_page_shows_what_was_measured() -> None:
    settings = full(REPOSITORY / "runs")
    content = json.loads((settings.results / "paper.json").read_text(encoding="utf-8"))
    assert page.changes(settings.page, settings.images, content) == {}


def test_lesions_beside_those_of_the_full_dose() -> None:
    def cell(row: str, metric: str, ours: float | None, n: int) -> dict[str, object]:
        place = {"table": "lesions", "cohort": "rat", "row": row, "metric": metric}
        return {**place, "ours": ours, "std": None if ours is None else 0.5, "n": n}

    cells = [
        cell("nn_pl2h", "cnr_lesion", 8.25, 57),
        cell("nn_pl2h", "missed_lesions", None, 0),
        cell("nn_l2h", "cnr_lesion", None, 0),
        cell("high", "cnr_lesion", 9.0, 57),
    ]
    table = page._lesions(cells).splitlines()
    lines = {line.split("|")[1].strip(): [part.strip() for part in line.split("|")[2:-1]] for line in table[3:6]}
    assert lines["NN-PL2H"] == ["57", "8.250 ± 0.500", "", "", "–", "", "", "", ""]
    assert lines["NN-L2H"][:2] == ["0", page.MISSING]
    assert lines["full dose"][:2] == ["57", "9.000 ± 0.500"]
    assert page._lesions(cells[1:3]) == page.MISSING
    assert "5 mm" not in "".join(table).replace(page.LESION_COLUMNS["false_enhancement_3mm"], "")
    by_size = page._lesions([*cells, cell("nn_pl2h", "cnr_lesion_small", 4.0, 9)]).splitlines()
    start = next(index for index, line in enumerate(by_size) if "**simulated rats, lesions < 5 mm**" in line)
    assert [part.strip() for part in by_size[start + 1].split("|")[1:4]] == ["NN-PL2H", "9", "4.000 ± 0.500"]
    assert "NN-L2H" not in by_size[start + 2]  # nothing of it by size
    assert not any("≥ 5 mm" in line for line in by_size)


def test_with_a_denoiser_beside_without() -> None:
    def cell(table: str, row: str, rule: str, ours: float, **other: object) -> dict[str, object]:
        place = {"cohort": "rat", "noise_level": 0.033, "row": row, "alpha_rule": rule, "metric": "ssim_head"}
        return {"table": table, **place, "alpha": None, "ours": ours, "std": 0.01, "n": 12, **other}

    cells = [
        cell("figure 7", "nn_pl2h", "schedule", 0.7, protocol="hospital"),
        cell("figure 7", "nn_pl2h", "schedule", 0.1, protocol="paper"),
        cell("figure 7", "lip_ph2l_tv", "schedule", 0.2, protocol="hospital", alpha=0.001),
        cell("figure 7", "lip_ph2l_tv", "validation", 0.8, protocol="hospital", alpha=0.01),
        cell("denoised", "nn_pl2h", "validation", 0.9, protocol="denoised"),
        cell("denoised", "lip_ph2l_tv", "validation", 0.95, protocol="denoised", alpha=0.002),
    ]
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in page._denoised(cells).splitlines()]
    shown = {line[0]: [line[1], line[2], line[3], line[-1]] for line in reversed(lines)}  # rats come first
    assert shown["0.033: NN-PL2H"] == ["", "0.900 ± 0.010", "0.700 ± 0.010", "12"]
    assert shown["0.033: LIP-PH2L-TV"] == ["0.002", "0.950 ± 0.010", "0.800 ± 0.010", "12"]
    assert page._denoised(cells[:4]) == page.MISSING


def test_lesions_that_are_all_of_one_size_stand_once() -> None:
    def cell(metric: str, ours: float) -> dict[str, object]:
        place = {"table": "lesions", "cohort": "rat", "row": "nn_pl2h", "metric": metric}
        return {**place, "ours": ours, "std": 0.5, "n": 7}

    title = "simulated rats, lesions < 5 mm"
    assert title not in page._lesions([cell("cnr_lesion", 8.0), cell("cnr_lesion_small", 8.0)])
    assert title in page._lesions([cell("cnr_lesion", 8.0), cell("cnr_lesion_small", 9.0)])


def test_the_papers_numbers_are_where_they_belong() -> None:
    assert reported("table 1", "ph2l", "denoised", "psnr", "rat") == 39.05
    assert reported("table 1", "ph2l", "low", "psnr", "rat") is None  # could not be looked up
    assert reported("table 1", "ph2l", "denoised", "psnr", "mni152") is None  # the paper has rats only
    assert reported("table 3", "nn_pl2h", "all", "ssim", "rat") is None
    assert len(TABLE_1) == 14


def test_the_slope_of_a_power_law() -> None:
    assert abs(slope([1.0, 0.5, 0.25], [3.0, 3.0 * 0.5**1.5, 3.0 * 0.25**1.5]) - 1.5) < 1e-9
