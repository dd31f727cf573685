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
"""The page of all studies: the most concerning first, and nothing in it but text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.report import write_index
from monai_lipcar.report.cohort import study_rows


def finish(out: Path, study_id: str, level: str, worst: float = 0.0, report: bool = True, **more: Any) -> None:
    folder = out / study_id
    folder.mkdir(parents=True)
    places = [{"kind": "residual", "slice": 0, "rows": [0, 1], "columns": [0, 1], "value": worst}] if worst else []
    verdict = {
        "level": level,
        "reasons": [f"it is {level}"],
        "measures": {"residual_head": 0.912, "residual_window": 2.0 * worst},
        "places": places,
        "slices": {},
    }
    record = {"study_id": study_id, "verdict": verdict, "sigma": 0.00512, "alpha": 0.001, "status": "converged", **more}
    (folder / "result.json").write_text(json.dumps(record))
    if report:
        (folder / "report.html").write_text("")


def fail(out: Path, **reasons: str) -> None:
    out.mkdir(exist_ok=True)
    (out / "failures.json").write_text(json.dumps({"failures": reasons}))


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_most_concerning_first(tmp_path: Path) -> None:
    finish(tmp_path, "a-fine", "explained")
    finish(tmp_path, "b-warned", "explained", warnings=["a slice is dark"])
    finish(tmp_path, "c-slightly", "look", worst=1.1)
    finish(tmp_path, "d-unknown", "not_judged")
    finish(tmp_path, "e-strange", "out_of_domain", worst=1.5)
    finish(tmp_path, "f-clearly", "look", worst=4.0)
    finish(tmp_path, "g-of-another-run", "explained")
    fail(tmp_path, **{"h-broken": "low: the volume is missing", "g-of-another-run": "holds the result of another run"})
    rows = study_rows(tmp_path)
    assert [row.study_id[0] for row in rows] == list("ghefcdba")
    assert rows[0].reasons == ("holds the result of another run",)
    assert rows[1].level == "failed"
    assert rows[6].notes == ("a slice is dark",)


def test_page(tmp_path: Path) -> None:
    finish(tmp_path, "sub-01", "look", worst=1.5, metrics={"simulated": {"ssim_head": 0.9512}})
    finish(tmp_path, "sub-02", "explained", report=False)
    fail(tmp_path, **{"sub-03": "low: the volume is missing; add low.nii.gz"})
    page = Links(write_index(tmp_path))
    table = (tmp_path / "studies.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("study_id,level,reasons,notes,report")
    assert [line.split(",")[0] for line in table[1:]] == [row.study_id for row in study_rows(tmp_path)]
    listed = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["studies"]
    assert {name: one["level"] for name, one in listed.items()} == {
        "sub-01": "look",
        "sub-02": "explained",
        "sub-03": "failed",
    }
    assert page.links == ["./sub-01/report.html"]
    for text in (
        "Not explained here: look",
        "it is look",
        "low: the volume is missing; add low.nii.gz",
        "0.951",
        "3.00",
    ):
        assert text in page.text
    assert "it is explained" not in page.text  # nothing to say about it
    assert "for research use only, not for diagnosis" in page.text
    assert page.text.index("sub-03") < page.text.index("sub-01") < page.text.index("sub-02")


@pytest.mark.parametrize("name", ["javascript:alert(1)", '"><script>alert(1)<', "a&b 'c\"", "..%2F..%2Fetc", "#x?y"])
def test_a_malicious_study_is_text_and_its_link_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    code = "<img src=x onerror=alert(1)></td><script>alert(2)</script>"
    finish(tmp_path, name.replace("/", "_"), "look", worst=2.0, warnings=[code])
    fail(tmp_path, **{code: code})
    page = Links(write_index(tmp_path))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(code) == 3
    (link,) = page.links
    assert re.fullmatch(r"\./[\w.%~-]+/report\.html", link)


def test_a_record_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "result.json").write_text('{"study_id": "sub-01"}')
    (row,) = study_rows(tmp_path)
    assert (row.level, row.link, row.numbers) == ("not_judged", None, {})


def test_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no result and no failure in"):
        write_index(tmp_path)
