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
"""A running server, spoken to with MONAI Label's own client, with curl, and as the plugins of viewers do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from .conftest import ROOT
from .serving import server

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")

QUICK: dict[str, Any] = {"alpha": 0.004, "max_iterations": 2}


class Running(NamedTuple):
    """A server, and the volumes that it should answer with."""

    address: str
    images: Path
    expected: dict[str, np.ndarray]
    affine: np.ndarray


@pytest.fixture(scope="module")
def running(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    study = folder / "data" / "rat"
    study.mkdir(parents=True)
    for member in ("pre", "low"):
        (study / f"{member}.nii.gz").symlink_to(cohort / "rat" / f"{member}.nii.gz")
    expected = {}
    for name in ("ph2l_gentv", "physics_tv"):
        run_from_the_command_line(name, study.parent, folder / name)
        for volume in ("high_sim", "residual"):
            image = nib.load(folder / name / "rat" / f"{volume}.nii.gz")
            expected[f"{name} {volume}"] = np.asarray(image.dataobj)
    images = folder / "images"
    images.mkdir()
    with server(folder, images) as address:
        yield Running(address, images, expected, image.affine)


def run_from_the_command_line(name: str, dataset: Path, output: Path) -> None:
    config = ROOT / "bundles" / name / "configs" / "inference.json"
    options = {"config_file": config, "dataset_dir": dataset, "output_dir": output, **QUICK}
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    subprocess.run([sys.executable, "-m", "monai.bundle", "run", *arguments], check=True, cwd=ROOT, capture_output=True)


@pytest.fixture
def client(running: Running, cohort: Path, tmp_path: Path) -> Any:
    """MONAI Label's client; the images are uploaded."""
    from monailabel.client import MONAILabelClient

    connected = MONAILabelClient(running.address, tmpdir=str(tmp_path))
    for member in ("pre", "low"):
        if f"rat_{member}" not in connected.datastore()["objects"]:
            answer = connected.upload_image(str(cohort / "rat" / f"{member}.nii.gz"), f"rat_{member}")
            assert answer == {"image": f"rat_{member}"}
    return connected


