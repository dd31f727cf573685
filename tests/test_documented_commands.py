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
"""Every command and every Python example of the README and the documentation.

All commands are read: the options that they name exist. What can be carried out is, in the slow tier, in a workspace
with small data under the names that the documents use. What cannot be has its reason here; a command that is added
has to be put into one of the two lists.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from monai.bundle import ConfigParser

from monai_lipcar.cli import app
from monai_lipcar.data import find_studies, write_datalist
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.options import check_options

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "deploy" / "README.md",
]
CARDS = sorted(ROOT.glob("bundles/*/docs/README.md"))

NOT_RUN = {
    r"make (demo|test|test-label|lint|docs|label|reproduce)\b": "runs the tests, takes hours, or is run by .ci/run",
    r"\.ci/run|\.venv/bin/python -m pytest|uv pip": "the tests themselves; a list of packages, renewed by hand",
    r"source ": "an environment",
    r"(\S+/)?pip install|python3 -m venv|grep -vE": "installs packages",
    r"curl |monailabel |(\S+/)?python monailabel_app": "a server of MONAI Label: tests/monailabel_app, make test-label",
    r"\S+/python examples/deploy|python examples/deploy": "the SDK's environment: tests/examples/test_deploy.py",
    r"export |srun |torchrun": "a cluster or several processes: tests/integration/test_ranks.py, bundles/test_train.py",
    r".*\$SLURM": "a cluster",
    r"python -m benchmarks\.(?!false|alpha |approaches )|(\S+/)?python benchmarks/|cp benchmarks": "hours",
    r"python -m monai_lipcar run (--bids|exam/)": "data of its own kind: tests/bids, tests/dicom",
    r"python -m monai_lipcar (phantom|package)": "minutes each: tests/test_cli.py, tests/bundles/test_travel.py",
    r".* --config_file ph2l_gentv/": "a packaged bundle: tests/bundles/test_travel.py",
    r"python -m monai.bundle (verify_metadata|ckpt_export|onnx_export)": "tests/bundles",
    r".*/train\.json|.*monai\.bundle run .*runs/\w*ph2l": "a training: tests/bundles/test_train.py",
    r".*--config_file configs/": "in a bundle's folder: tests/bundles/test_bundles.py",
}
RUN = (
    r"python -m monai_lipcar (check|evaluate|simulate-dose) ",
    r"python -m monai_lipcar run (my_dataset|IN) ",
    r"python -m monai.bundle run --config_file bundles/\w+/configs/inference.json --dataset_dir (my_dataset|IN) ",
)

QUICKLY = {
    r"python -m benchmarks\.(alpha|approaches) ": "",
    r"python -m benchmarks\.false_enhancement ": "--rats 1 --heads 1 --slices 1",
}
"""What would take hours, and options that leave less to do, besides a single bundle."""

ELSEWHERE = {
    "dicom.md": "an examination: tests/dicom",
    "bids.md": "a dataset: tests/bids",
    "monai-label.md": "a server: tests/monailabel_app/test_server.py",
    "packaging.md": "an export: tests/bundles/test_export.py",
}
"""Pages whose Python needs more than the page, and where it is run."""


def commands(page: Path) -> Iterator[str]:
    """The commands of a page's bash blocks, each on one line, without comments."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        waiting = ""
        for line in block.splitlines():
            waiting = f"{waiting} {line.strip()}".strip()
            if waiting.endswith("\\"):
                waiting = waiting[:-1].strip()
                continue
            try:
                parts = shlex.split(waiting, comments=True)
            except ValueError:  # a quotation goes on in the next line
                continue
            if parts:
                yield shlex.join(parts) if "$" not in waiting else waiting
            waiting = ""
        assert not waiting, f"{page}: {waiting!r} does not end"


ALL = [(page, command) for page in PAGES if page.is_file() for command in commands(page)]


@pytest.mark.parametrize("command", sorted({command for _, command in ALL}))
def test_command_is_in_one_of_the_lists(command: str) -> None:
    reasons = [reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command)]
    runs = any(re.match(pattern, command) for pattern in (*RUN, *QUICKLY))
    assert bool(reasons) != runs, f"{command}: put it into NOT_RUN with a reason, into RUN or into QUICKLY"


@pytest.mark.parametrize("command", sorted({one for _, one in ALL if re.match("python -m monai_lipcar ", one)}))
def test_options_of_the_command_line_exist(command: str) -> None:
    """Parsed as ``python -m monai_lipcar`` would, but not carried out."""
    verb, *arguments = shlex.split(command)[3:]
    parser = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    context = typer.Context(parser)
    _, rest, _ = parser.make_parser(context).parse_args(args=arguments)
    assert not rest


@pytest.mark.parametrize("command", sorted({one for _, one in ALL if re.search(r"python (-m )?benchmarks\W", one)}))
def test_options_of_benchmarks_exist(command: str) -> None:
    """In the script, or in what several scripts share."""
    script, *arguments = shlex.split(command.partition("benchmarks")[2])
    path = ROOT / "benchmarks" / script[1:].removesuffix(".py").replace(".", "/")
    files = [path / "__main__.py"] if path.is_dir() else [path.with_suffix(".py")]
    source = "".join(file.read_text(encoding="utf-8") for file in [*files, ROOT / "benchmarks" / "race" / "command.py"])
    missing = [option for option in arguments if option.startswith("--") and f'"{option}"' not in source]
    assert missing == []


