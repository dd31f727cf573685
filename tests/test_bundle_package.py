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
"""Packaged bundles: what is in them, what is refused, and that nothing half is left. That they run: tests/bundles."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from monai_lipcar.bundle_package import package_bundle
from monai_lipcar.errors import ConfigurationError, LipcarError, WeightsError
from monai_lipcar.networks import file_sha256

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
WEIGHTS = {
    "l2h": {"model.pt": "l2h"},
    "pl2h": {"model.pt": "pl2h"},
    "h2l": {"model.pt": "h2l"},
    "ph2l": {"model.pt": "ph2l"},
    "h2l_tv": {"model.pt": "h2l"},
    "ph2l_tv": {"model.pt": "ph2l"},
    "ph2l_gentv": {"model.pt": "ph2l", "guess_model.pt": "pl2h"},
    "physics_tv": {},
}
LARGEST = 25e6  # bytes of a file in the model zoo


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with bundles of its own, which are taken before those beside the package."""
    folder = tmp_path / "checkout"
    for name in ("ph2l_gentv", "ph2l", "pl2h", "physics_tv"):
        shutil.copytree(BUNDLES / name, folder / "bundles" / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_folder_has_all_that_the_bundle_needs(name: str, tmp_path: Path) -> None:
    folder, _, checksums = package_bundle(name, tmp_path)
    assert folder == tmp_path / name
    source, files = BUNDLES / name, contents(folder)
    operators = set(WEIGHTS[name].values())
    cards = {f"docs/{operator}.md" for operator in operators - {name}}
    kept = {file for file in contents(source) if file == "LICENSE" or file.startswith(("configs/", "docs/"))}
    models = {f"models/{file}" for file in WEIGHTS[name]} or {"models/model.pt"}
    assert set(files) == kept | cards | models
    assert {"LICENSE", "docs/README.md", "docs/data_license.txt", "configs/inference.json"} <= kept
    for file in kept - {"configs/metadata.json"}:
        assert files[file] == (source / file).read_bytes(), file
    for operator in operators:
        assert (
            files.get(f"docs/{operator}.md", files["docs/README.md"])
            == (BUNDLES / operator / "docs" / "README.md").read_bytes()
        )
    for file, operator in WEIGHTS[name].items():
        assert files[f"models/{file}"] == (BUNDLES / operator / "models" / "model.pt").read_bytes()
    assert max(map(len, files.values())) < LARGEST
    repository = str(BUNDLES.parent).encode()
    assert [file for file, content in files.items() if repository in content] == []

    metadata, before = read(folder / "configs" / "metadata.json"), read(source / "configs" / "metadata.json")
    assert metadata["weights_sha256"] == checksums == {file: file_sha256(folder / file) for file in sorted(models)}
    doses = {"dose_fraction", "dose_fractions"} & {
        key for operator in WEIGHTS[name].values() for key in read(BUNDLES / operator / "configs" / "metadata.json")
    }
    added = {"weights_sha256"} | doses
    assert {key: metadata[key] for key in before if key not in added} == {
        key: before[key] for key in before if key not in added
    }
    assert set(metadata) == set(before) | added


def test_a_bundle_without_weights_has_an_empty_state_dict(tmp_path: Path) -> None:
    folder = package_bundle("physics_tv", tmp_path).folder
    assert dict(torch.load(folder / "models" / "model.pt", weights_only=True)) == {}


def test_the_zip_is_the_folder_and_the_same_wherever_it_is_made(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive, _ = package_bundle("ph2l_gentv", tmp_path / "one")
    assert archive == tmp_path / "one" / "ph2l_gentv.zip"
    with zipfile.ZipFile(archive) as content:
        assert content.testzip() is None
        content.extractall(tmp_path / "unpacked")
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["ph2l_gentv"]
    assert contents(tmp_path / "unpacked" / "ph2l_gentv") == contents(folder)

    for path in (checkout / "bundles").rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    assert package_bundle("ph2l_gentv", tmp_path / "two").archive.read_bytes() == archive.read_bytes()
    monkeypatch.chdir(tmp_path / "unpacked" / "ph2l_gentv")  # a package of the package
    assert package_bundle("ph2l_gentv", tmp_path / "three").archive.read_bytes() == archive.read_bytes()
    nothing = package_bundle("physics_tv", tmp_path / "one").archive.read_bytes()
    assert package_bundle("physics_tv", tmp_path / "two").archive.read_bytes() == nothing


def test_what_lies_about_in_a_bundle_stays_there(checkout: Path, tmp_path: Path) -> None:
    expected = contents(package_bundle("physics_tv", tmp_path / "clean").folder)
    for file in ("output/study/high_sim.nii.gz", "models/model.ts", "configs/.inference.json.swp", "notes.txt"):
        place = checkout / "bundles" / "physics_tv" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("not to be passed on")
    assert contents(package_bundle("physics_tv", tmp_path / "used").folder) == expected


def test_an_older_package_is_replaced_only_where_it_is_asked_for(tmp_path: Path) -> None:
    folder, archive, _ = package_bundle("physics_tv", tmp_path)
    expected = contents(tmp_path)
    (folder / "LICENSE").write_text("changed")
    (folder / "left over").touch()
    archive.write_bytes(b"changed")
    changed = contents(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"{folder} exists already; .* --overwrite to replace it"):
        package_bundle("physics_tv", tmp_path)
    assert contents(tmp_path) == changed
    package_bundle("physics_tv", tmp_path, overwrite=True)
    assert contents(tmp_path) == expected
    shutil.rmtree(folder)
    with pytest.raises(ConfigurationError, match=rf"{archive} exists already"):
        package_bundle("physics_tv", tmp_path)


def test_nothing_but_an_older_package_is_ever_replaced(checkout: Path, tmp_path: Path) -> None:
    precious = tmp_path / "physics_tv" / "precious.txt"
    precious.parent.mkdir()
    precious.touch()
    with pytest.raises(ConfigurationError, match="exists and is no bundle physics_tv: it is not replaced"):
        package_bundle("physics_tv", tmp_path, overwrite=True)
    assert precious.exists()
    before = contents(checkout)
    (checkout / "physics_tv").symlink_to(checkout / "bundles")
    for out in (checkout / "bundles", checkout / "bundles" / "physics_tv", checkout):
        with pytest.raises(ConfigurationError, match="overlaps with the bundle itself"):
            package_bundle("physics_tv", out, overwrite=True)
    (checkout / "physics_tv").unlink()
    assert contents(checkout) == before


def test_an_unknown_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bundle 'ph3l' not found; it has to be in bundles/ of the working"):
        package_bundle("ph3l", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_those_of_the_release(checkout: Path, tmp_path: Path) -> None:
    guess = checkout / "bundles" / "pl2h" / "models" / "model.pt"
    guess.write_bytes(guess.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=rf"{guess} is not the one its bundle was released with .* restore it"):
        package_bundle("ph2l_gentv", tmp_path / "out")
    guess.unlink()
    with pytest.raises(WeightsError, match=f"no weights file at {guess}"):
        package_bundle("ph2l_gentv", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_operators_of_different_doses(checkout: Path, tmp_path: Path) -> None:
    file = checkout / "bundles" / "pl2h" / "configs" / "metadata.json"
    file.write_text(json.dumps({**read(file), "dose_fractions": [0.1, 0.5]}))
    with pytest.raises(WeightsError, match=r"trained at different dose fractions: .*\[0.1, 0.5\]"):
        package_bundle("ph2l_gentv", tmp_path / "out")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    package_bundle("physics_tv", tmp_path)
    (tmp_path / "physics_tv" / "LICENSE").write_text("older")
    before = contents(tmp_path)

    def full(source: object, target: object) -> None:
        raise failure

    monkeypatch.setattr(shutil, "copyfileobj", full)
    expected = LipcarError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(failure, OSError) else None):
        package_bundle("physics_tv", tmp_path, overwrite=True)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["physics_tv", "physics_tv.zip"]
