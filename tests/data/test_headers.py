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
"""Headers that cannot be true, and what is no file at all: one line, before anything is read."""

from __future__ import annotations

import gzip
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.data.formats import SUFFIXES, find_fault
from monai_lipcar.data.headers import MAX_VOXELS, header_fault
from monai_lipcar.data.studies import find_studies
from monai_lipcar.errors import StudyError

SHAPE = (7, 6, 5)
ARRAY = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
AGAIN = "; check that it is complete, or export it again"


def _nifti(path: Path, **fields: object) -> Path:
    """A NIfTI file with fields of its header, which nothing checks, written over it."""
    image = nib.Nifti1Image(ARRAY, np.diag([0.5, 0.75, 3.0, 1.0]))
    for name, value in {"vox_offset": 352, **fields}.items():
        image.header[name] = value
    content = image.header.binaryblock + b"\0" * 4 + ARRAY.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_good_files(suffix: str, tmp_path: Path, writers, oblique_affine) -> None:
    assert find_fault(writers[suffix](tmp_path / f"pre{suffix}", ARRAY, oblique_affine)) is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_files_cut_short(suffix: str, kept: int, tmp_path: Path, writers, oblique_affine) -> None:
    path = writers[suffix](tmp_path / f"pre{suffix}", ARRAY, oblique_affine)
    path.write_bytes(path.read_bytes()[:kept])
    fault = str(find_fault(path))
    assert fault.startswith("the file cannot be read: expected ")
    assert ", found " in fault
    assert fault.endswith(AGAIN)
    if kept == 0:
        assert "found an empty file" in fault


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_with_the_ending_of_an_image(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"pre{suffix}"
    path.write_text("Patient: Jane Doe\n" * 100)
    fault = str(find_fault(path))
    assert fault.startswith("the file cannot be read: expected a")
    assert fault.endswith(f", found text{AGAIN}")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"dim": [3, 700, 600, 500, 1, 1, 1, 1]},
            f"the file cannot be read: expected 420000000 bytes of voxels (700x600x500, int16), found 420{AGAIN}",
        ),
        (
            {"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]},
            f"expected at most {MAX_VOXELS} voxels, found a header that promises 32767x32767x32767; check the header, "
            "or cut the volume to the head",
        ),
        (
            {"dim": [3, 7, -6, 5, 1, 1, 1, 1]},
            "expected at least one voxel along every axis, found the shape 7x-6x5; export it again",
        ),
        (
            {"dim": [3, 7, 0, 5, 1, 1, 1, 1]},
            "expected at least one voxel along every axis, found the shape 7x0x5; export it again",
        ),
        (
            {"dim": [3, 1, 1, 1, 1, 1, 1, 1], "datatype": 1792, "bitpix": 128},
            "expected one real number in a voxel, found the type complex128; export it as gray values, such as int16 "
            "or float32",
        ),
        (
            {"dim": [3, 1, 1, 1, 1, 1, 1, 1], "datatype": 128, "bitpix": 24},
            "expected one real number in a voxel, found the type [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]; export it as "
            "gray values, such as int16 or float32",
        ),
        (
            {"datatype": 9999},
            f"the file cannot be read: expected a NIfTI image, found a header that makes no sense{AGAIN}",
        ),
        (
            {"scl_slope": 1.0, "scl_inter": np.inf},
            f"the file cannot be read: expected a NIfTI image, found a header that makes no sense{AGAIN}",
        ),
        (
            {"srow_x": [np.nan, 0, 0, 0]},
            "expected a finite affine, found NaN or infinite numbers; correct the header, or export it again",
        ),
        (
            {"srow_y": [0, np.inf, 0, 0]},
            "expected a finite affine, found NaN or infinite numbers; correct the header, or export it again",
        ),
        (
            {"srow_x": [0, 0, 0, 0]},
            "expected voxel sides of 0.0001 to 1000 mm, found 0, 0.75, 3; correct the header, or export it again",
        ),
        (
            {"srow_z": [0, 0, 1e30, 0]},
            "expected voxel sides of 0.0001 to 1000 mm, found 0.5, 0.75, 1e+30; correct the header, or export it again",
        ),
        (
            {"srow_x": [1, 0, 0, 0], "srow_y": [1, 0, 1, 0], "srow_z": [0, 1, 0, 0], "dim": [3, 7, 6, 5, 1, 1, 1, 1]},
            None,  # a permutation with shear is a volume still
        ),
        (
            {"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0]},
            "expected axes that span a volume, found an affine that is singular (voxel sides 1.41421, 1.41421, 3); "
            "correct the header, or export it again",
        ),
        (
            {"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]},
            "expected voxel sides of 0.0001 to 1000 mm, found 0, 1, 1; correct the header, or export it again",
        ),
        ({"vox_offset": 1e12}, "found 0"),
        ({"vox_offset": 0}, "expected the voxels behind the header, found byte 0 named; export it again"),
        ({"vox_offset": np.nan}, "found a header that makes no sense"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_header(suffix: str, fields: dict, fault: str | None, tmp_path: Path) -> None:
    started = perf_counter()
    found = find_fault(_nifti(tmp_path / f"pre{suffix}", **fields))
    assert perf_counter() - started < 5.0
    if fault is None:
        assert found is None
    else:
        if suffix == ".nii.gz":
            fault = fault.replace("NIfTI image", "NIfTI image compressed with gzip")
            fault = fault.replace("a header that makes no sense", "a damaged file or header")
        assert fault in str(found)


@pytest.mark.parametrize("values", ["nan", "inf", "0", "-1"])
@pytest.mark.parametrize(
    ("suffix", "field", "text"),
    [
        (".nrrd", b"space directions: ", "({},0,0) (0,0.75,0) (0,0,3)"),
        (".mha", b"ElementSpacing = ", "{} 0.75 3"),
    ],
)
def test_directions_of_other_formats(
    values: str, suffix: str, field: bytes, text: str, tmp_path: Path, writers
) -> None:
    path = writers[suffix](tmp_path / f"pre{suffix}", ARRAY, np.diag([0.5, 0.75, 3.0, 1.0]))
    before, after = path.read_bytes().split(field, 1)
    path.write_bytes(before + field + text.format(values).encode() + after[after.index(b"\n") :])
    fault = find_fault(path)
    if values == "-1":  # a direction, and what ITK makes of a negative spacing, is one too
        assert fault is None
    else:
        assert fault is not None
        assert ", found " in fault


@pytest.mark.parametrize(
    ("suffix", "old", "new", "fault"),
    [
        (".nrrd", b"sizes: 7 6 5", b"sizes: 7000 6000 5", "expected 420000000 bytes of voxels (7000x6000x5, "),
        (".nrrd", b"sizes: 7 6 5", b"sizes: 70000 60000 50000", "promises 70000x60000x50000"),
        (".nrrd", b"encoding: gzip", b"encoding: ascii", "expected the encoding raw or gzip, found 'ascii'; write it"),
        (".nrrd", b"encoding: gzip", b"encoding: gzip\ndata file: ../../secret.raw", "found another file named"),
        (".nrrd", b"encoding: gzip", b"encoding: gzip\nbyte skip: 100", "found a byte skip; write it without"),
        (".mha", b"DimSize = 7 6 5", b"DimSize = 7000 6000 5", "expected 420000000 bytes of voxels (7000x6000x5, "),
        (".mha", b"DimSize = 7 6 5", b"DimSize = 70000 60000 50000", "promises 70000x60000x50000"),
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = ../../secret.raw", "found another file named"),
        (".mha", b"BinaryData = True", b"BinaryData = False", "expected binary voxels right behind the header, found"),
        (
            ".mha",
            b"ElementType = MET_SHORT",
            b"ElementType = MET_SHORT\nElementNumberOfChannels = 3",
            "3 components of",
        ),
    ],
)
def test_text_headers(suffix: str, old: bytes, new: bytes, fault: str, tmp_path: Path, writers, oblique_affine) -> None:
    path = writers[suffix](tmp_path / f"pre{suffix}", ARRAY, oblique_affine)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert fault in str(find_fault(path))


def test_damage_that_the_checksum_tells(tmp_path: Path, writers, oblique_affine) -> None:
    for suffix in (".nii.gz", ".nrrd"):
        path = writers[suffix](tmp_path / f"pre{suffix}", ARRAY, oblique_affine)
        content = bytearray(path.read_bytes())
        content[-6] ^= 1  # of the checksum; the voxels could be read
        path.write_bytes(content)
        assert "damaged" in str(find_fault(path))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "pre.nii.gz"
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.float64), np.eye(4))
    image.header["vox_offset"] = 352
    image.header["dim"] = [3, 1024, 1024, 1024, 1, 1, 1, 1]
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(64 * 2**20), 1))
    assert path.stat().st_size < 2**20
    assert "expected 8589934592 bytes of voxels" in str(find_fault(path))


