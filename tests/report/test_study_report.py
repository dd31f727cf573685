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
"""The report of a study: a figure and a page that says what was computed, from what."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monai_lipcar.data import Study
from monai_lipcar.errors import ConfigurationError, StudyError
from monai_lipcar.report import finished_studies, study_report
from monai_lipcar.report.words import EXPLANATIONS

METRICS = {
    "low": {"ssim_head": 0.91, "psnr_head": 25.678, "relative_error_head": 0.2},
    "simulated": {"ssim_head": 0.98, "psnr_head": 33.333, "relative_error_head": 0.05, "enhancement_recovery": 1.02},
}
Finish = Callable[..., Study]


SOLVED = {
    "alpha": 0.002,
    "solver": {"name": "paper"},
    "status": "max_iterations",
    "iterations": 150,
    "objective": {"first": 62.46461, "last": 40.17},
    "discrepancy": 0.00689,
    "certificate": {"projected_gradient": 0.7127},
}


class Page(HTMLParser):
    """What a browser would make of the page: its text, the sources it loads, and whether its tags are closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def facts(self) -> dict[str, list[str]]:
        return {row[0]: row[1:] for row in self.rows}


def test_page_is_complete_and_self_contained(finish: Finish, tmp_path: Path) -> None:
    places = study_report(finish(metrics=METRICS, **SOLVED), tmp_path / "out")
    assert places == {name: tmp_path / "out" / "sub-01" / file for name, file in FILES.items()}
    page = Page(places["report"])
    # pictures of 9 panels in 4 slices, and two plots
    assert len(page.sources) == 9 * 4 + 2
    for source in page.sources:
        kind, data = source.split(",")
        assert kind in ("data:image/jpeg;base64", "data:image/svg+xml;base64")
        assert base64.b64decode(data, validate=True)
    text = places["report"].read_text()
    assert not {"link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    assert page.tags.count("script") == 1
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (script,) = re.findall(r"<script>(.*)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;;" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert page.text.count("Simulated image, for research use only, not for diagnosis.") == 2
    assert "arXiv 2407.10559" in page.text
    assert "MICCAI 2025" in page.text


FILES = {"figure": "figure.png", "report": "report.html"}


def test_numbers(finish: Finish, tmp_path: Path) -> None:
    facts = Page(study_report(finish(metrics=METRICS, **SOLVED), tmp_path / "out")["report"]).facts()
    assert facts[""] == ["low dose", "simulated"]
    assert facts["SSIM, head"] == ["0.910", "0.980"]
    assert facts["PSNR, head (dB)"] == ["25.68", "33.33"]
    assert facts["alpha"] == ["0.002" + EXPLANATIONS["alpha"]]
    assert facts["solver"] == ["paper, 150 iterations" + EXPLANATIONS["solver"]]
    assert facts["status"][0].startswith("max iterationsstopped by its largest number of iterations")
    assert facts["objective"] == ["62.46 → 40.17" + EXPLANATIONS["objective"]]
    assert facts["discrepancy"] == ["0.0069" + EXPLANATIONS["discrepancy"]]
    assert facts["certificate: projected gradient"][0].startswith(
        "0.713 in the worst slicenorm of the projected gradient"
    )
    assert float(facts["scale"][0].removesuffix(EXPLANATIONS["scale"])) == pytest.approx(160.0, abs=3.0)
    assert facts["sigma: noise level of the low dose"] == ["0.0071" + EXPLANATIONS["sigma"]]
    assert facts["time"] == ["12.3 s on cpu" + EXPLANATIONS["seconds"]]
    assert re.fullmatch(r"low\.nii\.gzsha256 [0-9a-f]{64}", facts["low"][0])


def test_the_kind_of_study_beside_the_ranges_of_the_training(finish: Finish, tmp_path: Path) -> None:
    domain = {
        "policy": "flag",
        "measures": {"head_mm": 352.1, "noise": 0.0213, "dose_order": 0.9},
        "ranges": {"head_mm": [23.4, 240.0], "noise": [None, 0.15], "enhancing_share": [0.02, None]},
        "findings": ["too wide"],
    }
    study = finish(domain=domain)
    page = study_report(study, tmp_path / "out")["report"].read_text()
    rows = re.findall(r"<td>(width of the head in mm|noise over[^<]*)</td><td>(.*?)</td>", page)
    assert rows == [
        (
            "width of the head in mm",
            '352 <b>out of range</b><br><span class="small quiet">studies of the training: from 23.4 to 240</span>',
        ),
        (
            "noise over the brightness of the tissue",
            '0.0213<br><span class="small quiet">studies of the training: up to 0.15</span>',
        ),
    ]
    assert "share of the head that enhances" not in page  # could not be measured


def test_registration_beside_the_inputs(finish: Finish, tmp_path: Path) -> None:
    facts = Page(study_report(finish(**SOLVED), tmp_path / "out")["report"]).facts()
    line = "0.12 mm, 0.46° against low, after registration (undone: 2.30 mm, 1.00°) (tolerated: 0.75 mm, 0.5°)"
    more = "; undone to a precision of 0.04 mm; similarity of the slices 0.91 to 0.99"
    assert facts["pre"][0].startswith(f"pre.nii.gz{line}{more}sha256 ")


def test_provenance(finish: Finish, tmp_path: Path) -> None:
    places = study_report(finish(**SOLVED), tmp_path / "out")
    facts = Page(places["report"]).facts()
    assert facts["bundle"] == ["physics_tv 0.9"]
    assert facts["monai_lipcar"] == ["0.1.0"]
    for name in ("high_sim.nii.gz", "residual.nii.gz"):
        digest = hashlib.sha256((places["report"].parent / name).read_bytes()).hexdigest()
        assert facts[name] == [f"sha256 {digest}"]
    assert "registration_policy none" in facts["configuration"][0]
    assert facts["record"] == ["result.json, schema 1.4"]


LOOK = {
    "level": "look",
    "reasons": ["in one place the low dose is not explained"],
    "measures": {"residual_head": 1.234, "residual_window": 4.5},
    "places": [{"kind": "residual", "slice": 3, "rows": [10, 20], "columns": [24, 28], "value": 1.67}],
    "slices": {"residual_head": [None, 1.0, 1.2, 1.4], "residual_window": [None, 1.5, 2.0, 4.5]},
}


def test_verdict_with_the_places_to_look_at(finish: Finish, tmp_path: Path) -> None:
    places = study_report(finish(verdict=LOOK, **SOLVED), tmp_path / "out")
    page = Page(places["report"])
    assert "Not explained here: look" in page.text
    assert "in one place the low dose is not explained" in page.text
    # the voxel in the middle, and where it is in the patient
    assert page.facts()["slice 4"] == ["the low dose is not explained", "1.7 times", "14, 26, 3", "14 R, 26 A, 15 S"]
    assert "1.23 (limit 1.5)" in page.text
    text = places["report"].read_text()
    assert re.search(r'id="slice" min="1" max="4" value="4"', text)  # it begins where there is something to look at
    marks = re.findall(r'class="mark" data-slice="(\d)" style="left: ([\d.]+)%; top: ([\d.]+)%; width: ([\d.]+)%', text)
    assert len(marks) == 9  # on each panel
    assert {mark[0] for mark in marks} == {"4"}


def test_a_result_of_an_earlier_version_is_not_judged(finish: Finish, tmp_path: Path) -> None:
    page = Page(study_report(finish(verdict=None, history=None, **SOLVED), tmp_path / "out")["report"])
    assert "Not judged" in page.text
    assert "run it again with --overwrite" in page.text
    assert "How well, and how far" not in page.text


def test_a_metric_that_only_some_images_have_is_shown(finish: Finish, tmp_path: Path) -> None:
    facts = Page(study_report(finish(metrics=METRICS, **SOLVED), tmp_path / "out")["report"]).facts()
    assert facts["enhancement recovery"] == ["", "1.020"]


def test_lesions_are_shown_by_size(finish: Finish, tmp_path: Path) -> None:
    contrast = {"cnr_lesion": 7.0, "cep_lesion": 84.56, "cep_lesion_small": 60.0, "cep_lesion_large": 110.0}
    counts = {"visible_lesions": 3.0, "visible_lesions_small": 2.0, "missed_lesions_small": 0.5}
    metrics = {
        **METRICS,
        "simulated": {**METRICS["simulated"], **contrast, **counts, "false_enhancement_mm": 2.345},
        "high": {"cep_lesion": 100.0, "cep_lesion_small": 80.04},
    }
    page = Page(study_report(finish(metrics=metrics, **SOLVED), tmp_path / "out")["report"])
    rows = [(name.strip(), [cell.strip() for cell in cells]) for name, *cells in page.rows]
    assert ("", ["low dose", "simulated", "high dose"]) in rows
    assert ("contrast enhancement, lesion (%)", ["", "84.6", "100.0"]) in rows
    assert ("visible lesions", ["", "3", ""]) in rows
    assert ("largest false enhancement (mm)", ["", "2.3", ""]) in rows
    by_size = rows[rows.index(("", ["< 5 mm", "≥ 5 mm"] * 3)) :]
    assert by_size[1:4] == [
        ("visible lesions", ["", "", "2", "", "", ""]),
        ("missed lesions (share)", ["", "", "0.500", "", "", ""]),
        ("contrast enhancement, lesion (%)", ["", "", "60.0", "110.0", "80.0", ""]),
    ]
    assert by_size[4][0] != "lesion-to-brain ratio"  # which nobody has


def test_without_lesions_there_are_no_sizes(finish: Finish, tmp_path: Path) -> None:
    metrics = {"simulated": {**METRICS["simulated"], "false_enhancement_per_cm3_small": 0.1}}
    assert "by size" not in Page(study_report(finish(metrics=metrics, **SOLVED), tmp_path / "out")["report"]).text


def test_without_a_target_nothing_is_compared(finish: Finish, tmp_path: Path) -> None:
    page = Page(study_report(finish(members=("pre", "low"), **SOLVED), tmp_path / "out")["report"])
    assert "Against the acquired image" not in page.text
    assert "Warnings" not in page.text


def test_what_comes_from_outside_is_escaped(finish: Finish, tmp_path: Path) -> None:
    name, code = "a&amp;c '$x_", "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    verdict = {**LOOK, "reasons": [code]}
    places = study_report(finish(name, warnings=[code], verdict=verdict, device=code, **SOLVED), tmp_path / "out")
    page = Page(places["report"])
    assert page.tags.count("script") == 1
    assert f"Study {name}" in page.text
    assert all(source.startswith("data:image/") for source in page.sources)
    assert page.text.count(code) == 4  # the reason, the warning, and twice the device
    assert code not in places["report"].read_text()


def test_operator_without_a_solver(finish: Finish, tmp_path: Path) -> None:
    inputs = finish(
        residual=False, configuration={"dose_fraction": 0.2, "registration_policy": "none", "weights": "ab" * 32}
    )
    facts = Page(study_report(inputs, tmp_path / "out")["report"]).facts()
    assert not {"solver", "alpha", "status"} & facts.keys()
    assert facts["weights"] == ["sha256 " + "ab" * 32]


def test_another_scale_than_that_of_the_result(finish: Finish, tmp_path: Path) -> None:
    """What is shown is what was computed from, or nothing."""
    inputs = finish(scale=250.0)
    with pytest.raises(StudyError, match=r"sub-01: the inputs come out on another intensity scale .* expected 250.0"):
        study_report(inputs, tmp_path / "out")


def test_no_result(finish: Finish, tmp_path: Path) -> None:
    inputs = finish()
    with pytest.raises(StudyError, match="study sub-01: no finished result in .*; run it first"):
        study_report(inputs, tmp_path / "elsewhere")


def test_inputs_have_to_be_those_of_the_result(finish: Finish, tmp_path: Path) -> None:
    inputs = finish()
    inputs.members["low"].write_bytes(inputs.members["high"].read_bytes())
    with pytest.raises(StudyError, match="study sub-01, low: the file has changed since the result was made"):
        study_report(inputs, tmp_path / "out")


def test_finished_studies(finish: Finish, tmp_path: Path) -> None:
    first, second = finish("sub-01"), finish("sub-02", members=("pre", "low"))
    (tmp_path / "out" / "empty").mkdir()
    assert finished_studies(tmp_path / "out") == [first, second]
    (tmp_path / "out" / "sub-01" / "result.json").unlink()
    assert finished_studies(tmp_path / "out") == [second]
    assert finished_studies(tmp_path / "out", tmp_path / "data") == [second]
    (tmp_path / "data").rename(tmp_path / "moved")
    (lost,) = finished_studies(tmp_path / "out")
    with pytest.raises(StudyError, match=r"sub-02, pre.nii.gz: the file is not where it was .*; .* --dataset DIR"):
        lost.check()
    (moved,) = finished_studies(tmp_path / "out", tmp_path / "moved")
    assert moved.members["low"] == tmp_path / "moved" / "sub-02" / "low.nii.gz"
    with pytest.raises(ConfigurationError, match="no finished result in "):
        finished_studies(tmp_path / "moved")


def test_the_series_that_were_taken(finish: Finish, tmp_path: Path) -> None:
    study = finish()
    entry = {"description": "T1 & low", "images": 24, "reason": "rule 1"}
    content = {"members": {"low": entry}, "notes": ["2 damaged images"]}
    (study.members["low"].parent / "series.json").write_text(json.dumps(content))
    page = Page(study_report(study, tmp_path / "out")["report"])
    assert 'low.nii.gzDICOM series "T1 & low", 24 images; rule 1' in page.facts()["low"][0]
    assert "Of the examination: 2 damaged images." in page.text


def test_a_page_that_cannot_be_written(finish: Finish, tmp_path: Path) -> None:
    study = finish()
    (tmp_path / "out" / "sub-01" / "report.html").mkdir()
    with pytest.raises(StudyError, match=r"study sub-01: the report cannot be written \(Is a directory\); free space"):
        study_report(study, tmp_path / "out")
