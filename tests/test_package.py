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
"""Tests of the package as a whole: versions, licenses, import time, and nothing of the machine it was written on."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import itertools
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import monai_lipcar

ROOT = Path(__file__).resolve().parent.parent
SOURCE_FOLDERS = (
    "monai_lipcar",
    "tests",
    "bundles",
    "benchmarks",
    "docs",
    "examples",
    "monailabel_app",
    "tools",
    ".ci",
)
TEXT_SUFFIXES = {".py", ".md", ".json", ".toml", ".cfg", ".cff", ".txt", ".yaml", ".yml", ".html", ".j2", ".conf", ""}
LICENSE_HEADER = (ROOT / "monai_lipcar" / "__init__.py").read_text(encoding="utf-8").splitlines()[:10]


def text_files() -> list[Path]:
    """Every text file of the project: of its source folders and of its top level."""
    files = [file for file in ROOT.iterdir() if file.is_file()]
    for folder in SOURCE_FOLDERS:
        files += [file for file in (ROOT / folder).rglob("*") if file.is_file()]
    hidden = {".git", "__pycache__", "_build", "auto_gallery", "output", "runs"}  # .git: a file in a linked worktree
    return sorted(
        file for file in files if file.suffix in TEXT_SUFFIXES and not hidden & {*file.relative_to(ROOT).parts}
    )


def test_version_is_the_same_everywhere() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: monai_lipcar.__version__"
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None
    assert citation[1] == monai_lipcar.__version__
    assert releases[0] == monai_lipcar.__version__


def test_changelog_has_room_for_the_next_change() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_import_is_light() -> None:
    heavy = "{'torch', 'monai', 'itk', 'matplotlib', 'skimage', 'scipy', 'nilearn', 'pydicom', 'bm3d', 'numpy'}"
    code = f"import sys, monai_lipcar; print(*sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["phantom", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """What makes it quick: 0.2 to 0.4 s of processor time, of which importing torch alone would take more."""
    code = (
        "import sys\nfrom monai_lipcar.cli import main\n"
        f"sys.argv = ['monai_lipcar', *{arguments}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted({'torch', 'monai', 'numpy', 'scipy', 'itk', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Usage" in result.stdout
    assert result.stderr.split() == []


def test_rooms_import_little_beside_monai() -> None:
    """The rooms of the package cost about what monai costs: the large libraries are imported where they are used."""
    rooms = ("physics", "data", "transforms", "networks", "problem", "inferers", "metrics", "engines", "handlers")
    large = "{'itk', 'skimage', 'nilearn', 'pydicom', 'highdicom', 'bm3d', 'sklearn', 'pandas', 'matplotlib', 'onnx'}"
    code = (
        "import sys, monai\nbefore = set(sys.modules)\n"
        f"import {', '.join(f'monai_lipcar.{room}' for room in rooms)}\n"
        f"print(*sorted({large} & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == []


def test_every_python_file_starts_with_the_license_header() -> None:
    assert LICENSE_HEADER[0] == "# Copyright (c) monai_lipcar contributors"
    python = [file for file in text_files() if file.suffix == ".py"]
    assert len(python) > 10
    without = [
        str(file.relative_to(ROOT))
        for file in python
        if file.read_text(encoding="utf-8").splitlines()[:10] != LICENSE_HEADER
    ]
    assert without == []


def test_no_file_names_a_path_of_a_machine() -> None:
    # assembled, so that this file does not name one itself
    folders = "|".join(("home/[a-z]", "Users/[A-Za-z]", "root/", "work/", "mnt/", "scratch/", "opt/[a-z]"))
    pattern = re.compile(rf"(?<![\w./~$}}-])/(?:{folders})")
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for file in text_files()
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="ignore").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_no_file_is_too_long() -> None:
    python = [file for file in text_files() if file.suffix == ".py"]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in python}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("package", ["bm3d", "monailabel"])
def test_what_not_everyone_may_or_can_install_is_asked_for_by_name_only(package: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    naming = [extra for extra, names in setup["options.extras_require"].items() if package in names]
    assert naming == (["bm3d"] if package == "bm3d" else [])
    assert package not in setup["options"]["install_requires"]


def pinned_in(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.match(r"^[a-z0-9-]+==[^\s+]+( ; .+)?$", pin)] == []
    return {pin.partition("==")[0] for pin in pins}


def rooms() -> list[str]:
    """The packages inside the package, and the modules at its top that are for use from Python."""
    packages = pkgutil.walk_packages(monai_lipcar.__path__, "monai_lipcar.")
    modules = [f"monai_lipcar.{name}" for name in ("bundle", "bundle_package", "check", "errors", "simulate")]
    return [*(module.name for module in packages if module.ispkg and "template" not in module.name), *modules]


def test_the_reference_has_every_room() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    told = re.findall(r"automodule:: (\S+)", reference)
    assert sorted(told) == sorted(rooms())


@pytest.mark.parametrize("room", rooms())
def test_exported_constants_are_explained(room: str) -> None:
    """By a text below them, where they are defined: the reference shows it."""
    module = importlib.import_module(room)
    files = sorted(Path(str(module.__file__)).parent.glob("*.py")) if hasattr(module, "__path__") else []
    explained = set()
    for file in files or [Path(str(module.__file__))]:
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for statement, text in itertools.pairwise(body):
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(text, ast.Expr):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                explained |= {target.id for target in targets if isinstance(target, ast.Name)}
    exported = {name: getattr(module, name) for name in module.__all__}
    constants = {name for name, what in exported.items() if not isinstance(what, type) and not inspect.isroutine(what)}
    assert constants - explained == set()


def test_constraints_pin_every_requirement_exactly() -> None:
    pinned = pinned_in("constraints.txt")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"]
    for extra in ("bm3d", "dicom", "export", "report", "bids", "docs", "dev"):
        wanted += "\n" + setup["options.extras_require"][extra]
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    names = {re.split(r"[\[<>=]", line)[0].strip().lower() for line in lines}
    assert names - pinned == set()


def test_constraints_of_the_monai_label_app_pin_the_others() -> None:
    own, common = pinned_in("monailabel_app/constraints.txt"), pinned_in("constraints.txt")
    assert own & common == set()
    lines = (ROOT / "monailabel_app" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line.partition("[")[0].lower().replace("_", "-") for line in lines if line and not line.startswith("#")}
    assert (wanted | {"monailabel"}) - own - common == set()