@pytest.fixture
def special(tmp_path: Path) -> Iterator[Callable[[str, Path], None]]:
    sockets = []

    def make(kind: str, path: Path) -> None:
        if kind == "a folder":
            path.mkdir()
        elif kind == "a named pipe":
            os.mkfifo(path)
        elif kind == "a device":
            path.symlink_to("/dev/zero")
        else:
            listener = socket.socket(socket.AF_UNIX)
            sockets.append(listener)
            here = os.open(path.parent, os.O_RDONLY)  # names of sockets are short
            try:
                listener.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)

    yield make
    for one in sockets:
        one.close()


@pytest.mark.skipif(not Path("/dev/zero").exists() or not Path("/proc/self/fd").exists(), reason="Linux's files")
@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a device", "a socket"])
def test_what_is_no_file(kind: str, tmp_path: Path, special: Callable[[str, Path], None], write_study) -> None:
    (write_study(tmp_path / "s") / "low.nii.gz").unlink()
    special(kind, tmp_path / "s" / "low.nii.gz")
    (study,) = find_studies(tmp_path)
    with pytest.raises(StudyError) as caught:
        study.check(("pre", "low"))
    expected = f"study s, low.nii.gz: expected a file, found {kind}; put the image in its place"
    assert str(caught.value) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_in_place_of_the_acquisition_or_among_dicom_files(tmp_path: Path, writers, oblique_affine) -> None:
    folder = writers[""](tmp_path / "s" / "pre", ARRAY, oblique_affine)
    os.mkfifo(folder / "extra")
    assert find_fault(folder) == "extra: expected a file, found a named pipe; put the image in its place"
    os.mkfifo(tmp_path / "s" / "acquisition.json")
    (study,) = find_studies(tmp_path, required=("pre",))
    assert "it is no file" in str(study.problems[0])


