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
"""The pages in a real browser: no error on its console, the slider works, and nothing sticks out on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from monai_lipcar.report import Panel, write_index
from monai_lipcar.report.cohort import INDEX_FILE
from monai_lipcar.report.page import render
from monai_lipcar.report.viewer import make_viewer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

NAME = "</title><script>console.error('injected')</script><img src=x onerror=console.error('injected')>"
WIDTHS = [1400, 390]


def page_of_a_study() -> str:
    """The page of a study whose name is an attack; its volumes are a ramp over five slices."""
    volume = np.ones((60, 60, 5), dtype=np.float32) * np.arange(1, 6, dtype=np.float32)
    marked = np.zeros(volume.shape, dtype=bool)
    marked[20:30, 20:30, 3] = True
    rows = [[Panel(f"image {number}", volume) for number in range(5)], [Panel("error", volume, "difference")]]
    digest = "0123456789abcdef" * 4
    return render(
        "study.html.j2",
        record={
            "study_id": NAME,
            "notice": "simulated image",
            "bundle": {"name": "physics_tv", "version": "1"},
            "versions": {"monai_lipcar": "1"},
            "configuration": {"dose_fraction": 0.2, "a_setting": NAME},
            "inputs": {"low": {"file": NAME, "sha256": digest}},
            "solver": {"name": "proximal"},
            "schema_version": "1.4",
            "device": "cpu",
            "warnings": [NAME],
        },
        verdict={"level": "look", "reasons": [NAME]},
        places=[{"slice": 4, "what": "darker", "value": 2.0, "voxel": [1, 2, 3], "position": "120 R, 120 A, 120 S"}],
        tiles=[("noise level sigma", "0.0051")] * 6,
        viewer=make_viewer(rows, 2, np.eye(4), marked),
        columns=5,
        first_slice=2,
        facts=[("certificate: relative prox gradient residual", "0.061 in the worst slice", "the same. " * 12)],
        metrics={},
        lesions=[],
        by_size={},
        series={"low": f'DICOM series "{NAME}", 24 images; rule 1'},
        series_notes=[NAME],
        registration={"low": "0.31 mm, 0.03° against low (tolerated: 1.50 mm, 0.5°); undone to 0.04 mm"},
        hashes={"high_sim.nii.gz": digest},
        plots={},
    )


def browse(path: Path, width: int, tmp_path: Path) -> tuple[str, list[str]]:
    """The document as it is after the page's script ran, and the lines on the console."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"),
        *("--enable-logging=stderr", "--virtual-time-budget=2000", f"--window-size={width},900"),
        *(f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def with_script(page: str, script: str) -> str:
    """The page without its security policy, and with a script of the test at its end."""
    page, count = re.subn(r"<meta http-equiv=[^>]*>", "", page)
    assert count == 1
    return page.replace("</body>", f"<script>{script}</script></body>")


def measured(page: str, width: int, tmp_path: Path) -> str:
    """Width of the page's window, and how much sticks out of it, as a frame of that width tells on the console.

    A window of its own is never narrower than 500 pixels.
    """
    tell = """
    const root = document.documentElement;
    console.log(`measured ${window.innerWidth}, over ${root.scrollWidth - root.clientWidth}`);
    """
    (tmp_path / "inner.html").write_text(with_script(page, tell), encoding="utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(f'<!DOCTYPE html><iframe src="inner.html" style="border: 0; width: {width}px; height: 900px">')
    (line,) = browse(outer, 1500, tmp_path)[1]
    return line


def shown(document: str) -> list[str]:
    """Slices whose pictures are shown, one for each panel."""
    return [
        re.findall(r'data-slice="(\d)"', tag)[0] for tag in re.findall(r"<img [^>]*>", document) if " hidden" not in tag
    ]


def test_the_console_would_show_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!DOCTYPE html><script>missing()</script>")
    _, console = browse(tmp_path / "page.html", 800, tmp_path)
    assert any("missing is not defined" in line for line in console)


def test_the_page_of_a_study_runs_without_error_and_without_the_attack(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of_a_study(), encoding="utf-8")
    document, console = browse(path, 1400, tmp_path)
    assert console == []
    assert 'id="tools" hidden' not in document  # the script ran under the page's policy
    assert shown(document) == ["2"] * 6


def test_the_slider_shows_one_slice(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    move = """
    const slider = document.getElementById("slice");
    slider.value = 4; slider.dispatchEvent(new Event("input"));
    document.getElementById("on").click();
    document.getElementById("on").click();
    """
    path.write_text(with_script(page_of_a_study(), move), encoding="utf-8")
    document, console = browse(path, 1400, tmp_path)
    assert console == []
    assert shown(document) == ["5"] * 6  # the last one, however often one goes on
    assert re.search(r'id="number">5<', document)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_of_the_page_of_a_study(width: int, tmp_path: Path) -> None:
    assert f"measured {width}, over 0" in measured(page_of_a_study(), width, tmp_path)


def test_a_place_to_look_at_is_one_click_away(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    click = 'document.querySelector("[data-go]").click();'
    path.write_text(with_script(page_of_a_study(), click), encoding="utf-8")
    document, _ = browse(path, 1400, tmp_path)
    assert shown(document) == ["4"] * 6
    marks = re.findall(r'<span class="mark"[^>]*>', document)
    assert len(marks) == 6
    assert not any(" hidden" in mark for mark in marks)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_all_studies(width: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub-01").mkdir(parents=True)
    (out / "sub-01" / "result.json").write_text('{"sigma": 0.0051, "alpha": 0.001, "status": "max_iterations"}')
    name = NAME.replace("/", "_")
    (out / name).mkdir()
    (out / name / "result.json").write_text('{"warnings": ["a slice is dark"], "sigma": 0.0051}')
    (out / name / "report.html").touch()
    path = write_index(out)
    assert path == out / INDEX_FILE
    assert browse(path, 1400, tmp_path)[1] == []
    assert f"measured {width}, over 0" in measured(path.read_text(encoding="utf-8"), width, tmp_path)
