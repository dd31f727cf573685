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
"""Exports of the operators, by the commands of ``docs/packaging.md``: they compute what the operators compute."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import load_net_with_metadata

from monai_lipcar.bundle_package import package_bundle

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "packaging.md").read_text(encoding="utf-8")
OPERATORS = {"l2h": 1, "pl2h": 2, "h2l": 1, "ph2l": 2}  # and their input channels
SHAPES = ((1, 48, 64), (3, 37, 53), (2, 16, 16))  # batch and sides, none of them as in the command
TOLERANCE = 1e-5  # of outputs around 1, in float32
Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Run a command of the page in the folder of a packaged operator."""

    def run(name: str, command: str, *options: str) -> Path:
        (block,) = re.findall(rf"```bash\n(python -m monai.bundle {command} .*?)```", PAGE, re.DOTALL)
        text = (
            block.replace("\\\n", " ").replace("ph2l.", f"{name}.").replace("[2, 2, 64", f"[2, {OPERATORS[name]}, 64")
        )
        arguments = [sys.executable, *shlex.split(text)[1:], *options]
        folder = package_bundle(name, tmp_path).folder
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
        assert process.returncode == 0, process.stdout + process.stderr
        (exported,) = folder.glob(f"{name}.*")
        return exported

    return run


def operator(folder: Path, **options: float) -> torch.nn.Module:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder), "device": "cpu", **options})
    return parser.get_parsed_content("network")


def assert_same(name: str, exported: Callable[[torch.Tensor], torch.Tensor], network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch, *sides in SHAPES:
        image = torch.rand(batch, OPERATORS[name], *sides, generator=generator)
        with torch.no_grad():
            expected, result = network(image), exported(image)
        assert result.shape == (batch, 1, *sides)
        assert expected.std() > 0.01
        torch.testing.assert_close(result, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", OPERATORS)
def test_torchscript(name: str, export: Export) -> None:
    file = export(name, "ckpt_export")
    exported, metadata, _ = load_net_with_metadata(str(file))
    assert_same(name, exported, operator(file.parent))
    assert metadata["bundle"] == name
    assert "never an inverse problem" in metadata["export_note"]


def test_the_dose_fraction_is_that_of_the_export(export: Export) -> None:
    with pytest.raises(AssertionError, match=r"WeightsError: .* trained for the dose fraction"):
        export("ph2l", "ckpt_export", "--dose_fraction", "0.9")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_onnx(name: str, export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = export(name, "onnx_export")
    (block,) = re.findall(r"```python\n(import json.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(file.parent)
    exec(compile(block.replace("ph2l.", f"{name}."), "packaging.md", "exec"), {})
    onnx.checker.check_model(file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(entry.name, entry.shape) for entry in session.get_inputs()] == [
        ("image", ["batch", OPERATORS[name], "height", "width"])
    ]
    assert_same(
        name,
        lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0]),
        operator(file.parent),
    )
    told = session.get_modelmeta().custom_metadata_map
    assert told["export_note"] == json.loads(Path("configs/metadata.json").read_text())["export_note"]