def test_dicom_headers_that_promise_too_much(tmp_path: Path, writers, oblique_affine) -> None:
    pydicom = pytest.importorskip("pydicom")
    folder = writers[""](tmp_path / "pre", ARRAY, oblique_affine)
    first = min(folder.iterdir())
    image = pydicom.dcmread(first)
    image.Rows = 60000
    image.save_as(first)
    assert "expected 840000 bytes of pixels (7x60000x1, 16 bits), found a file of" in str(find_fault(folder))
    image.Columns = 60000
    image.save_as(first)
    assert f"{first.name}: expected at most {MAX_VOXELS} pixels in a file" in str(find_fault(folder))


def test_deep_json(tmp_path: Path, write_study) -> None:
    (write_study(tmp_path / "s") / "acquisition.json").write_text("[" * 200_000)
    (study,) = find_studies(tmp_path)
    with pytest.raises(StudyError, match="acquisition.json is not readable as JSON.*; correct or remove it"):
        study.check()


def test_nifti_2_and_analyze(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(ARRAY, np.eye(4)), tmp_path / "pre.nii")
    assert header_fault(tmp_path / "pre.nii") is None
    content = bytearray((tmp_path / "pre.nii").read_bytes())
    content[16:80] = struct.pack("<8q", 3, 2**40, 2**40, 2**40, 1, 1, 1, 1)
    (tmp_path / "pre.nii").write_bytes(content)
    assert "promises 1099511627776x1099511627776x1099511627776" in str(header_fault(tmp_path / "pre.nii"))
