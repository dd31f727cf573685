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
"""A bundle that travels: a folder in the layout of MONAI's model zoo with its weights inside, and the same as a zip."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser

from monai_lipcar.bundle_folder import bundle_metadata, bundle_root, checksum, weights_sha256
from monai_lipcar.errors import ConfigurationError, WeightsError

__all__ = ["BundlePackage", "package_bundle"]

_WEIGHTS = {"checkpoint": "model.pt", "guess_checkpoint": "guess_model.pt"}
"""Entry of inference.json to file in models/. MONAI Label takes the file with the shortest name for the network."""
_METADATA = "configs/metadata.json"


class BundlePackage(NamedTuple):
    """Where a packaged bundle is.

    Args:
        folder: the bundle, ``<out>/<name>``.
        archive: the same as a zip, ``<out>/<name>.zip``, whose only top-level folder is ``<name>``.
        weights_sha256: SHA-256 of each weights file by its path in the bundle, as in the bundle's metadata.
    """

    folder: Path
    archive: Path
    weights_sha256: dict[str, str]


def package_bundle(name: str, out: str | Path, overwrite: bool = False) -> BundlePackage:
    """Make a copy of a bundle that needs nothing but the installed package.

    The copy has ``LICENSE``, ``configs/``, ``docs/`` (with the model cards of the operators that it carries) and
    ``models/``: the weights that ``inference.json`` names, also those that lie in an operator bundle, with their
    checksums in ``metadata.json``, where the bundle compares them. A bundle without weights gets the state dict of its
    untrained operator, which is empty, since the model zoo and MONAI Label want a ``models/model.pt``. Folder and zip
    are made beside their places and then moved there, the zip last; the same bundle gives the same bytes.

    Args:
        name: bundle, e.g. ``"ph2l_gentv"``.
        out: folder to put both into; made when missing.
        overwrite: replace an older package of the same bundle.

    Raises:
        ConfigurationError: there is no such bundle, something is in the way, or the files cannot be written.
        WeightsError: weights are missing, not those that their bundle was released with, or trained at other dose
            fractions than the others.
    """
    try:
        root = Path(bundle_root(name))
    except ConfigurationError:
        raise ConfigurationError(
            f"bundle {name!r} not found; it has to be in bundles/ of the working directory or above it, as in a "
            "checkout of the repository: bundles are no part of the installed package"
        ) from None
    out = Path(out)
    package = BundlePackage(out / name, out / f"{name}.zip", {})
    _check_places(package, root, name, overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as partial:
            content, archive = Path(partial) / name, Path(partial) / package.archive.name
            package.weights_sha256.update(_write_folder(root, content))
            _write_archive(content, archive)
            package.archive.unlink(missing_ok=True)  # an older one must not lie beside a newer folder
            if package.folder.exists():
                package.folder.rename(Path(partial) / "older")
            content.rename(package.folder)
            archive.rename(package.archive)
    except OSError as error:
        raise ConfigurationError(
            f"bundle {name!r} cannot be packaged into {out}: {error.strerror or error} ({error.filename})"
        ) from error
    return package


def _check_places(package: BundlePackage, root: Path, name: str, overwrite: bool) -> None:
    folder, source = package.folder.resolve(), root.resolve()
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise ConfigurationError(f"{package.folder} overlaps with the bundle itself, {root}; choose another folder")
    for place in (package.folder, package.archive):
        if place.exists() and not overwrite:
            raise ConfigurationError(
                f"{place} exists already; choose another folder, or pass --overwrite to replace it"
            )
    if package.folder.exists() and bundle_metadata(package.folder).get("bundle") != name:
        raise ConfigurationError(
            f"{package.folder} exists and is no bundle {name}: it is not replaced; choose another folder"
        )


def _write_folder(root: Path, folder: Path) -> dict[str, str]:
    """Write the bundle, and return the checksums of its weights."""
    sources = _weights(root)
    cards = {f"docs/{owner.name}.md": owner / "docs" / "README.md" for owner in _owners(root, sources)}
    files = {file.relative_to(root).as_posix(): file for file in _files(root)}
    weights = {f"models/{file}": path for file, path in sources.items()}
    for place, file in {**cards, **files, **weights}.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / place)
    if not weights:
        _write_untrained(root, folder / "models" / "model.pt")
    metadata = bundle_metadata(root)
    metadata["weights_sha256"] = {
        path.relative_to(folder).as_posix(): checksum(path) for path in sorted((folder / "models").iterdir())
    }
    trained = [_dose_fractions(path.parent.parent) for path in sources.values()]
    if any(found != trained[0] for found in trained):
        told = ", ".join(str(value) for found in trained for value in found.values())
        raise WeightsError(f"the operators of {root} are trained at different dose fractions: {told}")
    metadata.update(*trained[:1])
    (folder / _METADATA).write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    return dict(metadata["weights_sha256"])


def _dose_fractions(root: Path) -> dict[str, Any]:
    """What a bundle's metadata says about the doses that its weights were trained at: one fraction, or a range."""
    metadata = bundle_metadata(root)
    return {key: metadata[key] for key in ("dose_fraction", "dose_fractions") if key in metadata}


def _weights(root: Path) -> dict[str, Path]:
    """Weights files by their name in a package, from where ``inference.json`` finds them; their checksums are right."""
    parser = _config(root)
    sources = {file: Path(parser.get_parsed_content(key)) for key, file in _WEIGHTS.items() if key in parser}
    for path in sources.values():
        found, known = checksum(path), weights_sha256(path)
        if known not in (None, found):
            raise WeightsError(
                f"weights file {path} is not the one its bundle was released with (sha256 {found[:12]}..., expected "
                f"{str(known)[:12]}...); restore it, or enter its checksum in {path.parent.parent / _METADATA}"
            )
    return sources


def _config(root: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser["bundle_root"] = str(root)
    return parser


def _owners(root: Path, sources: dict[str, Path]) -> list[Path]:
    """Other bundles whose weights these are."""
    return sorted({path.parent.parent for path in sources.values()} - {root})


def _files(root: Path) -> list[Path]:
    """What is copied as it is; not models, exports, results and hidden files that may lie about in the folder."""
    found = [file for part in ("configs", "docs") for file in (root / part).rglob("*") if file.is_file()]
    return [root / "LICENSE", *(file for file in found if not file.name.startswith("."))]


def _write_untrained(root: Path, path: Path) -> None:
    state = _config(root).get_parsed_content("network_def").state_dict()
    path.parent.mkdir()
    torch.save(state, path)


def _write_archive(folder: Path, archive: Path) -> None:
    """Zip a folder; of names and contents alone: no times or permissions, and stored, as zlib's versions differ."""
    names = sorted(file.relative_to(folder.parent).as_posix() for file in folder.rglob("*") if file.is_file())
    with zipfile.ZipFile(archive, "w") as content:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, everywhere
            with content.open(entry, "w") as target, open(folder.parent / name, "rb") as source:
                shutil.copyfileobj(source, target)
