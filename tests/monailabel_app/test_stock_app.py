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
"""Packaged bundles in MONAI Label's own sample app ``monaibundle``, as it comes."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.bundle import run_bundle
from monai_lipcar.bundle_package import package_bundle

from .serving import server

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")

ITERATIONS = 2
BUNDLES = ("physics_tv", "ph2l_gentv", "ph2l")


@pytest.fixture(scope="module")
def stock(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stock")
    app = folder / "monaibundle"
    shutil.copytree(Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle", app)
    for name in BUNDLES:
        packaged = package_bundle(name, app / "model").folder
        # the app takes the options as the config has them
        config = packaged / "configs" / "inference.json"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace('"max_iterations": null', f'"max_iterations": {ITERATIONS}'), encoding="utf-8")
    conf = {"models": ",".join(BUNDLES), "zoo_source": "local", "sam2": "false", "skip_trainers": "true"}
    options = [text for key, value in conf.items() for text in ("--conf", key, value)]
    with server(folder, images, "--app", str(app), *options) as address:
        yield address


def ask(address: str, name: str, image: str, **params: str) -> bytes:
    body = urllib.parse.urlencode({"params": json.dumps(params)}).encode()
    with urllib.request.urlopen(f"{address}/infer/{name}?image={image}&output=image", body, timeout=600) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("name", BUNDLES)
def test_computes_what_the_bundle_does(name: str, stock: str, images: Path, cohort: Path, tmp_path: Path) -> None:
    observed = "high" if name == "ph2l" else "low"
    study = tmp_path / "data" / "rat"
    study.mkdir(parents=True)
    for member in ("pre", observed):
        (study / f"{member}.nii.gz").symlink_to(cohort / "rat" / f"{member}.nii.gz")
    options = {} if name == "ph2l" else {"max_iterations": ITERATIONS}
    assert run_bundle(name, study.parent, tmp_path / "out", **options) == 0
    (file,) = (tmp_path / "out" / "rat").glob("*_sim.nii.gz")
    expected = nib.load(file)

    answer = ask(stock, name, f"rat_{observed}", pre=str(images / "rat_pre.nii.gz"))
    image = nib.Nifti1Image.from_bytes(gzip.decompress(answer))
    values, wanted = np.asarray(image.dataobj), np.asarray(expected.dataobj)
    assert values.dtype == np.float32
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    # its networks are the same but for the order of additions: batch norm is not folded into the convolutions
    np.testing.assert_allclose(values, wanted, rtol=0, atol=0 if name == "physics_tv" else 1e-5 * wanted.max())


def test_takes_no_id_for_the_image_before_contrast(stock: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="500"):
        ask(stock, "physics_tv", "rat_low", pre="rat_pre")
