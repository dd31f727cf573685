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
"""Put measured numbers where they are shown: README, results page, model cards, and the bundles' metadata.

    python benchmarks/publish.py

Reads ``approaches``, ``real_examinations``, ``false_enhancement``, ``operator_accuracy``, ``domain``, ``solver``,
``solver_quality``, ``whole_study``, ``cohort_throughput``, ``alpha_auto``, ``adaptive`` and ``adaptive_real`` of
``benchmarks/results/*.json`` and rewrites what stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``,
and ``eval_metrics``, ``alpha_rule`` and ``adaptive_prior`` in ``metadata.json``. Nobody types a number twice;
``--check`` only says whether everything shows the numbers that were measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # run as a script, too

from benchmarks.columns import (  # noqa: E402
    ACCURACY,
    ADAPTIVE,
    ADAPTIVE_IMAGE,
    ADAPTIVE_KINDS,
    ADAPTIVE_METRICS,
    ADAPTIVE_PARTS,
    ADAPTIVE_REAL_IMAGE,
    ALPHA_AUTO,
    ALPHA_KINDS,
    BASELINES,
    COHORT_COLUMNS,
    FALSE,
    MAP,
    QUALITY,
    RACE,
    RACE_IMAGE,
    SAVED,
    WHOLE,
)
from benchmarks.lesion_tables import lesions_by_size, real_lesions  # noqa: E402
from benchmarks.tables import Row, named, numbers, table  # noqa: E402
from monai_lipcar.report import METRIC_NAMES  # noqa: E402
from monai_lipcar.transforms.domain_features import FEATURES  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
TO_FULL, TO_LOW = "to full dose", "to low dose"
SHORT = ("ssim_head", "psnr_head", "psnr_enhancing", "enhancement_recovery")
LONG = (
    *("ssim_head", "psnr_head", "relative_error_head", "psnr_enhancing", "enhancement_recovery"),
    *("psnr_lesion", "enhancement_recovery_lesion", "ssim", "psnr"),
)
HEAD_OR_ENHANCING = (
    *("ssim_head", "psnr_head", "relative_error_head"),
    *("ssim_enhancing", "psnr_enhancing", "relative_error_enhancing", "enhancement_recovery"),
)
REAL = (
    *HEAD_OR_ENHANCING,
    *("psnr_lesion", "enhancement_recovery_lesion"),
)
BY_DOSE = ("psnr_head", "ssim_head", "enhancement_recovery")
DOSES = (0.1, 0.2, 0.33)
SHOWN_DOSE = 0.2
NOT_MEASURED = "Not measured yet."
NOT_YET = "Not measured yet with the operators that ship."


def real_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Tables of the real examinations: image metrics and lesions at one dose, and the doses beside each other."""
    simulations = list(content["simulations"])
    tables = {"real examinations": table(real_rows(content, simulations[0], SHOWN_DOSE), REAL)}
    for simulation in simulations:
        rows: dict[str, dict[str, float | None]] = {}
        names = {}
        for metric in BY_DOSE:
            for dose in DOSES:
                names[f"{metric} {dose:g}"] = f"{METRIC_NAMES[metric]}, dose {dose:g}"
                for image, row in real_rows(content, simulation, dose).items():
                    rows.setdefault(image, {})
                    if metric in row:
                        rows[image][f"{metric} {dose:g}"] = row[metric]
        tables[f"real examinations, {simulation}"] = table(rows, tuple(names), names)
        tables[f"real lesions, {simulation}"] = real_lesions(content, simulation, SHOWN_DOSE)
    return tables


def real_rows(content: Mapping[str, Any], simulation: str, dose: float) -> dict[str, Row]:
    """Rows of all examinations under one simulation and dose."""
    rows: dict[str, Row] = {}
    for examination, entry in content["examinations"].items():
        found = entry["results"].get(simulation, {}).get(f"{dose:g}", {})
        for image, row in named(found).items():
            rows[f"{examination}: {image}"] = dict.fromkeys(HEAD_OR_ENHANCING) if row is None else row
    return rows


