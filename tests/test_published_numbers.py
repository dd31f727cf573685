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
"""The numbers in README, documents, model cards and metadata are those measured with the weights that ship."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.lesion_tables import lesions_by_size, real_lesions

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def publish() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", REPOSITORY / "benchmarks" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_shows_what_was_measured(publish: ModuleType) -> None:
    assert [str(file) for file in publish.changes()] == []


def test_a_number_that_was_typed_is_found(publish: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: results -->\n| low dose | 0.123 |\n<!-- end of table -->\n")
    rows = publish.named({"low": {"ssim_head": 0.25}})
    new = publish.fill(page, {"results": publish.table(rows, ["ssim_head"])})
    assert "| low dose | 0.250 |" in new[page]
    assert "0.123" not in new[page]


def test_lesions_are_shown_by_size_with_the_full_dose_first() -> None:
    low = {"cnr_lesion": 9.0, "cnr_lesion_small": 1.25, "missed_lesions_small": 0.25, "psnr_lesion": 20.0}
    high = {"cnr_lesion": 9.0, "cnr_lesion_small": 4.0, "cnr_lesion_large": 8.0}
    assert lesions_by_size({"low": low, "high": high, "l2h": {"psnr_head": 30.0}}).splitlines() == [
        "| | contrast-to-noise ratio | visible lesions missed, % |",
        "| --- | ---: | ---: |",
        "| < 5 mm: full dose | 4.00 |  |",
        "| < 5 mm: low dose | 1.25 | 25 |",
        "| ≥ 5 mm: full dose | 8.00 |  |",
    ]


def test_lesions_of_real_examinations_are_those_from_5_mm_on() -> None:
    lesion = {"cnr_lesion": 9.0, "cnr_lesion_large": 1.5, "missed_lesions_large": 1.0}
    marked = {"low": {**lesion, "false_enhancement_mm": 0.0}, "high": {"cnr_lesion_large": 5.0}}
    unmarked = {"low": {"cnr_lesion": 9.0, "false_enhancement_mm": 3.655}, "l2h": None}
    examinations = {
        name: {"results": {"gradient echo": {"0.1": {}, "0.2": rows}}}
        for name, rows in {"A": marked, "B": unmarked}.items()
    }
    assert real_lesions({"examinations": examinations}, "gradient echo", 0.2).splitlines() == [
        "| | A: contrast-to-noise ratio | A: visible lesions missed, % | A: largest false component (mm) | "
        "B: largest false component (mm) |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| full dose | 5.00 |  |  |  |",
        "| low dose | 1.50 | 100 | 0.00 | 3.65 |",
        "| `l2h` |  |  |  |  |",
    ]


def test_the_command_of_false_enhancement_names_what_was_measured(publish: ModuleType) -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"python -m benchmarks\.false_enhancement ([^`]*)", page)
    words = shlex.split(command.replace("\\\n", " "))
    named = words[words.index("--bundles") + 1 :]
    measured = json.loads((publish.RESULTS / "false_enhancement.json").read_text(encoding="utf-8"))
    heads, slices = measured["studies"]["mni152"], measured["slices_per_study"]
    assert words[words.index("--heads") + 1] == str(heads)
    said = f"({measured['studies']['rat']} rats, {heads} human heads; of each the {slices} slices"
    assert said in page
    for anatomy, count in measured["studies"].items():
        assert sorted(named) == sorted(set(measured["mean"][anatomy]) - set(publish.BASELINES))
        assert all(sum(name.startswith(anatomy) for name in rows) == count for rows in measured["each"].values())


@pytest.mark.parametrize("name", ["approaches", "false_enhancement", "paper", "real_examinations"])
def test_what_was_measured_is_what_ships(name: str) -> None:
    measured = json.loads((REPOSITORY / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    weights = measured["weights"].get("sha256", measured["weights"])
    assert set(weights) == {"l2h", "pl2h", "h2l", "ph2l"}
    for operator, sha256 in weights.items():
        metadata = REPOSITORY / "bundles" / operator / "configs" / "metadata.json"
        assert json.loads(metadata.read_text(encoding="utf-8"))["weights_sha256"]["models/model.pt"] == sha256


def test_default_alphas_are_those_of_the_validation_studies() -> None:
    chosen = json.loads((REPOSITORY / "benchmarks" / "results" / "alpha.json").read_text(encoding="utf-8"))["bundles"]
    assert chosen
    for bundle, entry in chosen.items():
        for file in ("inference.json", "evaluate.json"):
            config = REPOSITORY / "bundles" / bundle / "configs" / file
            assert json.loads(config.read_text(encoding="utf-8"))["alpha"] == entry["best"], (bundle, file)


def test_throughput_of_cohorts_is_shown(publish: ModuleType) -> None:
    row = {"seconds_one": 9.0, "seconds_each": 2.5, "studies_per_hour": 1440.0, "peak_mib_one": 900.4}
    machine, many = {"cores": 2}, {"studies": [20, 120]}
    said = {"studies": 20, "anatomy": "rat", "bundle": "physics_tv", "machine": machine, "many": many}
    content = {**said, "workers": {"2": row}}
    shown = publish.cohort_table(content)
    assert "over 20 studies (rat heads), `physics_tv`, on 2 processor cores" in shown
    assert "| `--workers 2` | 9.0 | 2.50 | 1440 | 900 |" in shown
    assert publish.cohort_table(None) == "Not measured yet."


def test_cases_of_the_domain_check_are_shown(publish: ModuleType) -> None:
    label = "share of the head that enhances"
    found = {"registration": None, "findings": [f"{label}: expected more, got less: why"], "verdict": None}
    passed = {"registration": None, "findings": [], "verdict": {"level": "look"}}
    tables = publish.domain_tables(
        [
            {"source": "head A", "fault": "exchanged", "good": False, **found},
            {"source": "head B", "fault": "exchanged", "good": False, **passed, "registration": "displaced (by 2 mm)"},
            {"source": "head C", "fault": "exchanged", "good": False, **found, "findings": None, "failed": "no tissue"},
            {"source": "head A", "fault": "as acquired", "good": True, **passed},
        ]
    )
    assert tables["domain"].splitlines()[2:] == [
        "| **should pass** | **1** | **0** | | |",
        "| as acquired | 1 | 0 |  | 1 look |",
        "| **should be refused** | **3** | **2** | **1** | |",
        "| exchanged | 3 | 2 | 1 | 1 look |",
    ]
    assert tables["domain, each"].splitlines()[2:] == [
        "| head A | as acquired | nothing |  | look |",
        "| head A | exchanged | `enhancing_share` |  |  |",
        "| head B | exchanged | nothing | displaced | look |",
        "| head C | exchanged | no tissue |  |  |",
    ]


def test_a_race_of_the_solvers_is_shown(publish: ModuleType) -> None:
    row = {"slices": 2, "evaluations_to_adam": 3.0, "reached_adam": 1.0, "psnr_head": 30.125, "seconds_to_adam": None}
    tables = publish.race_tables(
        {
            "problems": {"ph2l_tv": {"0.033": {"ProximalSolver": row}}},
            "against_adam": {"ph2l_tv": {"0.033": {"slices": 2, "outside_network": 0.031}}},
            "proximal_map": [{"title": "a solve", "weight": 0.05, "prox_tv_ms": 3.25, "prox_tv_gap": 0.00098}],
            "peak_mib": {"ph2l_tv": {"start": 512.4, "ProximalSolver": 1024.4}},
        }
    )
    assert "| `ph2l_tv`, noise 0.033: ProximalSolver | 2 | 3.0 | 100 |  | 30.12 |" in tables["race"]
    assert "| `ph2l_tv`, noise 0.033 | 2 | 3.1 |" in tables["saved"]
    assert "deepinv" not in tables["proximal map"]
    assert "| a solve | 0.0500 | 3.2 | 0.00098 |" in tables["proximal map"]
    assert "| `ph2l_tv` | 512 | 1024 |" in tables["peak memory"]


def test_images_of_two_solvers_are_shown(publish: ModuleType) -> None:
    alphas = {"alpha_adam": 0.004, "alpha_proximal": 0.005}
    found = {"slices": ["rat-0002:5", "mni152-0002:5"], **alphas, "psnr_head_difference": -0.0123}
    table = publish.quality_table({"bundles": {"ph2l_tv": {"levels": {"0.033": found, "0.066": alphas}}}})
    assert table.splitlines()[2:] == ["| `ph2l_tv`, noise 0.033 | 2 | 0.0040 | 0.0050 | -0.012 |"]


def test_what_rules_for_alpha_lose_is_shown(publish: ModuleType) -> None:
    row = {
        "best_psnr_head": 30.0,
        "auto": 0.25,
        "auto_worst": 0.5,
        "auto_left_out": 0.375,
        "schedule": 3.0,
        "default": 4.0,
    }
    entry = {
        "rules": {"proportional": {"loss": 0.25, "worst": 0.5, "left_out": 0.375}},
        "conditions": {"noise 0.0": row},
    }
    tables = publish.alpha_tables({"bundles": {"physics_tv": entry}})
    assert "| `physics_tv`, proportional | 0.25 | 0.50 | 0.38 |" in tables["alpha kinds"]
    assert "| `physics_tv`, noise 0.0 | 30.00 | 0.25 | 0.50 | 0.38 | 3.00 | 4.00 |" in tables["alpha auto"]
    assert tables["alpha auto, other studies"] == "Not measured yet."
    other = {name: value for name, value in row.items() if name != "auto_left_out"}
    checked = {"physics_tv": {**entry, "checked": {"conditions": {"all": other}}}}
    shown = publish.alpha_tables({"bundles": checked})["alpha auto, other studies"]
    assert "without the head" not in shown
    assert "| `physics_tv`, all | 30.00 | 0.25 | 0.50 | 3.00 | 4.00 |" in shown


def test_a_whole_study_is_shown(publish: ModuleType) -> None:
    rows = {
        "proximal": {"solver": {}, "seconds": 60.04, "peak_mib": 1500.2, "times_faster": 15.0},
        "proximal, precision auto": {
            "solver": {"network_precision": "bfloat16"},
            **{"seconds": 30.0, "peak_mib": 1400.0, "times_faster": 30.0},
        },
        "paper": {"solver": {}, "seconds": 900.0, "peak_mib": 1400.0, "times_faster": 1.0},
    }
    assert publish.whole_table({"slices": 24, "rows": rows}).splitlines()[2:] == [
        "| proximal (computed in float32) | 24 | 60.0 | 1500 | 15.0 |",
        "| proximal, precision auto (computed in bfloat16) | 24 | 30.0 | 1400 | 30.0 |",
        "| paper (computed in float32) | 24 | 900.0 | 1400 | 1.0 |",
    ]


@pytest.mark.parametrize("name", ["solver", "solver_quality", "whole_study"])
def test_the_race_was_run_with_what_ships(name: str) -> None:
    file = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    if not file.is_file():
        pytest.skip("the race has not been run with the weights that ship")
    content = json.loads(file.read_text(encoding="utf-8"))
    entries = content["bundles"].values() if "bundles" in content else [content]
    for operator, sha256 in [pair for entry in entries for pair in entry["weights"].items()]:
        metadata = REPOSITORY / "bundles" / operator / "configs" / "metadata.json"
        assert json.loads(metadata.read_text(encoding="utf-8"))["weights_sha256"]["models/model.pt"] == sha256
