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
"""Options of the command line: what cannot be used is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "nowhere"),
        ("run", "nowhere", "out"),
        ("run", "nowhere", "out", "--bundle", "physics_tv"),
        ("evaluate", "nowhere", "out", "--bundle", "physics_tv"),
        ("simulate-dose", "nowhere", "out"),
        ("report", "nowhere"),
        ("report", "nowhere", "--dataset", "nowhere"),
    ],
)
def test_unknown_path(arguments: tuple[str, ...], command: Command) -> None:
    ended = command(*arguments)
    assert ended.status == 1
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ")
    assert "nowhere" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--bundle", "l2h", "--alpha", "0.1"),
            "alpha: the bundle l2h applies an operator, it has no prior and no solver",
        ),
        (("--bundle", "h2l", "--solver", "paper"), "solver: the bundle h2l applies an operator"),
        (("--bundle", "physics_tv", "--denoise", "nonsense"), "unknown denoising method 'nonsense': expected one of "),
        (
            ("--bundle", "physics_tv", "--alpha", "-1"),
            "alpha: expected a number that is not negative or 'auto', got -1.0",
        ),
        (("--bundle", "physics_tv", "--device", "nonsense"), "device: 'nonsense' cannot be used"),
    ],
)
def test_option_that_cannot_be_used(arguments: tuple[str, ...], message: str, command: Command, dataset: Path) -> None:
    ended = command("run", dataset, "out", *arguments)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "option",
    [("--bundle", "nonsense"), ("--max-iterations", "0"), ("--alpha", "minus"), ("--out-of-domain", "nonsense")],
)
def test_value_that_the_command_line_refuses(option: tuple[str, str], command: Command, dataset: Path) -> None:
    ended = command("run", dataset, "out", *option)
    assert ended.status == 2
    assert option[0] in ended.err
    if option[0] == "--alpha":
        assert "'minus' is neither a number nor 'auto'" in ended.err


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_both_spellings_of_an_option(verb: str, command: Command) -> None:
    options = ("--out_of_domain", "ignore", "--max_iterations", 2, "--across_slices", "--dose-fraction", 0.2)
    ended = command(verb, "nowhere", "out", "--bundle", "physics_tv", *options)
    assert ended.status == 1
    assert ended.err.startswith("error: dataset folder nowhere cannot be read")
    ended = command(verb, "nowhere", "out", "--bundle", "ph2l_tv", "--registration_policy", "raise", "--out_of_domains")
    assert ended.status == 2
    assert "No such option" in ended.err


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_across_slices_is_of_inverse_problems(verb: str, command: Command) -> None:
    ended = command(verb, "nowhere", "out", "--bundle", "l2h", "--across-slices")
    assert ended.err.startswith("error: across_slices: the bundle l2h applies an operator")


def test_both_spellings_of_a_command(command: Command) -> None:
    ended = command("simulate_dose", "nowhere", "out", "--dose_fraction", 0.3)
    assert ended.err.startswith("error: dataset folder nowhere")


def test_a_datalist_in_place_of_a_folder(command: Command, dataset: Path, tmp_path: Path) -> None:
    (study,) = (path for path in dataset.iterdir() if path.is_dir())
    members = {name: str(study / f"{name}.nii.gz") for name in ("pre", "low")}
    entries = [{"study_id": name, **members} for name in "ab"]
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"training": entries[:1], "test": entries[1:]}))
    quick = ("--bundle", "physics_tv", "--max-iterations", "2", "--device", "cpu", "--registration-policy", "drop")
    ended = command("run", file, tmp_path / "out", *quick)
    assert ended.status == 0, ended.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "b",
        "index.html",
        "manifest.json",
        "studies.csv",
    ]
    assert command("run", file, tmp_path / "out", *quick, "--section", "training").status == 0
    assert all((tmp_path / "out" / name / "report.html").is_file() for name in "ab")
    (tmp_path / "out" / "a" / "report.html").unlink()
    assert command("report", tmp_path / "out", "--dataset", file).status == 0
    assert (tmp_path / "out" / "a" / "report.html").is_file()
    ended = command("check", file, "--json")
    assert [row["study_id"] for row in json.loads(ended.out)] == ["a", "b"]


def test_a_section_of_no_datalist(command: Command, dataset: Path, tmp_path: Path) -> None:
    ended = command("run", dataset, tmp_path / "out", "--section", "test")
    assert ended.status == 1
    assert ended.err.startswith(f"error: --section is of a datalist, and {dataset} is no file")