def accuracy_tables(content: Mapping[str, Any] | None) -> dict[str, str]:
    """What makes an operator accurate, a variant a row; a sentence where it was not measured."""
    tables = {}
    for operator in ("ph2l", "pl2h"):
        rows = {} if content is None else content["operators"].get(operator, {})
        tables[f"accuracy, {operator}"] = numbers(rows, ACCURACY) if rows else NOT_MEASURED
    return tables


def race_tables(content: Mapping[str, Any] | None) -> dict[str, str]:
    """Tables of the race of the solvers; a sentence where it has not been run."""
    if content is None:
        return dict.fromkeys(("race", "saved", "proximal map", "peak memory"), NOT_YET)
    race: dict[str, Row] = {}
    saved: dict[str, Row] = {}
    for bundle, levels in content["problems"].items():
        for level, racers in levels.items():
            race |= {f"`{bundle}`, noise {level}: {racer}": row for racer, row in racers.items()}
            saved[f"`{bundle}`, noise {level}"] = content["against_adam"][bundle][level]
    maps = {row["title"]: row for row in content["proximal_map"]}
    peaks = {f"`{bundle}`": row for bundle, row in content["peak_mib"].items()}
    solvers = list(next(iter(peaks.values())))
    names = {name: (f"{'before the solve' if name == 'start' else name} (MiB)", 0) for name in solvers}
    return {
        "race": f"{RACE_IMAGE}\n\n{numbers(race, RACE)}",
        "saved": numbers(saved, SAVED),
        "proximal map": numbers(maps, MAP),
        "peak memory": numbers(peaks, names),
    }


def quality_table(content: Mapping[str, Any] | None) -> str:
    """Images of the two solvers against the truth, by bundle and noise; a sentence where it was not measured."""
    if content is None:
        return NOT_YET
    rows = {
        f"`{bundle}`, noise {level}": {**found, "slices": len(found["slices"])}
        for bundle, entry in content["bundles"].items()
        for level, found in entry["levels"].items()
        if "slices" in found
    }
    return numbers(rows, QUALITY)


def whole_table(content: Mapping[str, Any] | None) -> str:
    """A whole study with each solver and precision; a sentence where it was not measured."""
    if content is None:
        return NOT_YET
    rows = {}
    for name, row in content["rows"].items():
        computed = row["solver"].get("network_precision", "float32")
        rows[f"{name} (computed in {computed})"] = {**row, "slices": content["slices"]}
    return numbers(rows, WHOLE)