def curl(*arguments: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    with tempfile.NamedTemporaryFile() as body:
        command = ["curl", "--silent", "--show-error", "--output", body.name, "--write-out", "%{http_code}", *arguments]
        status = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return int(status), Path(body.name).read_bytes()


def test_equals_the_bundle_on_the_command_line_bit_for_bit(client: Any, running: Running) -> None:
    for name in ("ph2l_gentv", "physics_tv"):
        for volume in ("high_sim", "residual"):
            file, record = client.infer(name, "rat_low", {"pre": "rat_pre", "volume": volume, **QUICK})
            image = nib.load(file)
            assert image.get_data_dtype() == np.float32
            np.testing.assert_array_equal(np.asarray(image.dataobj), running.expected[f"{name} {volume}"])
            np.testing.assert_array_equal(image.affine, running.affine)
            assert record["bundle"]["name"] == name
            assert record["alpha"] == QUICK["alpha"]


def test_curl_as_the_documentation_says(client: Any, running: Running, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "monai-label.md").read_text(encoding="utf-8")
    own = text.partition("## The sample app")[0]
    commands = re.findall(r"^curl (.+?)(?<!\\)$", own, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    for member in ("pre", "low"):
        (tmp_path / f"{member}.nii.gz").write_bytes((running.images / f"rat_{member}.nii.gz").read_bytes())
    for command in commands:
        told = command.replace("http://127.0.0.1:8000", running.address).replace("rat1_", "doc_")
        quick = told.replace('"alpha": 0.004', '"alpha": 0.004, "max_iterations": 2')
        subprocess.run(f"curl --fail {quick}", shell=True, check=True, cwd=tmp_path, capture_output=True)
    result = np.asarray(nib.load(tmp_path / "high_sim.nii.gz").dataobj)
    np.testing.assert_array_equal(result, running.expected["ph2l_gentv high_sim"])


def test_python_as_the_documentation_says(
    client: Any, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "monai-label.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    told = block.replace("http://127.0.0.1:8000", running.address).replace("rat1_", "rat_")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(told.replace('"alpha": 0.004', '"alpha": 0.004, "max_iterations": 2'), names)
    result = np.asarray(nib.load(names["file"]).dataobj)
    np.testing.assert_array_equal(result, running.expected["ph2l_gentv high_sim"])


def test_as_3d_slicer_asks(client: Any, running: Running) -> None:
    # all parameters as the plugin's table has them, then a label mask's format (MONAILabel.py, MONAILabelLogic.infer)
    config = client.info()["models"]["physics_tv"]["config"]
    params = {key: value[0] if isinstance(value, list) else value for key, value in config.items()}
    params |= {**QUICK, "result_extension": ".nrrd", "result_dtype": "uint8"}
    file, _ = client.infer("physics_tv", "rat_low", params, None, None, None)
    header, _, voxels = Path(file).read_bytes().partition(b"\n\n")
    assert b"type: float" in header
    values = np.frombuffer(voxels, "<f4").reshape(running.expected["physics_tv high_sim"].shape[::-1]).T
    np.testing.assert_array_equal(values, running.expected["physics_tv high_sim"])


@pytest.mark.parametrize("dtype", ["uint16", "uint8"])
def test_as_ohif_asks(dtype: str, client: Any, running: Running) -> None:
    # MonaiLabelClient.js of the plugins for OHIF 2 and 3
    params = {"pre": "rat_pre", **QUICK, "result_extension": ".nrrd", "result_dtype": dtype}
    params |= {"result_compress": False, "restore_label_idx": False}
    url = f"{running.address}/infer/physics_tv?image=rat_low&output=image"
    status, body = curl(url, "--form", f"params={json.dumps(params)}")
    header, _, voxels = body.partition(b"\n\n")
    assert status == 200
    assert b"type: float" in header
    assert voxels == running.expected["physics_tv high_sim"].tobytes(order="F")


def test_two_requests_at_once(client: Any, running: Running) -> None:
    def ask(name: str) -> tuple[int, bytes]:
        params = {"pre": "rat_pre", "result_extension": ".nii", **QUICK}
        url = f"{running.address}/infer/{name}?image=rat_low&output=image"
        return curl(url, "--form", f"params={json.dumps(params)}")

    names = ("ph2l_gentv", "physics_tv")
    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(names, pool.map(ask, names), strict=True))
    for name, (status, body) in answers.items():
        assert status == 200
        image = nib.Nifti1Image.from_bytes(body)
        np.testing.assert_array_equal(np.asarray(image.dataobj), running.expected[f"{name} high_sim"])


def test_mistakes(client: Any, running: Running) -> None:
    from monailabel.client.client import MONAILabelClientException

    with pytest.raises(MONAILabelClientException) as refused:
        client.infer("physics_tv", "mouse_low", {"pre": "rat_pre"})
    assert "Status: 404" in refused.value.msg
    assert "there is no image 'mouse_low'" in refused.value.msg
    url = f"{running.address}/infer/physics_tv?image="
    for image, params, status, words in (
        ("rat_low", '{"alpha": "lots"}', 400, b"alpha: expected a number or 'auto'"),
        ("rat_low", '{"pre": "mouse_pre"}', 404, b"there is no image 'mouse_pre'"),
        ("rat_low", json.dumps({"pre": str(running.images / "rat_pre.nii.gz")}), 400, b"no path or file"),
        (str(running.images / "rat_low.nii.gz"), "{}", 400, b"no path or file"),
        ("rat_low", "alpha", 400, b"expected a JSON object"),
    ):
        found, body = curl(url + image, "--form", f"params={params}")
        assert (found, words in body) == (status, True), body
    file = f"file=@{running.images / 'rat_low.nii.gz'}"
    found, body = curl("--request", "PUT", f"{running.address}/datastore/image?image=../evil", "--form", file)
    assert (found, b"expected letters, digits" in body) == (400, True)
    assert not (running.images.parent / "evil.nii.gz").exists()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells where servers listen")
def test_listens_on_this_machine_only(running: Running) -> None:
    port = f"{int(running.address.rpartition(':')[2]):04X}"
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            local, _, state = line.split()[1:4]
            if state == "0A" and local.endswith(f":{port}"):
                listening.append(local)
    assert listening == [f"0100007F:{port}"]
