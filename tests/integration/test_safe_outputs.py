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
"""Results go into their folder and nowhere else, inputs stay as they are, and no name of a patient gets out."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import pytest

from monai_lipcar.bundle import run_studies
from monai_lipcar.cli_show import show_results

OPTIONS = {"max_iterations": 2, "device": "cpu"}
NAME = b"Doe^Jane"


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_and_its_reports(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in (dataset / "small").glob("*.nii.gz"):
        image = nib.load(file)
        image.header["descrip"], image.header["db_name"], image.header["aux_file"] = NAME, NAME, NAME
        nib.save(nib.Nifti1Image(image.get_fdata(dtype="float32"), image.affine, image.header), file)
    assert NAME in gzip.decompress(next((dataset / "small").glob("pre*")).read_bytes())
    shutil.copytree(dataset / "small", dataset / "linked")
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.mkdir()
    (victim / "file").write_text("precious")
    (out / "linked").symlink_to(victim)
    (out / "small").mkdir()
    for name in ("figure.png", "report.html", ".partial-figure.png", ".partial-residual.nii.gz"):
        (out / "small" / name).symlink_to(victim / "file")
    for name in ("index.html", "failures.json", "metrics.json", ".partial-metrics.json", ".write-test"):
        (out / name).symlink_to(victim / "file")
    before = hashes(dataset), hashes(victim)

    with caplog.at_level(logging.DEBUG, logger="monai_lipcar"):
        status, done = run_studies("physics_tv", dataset, out, "evaluate.json", **OPTIONS)
    assert (status, done) == (1, ["small"])
    assert show_results(out, dataset, done)

    assert (hashes(dataset), hashes(victim)) == before
    assert sorted(path.name for path in victim.iterdir()) == ["file"]
    written = [path for path in out.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {"figure.png", "report.html", "index.html", "failures.json", "metrics.json"} <= {
        path.name for path in written
    }
    for path in written:
        content = path.read_bytes()
        assert NAME not in (gzip.decompress(content) if path.suffix == ".gz" else content), path.name
    printed = capfd.readouterr()
    assert NAME.decode() not in caplog.text + printed.out + printed.err
    (line,) = [
        record.message for record in caplog.records if record.message.startswith("study linked: expected a folder")
    ]
    assert "results are never written through links; remove the link" in line
    assert str(tmp_path) not in (out / "failures.json").read_text()


def test_entries_of_a_datalist_that_lead_elsewhere(dataset: Path, tmp_path: Path) -> None:
    good = {name: f"data/small/{name}.nii.gz" for name in ("pre", "low")}
    entries = [
        {"study_id": "good", **good},
        {"study_id": "outside", "pre": "../../../../../../etc/passwd", "low": "/etc/passwd"},
        {"study_id": "long", "pre": "x" * 5000, "low": good["low"]},
        {"study_id": "gone", "pre": "data/../gone.nii.gz", "low": good["low"]},
    ]
    (tmp_path / "list.json").write_text(json.dumps({"test": entries}))
    before = hashes(tmp_path)
    options = {"datalist_file": str(tmp_path / "list.json"), **OPTIONS}
    status, done = run_studies("physics_tv", dataset, tmp_path / "out", **options)
    assert (status, done) == (1, ["good"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["failures.json", "good"]
    reasons = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"]
    assert sorted(reasons) == ["gone", "long", "outside"]
    assert {name: sha for name, sha in hashes(tmp_path).items() if not name.startswith("out/")} == before


def test_results_that_somebody_changed(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(dataset / "small", dataset / "other")
    out = tmp_path / "out"
    options = {**OPTIONS, "registration_policy": "none", "match_intensity": False}
    assert run_studies("physics_tv", dataset, out, **options).done == ["other", "small"]
    before = hashes(out)
    (out / "other" / "high_sim.nii.gz").unlink()
    for content in ('{"configuration": 5}', '{"inputs": [1]}', '{"inputs": {"pre": 3}}', '{"bundle": "x"}'):
        (out / "small" / "result.json").write_text(content)
        caplog.clear()
        status, done = run_studies("physics_tv", dataset, out, **options)
        assert (status, done) == (1, ["other"])
        assert (out / "small" / "result.json").read_text() == content
        assert f"study small: {out / 'small'} holds the result of another run (" in caplog.text
        assert not show_results(out, dataset, ["small"])  # no report of it, and a page of all studies
        assert (out / "index.html").is_file()
    assert hashes(out)["other/high_sim.nii.gz"] == before["other/high_sim.nii.gz"]