def adaptive_tables(content: Mapping[str, Any] | None, real: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Tables of the adaptive prior by condition, a sentence where they were not measured.

    Args:
        content: on simulated heads.
        real: on real examinations.
    """
    tables = dict.fromkeys(
        ("adaptive", *(f"{part}, {one}" for part in ADAPTIVE_PARTS for one in ADAPTIVE_METRICS)), NOT_YET
    )
    parts: dict[str, Mapping[str, Any]] = {}
    if content is not None:
        kinds = {kind: {name: found[name] for name in ADAPTIVE_KINDS} for kind, found in content["kinds"].items()}
        tables["adaptive"] = f"{ADAPTIVE_IMAGE}\n\n{numbers(kinds, ADAPTIVE_KINDS)}"
        parts |= content
    if real is not None:
        parts["real"] = {
            f"{name}, {condition}": approaches
            for name, entry in real["examinations"].items()
            for condition, approaches in entry["conditions"].items()
        }
    for part, (metric, digits) in itertools.product(ADAPTIVE_PARTS, ADAPTIVE_METRICS.items()):
        names = {name: (title, digits) for name, title in {**ADAPTIVE, "adaptive": "adaptive"}.items()}
        rows = {
            condition: {name: approaches[name].get(metric) for name in names} | {"shortfall": approaches["shortfall"]}
            for condition, approaches in parts.get(part, {}).items()
        }
        if metric == "ssim_head":
            names["shortfall"] = ("below the best of the four", 4)
        if rows:
            tables[f"{part}, {metric}"] = numbers(rows, names)
    if real is not None:
        tables["real, ssim_head"] = f"{ADAPTIVE_REAL_IMAGE}\n\n{tables['real, ssim_head']}"
    return tables


def alpha_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """What ``--alpha auto`` loses by bundle and noise, on the heads that its rules were fitted to and on others."""
    bundles = content["bundles"]
    kinds, fitted, checked = (
        {f"`{bundle}`, {name}": row for bundle, entry in bundles.items() for name, row in part(entry).items()}
        for part in (
            lambda entry: entry["rules"],
            lambda entry: entry["conditions"],
            lambda entry: entry.get("checked", {}).get("conditions", {}),
        )
    )
    return {
        "alpha kinds": numbers(kinds, ALPHA_KINDS),
        "alpha auto": numbers(fitted, ALPHA_AUTO),
        "alpha auto, other studies": numbers(checked, ALPHA_AUTO) if checked else NOT_MEASURED,
    }


def cohort_table(content: Mapping[str, Any] | None) -> str:
    """Table of the throughput of cohorts, a sentence where it was not measured."""
    if content is None:
        return NOT_MEASURED
    rows = {f"`--workers {number}`": row for number, row in content["workers"].items()}
    few, many = content["many"]["studies"]
    said = (
        f"Measured over {content['studies']} studies ({content['anatomy']} heads), `{content['bundle']}`, on "
        f"{content['machine']['cores']} processor cores. Whether memory grows with the studies that are done was seen "
        f"by runs over {few} and {many} small ones:"
    )
    return f"{said}\n\n{numbers(rows, COHORT_COLUMNS)}"


def domain_tables(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tables of the studies that should be refused and of those that should not: counted by what they are, and each.

    Args:
        cases: rows of ``benchmarks/domain.py``.
    """
    counted: dict[tuple[bool, str], list[Any]] = {}
    for what in dict.fromkeys((row["good"], row["fault"]) for row in cases):
        rows = [row for row in cases if (row["good"], row["fault"]) == what]
        missed = [row for row in rows if not _found(row)]
        refused = sum(row["registration"] not in (None, "passes") for row in missed)
        levels = [row["verdict"]["level"].replace("_", " ") for row in missed if row["verdict"]]
        said = ", ".join(f"{levels.count(level)} {level}" for level in dict.fromkeys(levels))
        counted[what] = [len(rows), len(rows) - len(missed), refused or "", said]
    lines = ["| | studies | flagged | else refused by the registration check | verdict on the others |"]
    lines.append("| --- | ---: | ---: | ---: | --- |")
    for good, title in ((True, "should pass"), (False, "should be refused")):
        of_kind = {fault: row for (is_good, fault), row in counted.items() if is_good == good}
        total = [sum(row[column] or 0 for row in of_kind.values()) for column in range(3)]
        bold = [f" **{number}** " for number in total[:2]] + [f" **{total[2]}** " if total[2] else " "]
        lines.append(f"| **{title}** |{'|'.join(bold)}| |")
        lines += [f"| {fault} | {' | '.join(map(str, row))} |" for fault, row in sorted(of_kind.items())]
    each = ["| study | what it is | out of range | registration check | verdict |", "| --- | --- | --- | --- | --- |"]
    for row in sorted(cases, key=lambda row: (not row["good"], row["fault"], row["source"])):
        names = {feature.label: f"`{name}`" for name, feature in FEATURES.items()}
        outside = ", ".join(names[one.split(":")[0]] for one in row["findings"] or ()) or "nothing"
        registration = (row["registration"] or "").split(" (")[0]
        level = (row["verdict"] or {}).get("level", "").replace("_", " ")
        cells = (row["source"], row["fault"], row.get("failed", outside), registration, level)
        each.append("| " + " | ".join(cells) + " |")
    return {"domain": "\n".join(lines), "domain, each": "\n".join(each)}


def _found(row: Mapping[str, Any]) -> bool:
    return row["findings"] is None or bool(row["findings"])


def fill(file: Path, tables: Mapping[str, str]) -> dict[Path, str]:
    """The file's new text, if it changes."""
    text = file.read_text(encoding="utf-8")
    new = text
    for name, content in tables.items():
        pattern = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end of table -->)"

        def filled(found: re.Match[str], body: str = content) -> str:
            return f"{found[1]}{body}\n{found[2]}"

        new, count = re.subn(pattern, filled, new, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{file}: expected one table {name!r} between its marks, found {count}")
    return {} if new == text else {file: new}


def evaluated(metadata: Path, row: Row, measured: Mapping[str, Any]) -> dict[Path, str]:
    """The metadata file with these ``eval_metrics`` and further entries, if it changes."""
    text = metadata.read_text(encoding="utf-8")
    content = {**json.loads(text), **measured}
    content["eval_metrics"] = {name: round(value, 4) for name, value in row.items() if value is not None}
    new = json.dumps(content, indent=4) + "\n"
    return {} if new == text else {metadata: new}


def changes() -> dict[Path, str]:
    """New texts of all files that do not show what was measured."""

    def read(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))

    approaches: dict[str, dict[str, Row]] = read("approaches")["mean"]
    false_enhancement: dict[str, dict[str, Row]] = read("false_enhancement")["mean"]
    real: dict[str, Any] = read("real_examinations")
    pages = {
        "to full dose": table(named(approaches[TO_FULL]), LONG),
        "to low dose": table(named(approaches[TO_LOW]), LONG),
        "lesions by size": lesions_by_size(approaches[TO_FULL]),
        **{
            f"false enhancement, {title}": numbers(named(false_enhancement[anatomy]), FALSE)
            for title, anatomy in (("human heads", "mni152"), ("rats", "rat"))
        },
        **real_tables(real),
    }
    new = fill(REPOSITORY / "docs" / "results.md", pages)
    accuracy, race, quality, whole, cohort, adaptive, adaptive_real = (
        json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        for file in (
            RESULTS / f"{name}.json"
            for name in (
                *("operator_accuracy", "solver", "solver_quality", "whole_study", "cohort_throughput"),
                *("adaptive", "adaptive_real"),
            )
        )
    )
    solvers = {**race_tables(race), "quality": quality_table(quality), "whole study": whole_table(whole)}
    new |= fill(REPOSITORY / "docs" / "domain.md", domain_tables(read("domain")["cases"]))
    automatic = read("alpha_auto")
    outputs = {"cohort throughput": cohort_table(cohort), **alpha_tables(automatic)}
    new |= fill(REPOSITORY / "docs" / "outputs.md", outputs)
    new |= fill(REPOSITORY / "docs" / "solvers.md", solvers)
    new |= fill(REPOSITORY / "docs" / "priors.md", adaptive_tables(adaptive, adaptive_real))
    new |= fill(REPOSITORY / "README.md", {"results": table(named(approaches[TO_FULL]), SHORT)})
    new |= fill(REPOSITORY / "docs" / "training.md", accuracy_tables(accuracy))
    for direction in (TO_FULL, TO_LOW):
        compared = {name: row for name, row in approaches[direction].items() if name in BASELINES}
        for bundle, row in approaches[direction].items():
            if bundle not in BASELINES:
                folder = REPOSITORY / "bundles" / bundle
                shown = table(named({**compared, bundle: row}), LONG)
                new |= fill(folder / "docs" / "README.md", {"performance": shown})
                measured = {"adaptive_prior": adaptive["adaptive_prior"]} if adaptive and bundle == "ph2l_gentv" else {}
                if bundle in automatic["bundles"]:
                    measured |= {"alpha_rule": automatic["bundles"][bundle]["alpha_rule"]}
                new |= evaluated(folder / "configs" / "metadata.json", row, measured)
    return new


def main() -> None:
    """Run it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is out of date")
    arguments = parser.parse_args()
    new = changes()
    for file, text in new.items():
        logging.info("%s %s", "out of date:" if arguments.check else "written:", file.relative_to(REPOSITORY))
        if not arguments.check:
            file.write_text(text, encoding="utf-8")
    raise SystemExit(1 if arguments.check and new else 0)


if __name__ == "__main__":
    main()