def _of_bundles(pages: list[Path]) -> list[tuple[Path, str]]:
    there = [page for page in pages if page.is_file()]
    return [(page, one) for page in there for one in commands(page) if re.search(r"monai\.bundle run", one)]


def _as_read(text: str) -> object:
    """A value as ``python -m monai.bundle`` reads it: a Python literal where it is one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@pytest.mark.parametrize(("page", "command"), _of_bundles([*PAGES, *CARDS]))
def test_options_of_bundles_exist(page: Path, command: str) -> None:
    """The config files are there, and have the options."""
    arguments = shlex.split(re.sub(r"\$\w+", "1", command))
    arguments = arguments[arguments.index("run") + 1 :]
    given = {key.removeprefix("--"): value for key, value in zip(arguments[::2], arguments[1::2], strict=True)}
    named = given.pop("config_file")
    root = page.parent.parent if page in CARDS else ROOT
    if named.startswith("ph2l_gentv/"):
        root = ROOT / "bundles"
    files = [str(root / name) for name in (re.findall(r"'([^']+)'", named) or [named])]
    assert all(Path(file).is_file() for file in files), files
    options = {key: _as_read(value) for key, value in given.items() if key != "alpha"}
    check_options(options, ConfigParser.load_config_files(files))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples(page: Path) -> None:
    """The Python blocks of a page run one after the other, in one namespace."""
    if page.name in ELSEWHERE:
        pytest.skip(ELSEWHERE[page.name])
    if not page.is_file() or not (blocks := python_blocks(page)):
        pytest.skip("no Python on this page")
    names: dict[str, object] = {}
    if page.name == "outputs.md":  # speaks of the reader's volumes
        names = {key: torch.rand(1, 1, 24, 24, 3) for key in ("simulated", "high", "pre")}
        mask = torch.zeros(1, 1, 24, 24, 3)
        mask[..., 8:14, 8:14, :] = 1.0
        names |= {"lesion": mask, "head": torch.ones_like(mask)}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    if page.name == "extending.md":
        assert names["solution"].objective[0, -1] < names["solution"].objective[0, 0]  # type: ignore[attr-defined]
        assert names["result"].shape == (1, 1, 32, 32, 3)  # type: ignore[attr-defined]
    if page.name == "README.md":
        assert names["solution"].image.shape == (4, 1, 64, 64)  # type: ignore[attr-defined]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkout's parts, and small data under the names of the documents."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("bundles", "monai_lipcar", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    options = {"shape": (64, 64, 4)}
    write_cohort(
        folder / "my_dataset", "random", 2, seed=5, tumor_free_fraction=0, anatomy_options=options, progress=False
    )
    for name in ("IN", "routine"):
        shutil.copytree(folder / "my_dataset", folder / name)
    for low in folder.glob("routine/*/low.nii.gz"):
        low.unlink()
    return folder


@pytest.fixture(scope="module")
def measured(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one for the benchmarks, with the datalists that a training would have written."""
    folder = tmp_path_factory.mktemp("measured")
    for name in ("bundles", "monai_lipcar", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for dataset, datalist in (("data", "data"), ("my_simulated", "runs/my_ph2l")):
        shutil.copytree(workspace / "my_dataset", folder / dataset)
        first, second = find_studies(folder / dataset)
        (folder / datalist).mkdir(parents=True, exist_ok=True)
        write_datalist(folder / datalist / "datalist.json", {"validation": [first], "test": [second]})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({one for _, one in ALL if any(re.match(key, one) for key in QUICKLY)}))
def test_commands_run_quickly(command: str, measured: Path) -> None:
    """As they stand, with options behind them that leave little to do."""
    (options,) = [options for pattern, options in QUICKLY.items() if re.match(pattern, command)]
    line = f"{command} --bundles physics_tv --results runs/results.json {options}"
    arguments = [sys.executable, *shlex.split(line)[1:]]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(arguments, cwd=measured, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-1000:] + ended.stderr[-2000:]
    assert "physics_tv" in (measured / "runs" / "results.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_commands_run(workspace: Path) -> None:
    """In the order of the pages, each as it stands."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    done = set()
    pages = sorted(ALL, key=lambda entry: entry[0].name != "own-data.md")  # makes what others use
    for page, command in pages:
        if command in done or not any(re.match(pattern, command) for pattern in RUN):
            continue
        arguments = [sys.executable, *shlex.split(command)[1:]]
        shutil.rmtree(workspace / "OUT", ignore_errors=True)  # stands for a folder of each command's own
        ended = subprocess.run(arguments, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{page.name}: {command}\n{ended.stdout[-1000:]}{ended.stderr[-2000:]}"
        done.add(command)
    assert len(done) >= 8
    (result, *_) = workspace.glob("my_results/*/result.json")
    assert json.loads(result.read_text())["bundle"]["name"] == "ph2l_gentv"
