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
"""What the header of a volume promises, checked before a reader believes it.

Readers take a header at its word: one that promises more than its file holds makes them allocate what it says, or
return voxels that were never written.
"""

from __future__ import annotations

import bz2
import gzip
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["MAX_VOXELS", "header_fault", "kind_fault", "pixels_fault"]

MAX_VOXELS = 2**30
"""Of a volume: 1024 along each axis, 4 GiB in float32."""
VOXEL_MM = (1e-4, 1e3)
"""Smallest and largest side of a voxel that can be meant."""
_CHUNK = 2**20
_AGAIN = "check that it is complete, or export it again"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class _Header:
    """What a header says.

    Args:
        shape: sides of the array, whatever their number.
        dtype: name of the type of a voxel.
        voxel_bytes: of a voxel in the file.
        real: whether a voxel is one real number.
        affine: 4x4, voxel to mm.
        offset: of the first byte of the voxels in the file, uncompressed where all of it is.
        encoding: of the voxels: ``"raw"``, ``"gzip"`` (from the offset on), ``"whole gzip"``, ``"bzip2"``, ``"zlib"``.
    """

    shape: tuple[int, ...]
    dtype: str
    voxel_bytes: int
    real: bool
    affine: np.ndarray
    offset: int
    encoding: str


class _RefusedError(Exception):
    """Something that headers may say and that is not read: what was expected, what was found, what to do."""


def kind_fault(path: Path) -> str | None:
    """Refuse what opening would wait for forever, or what has no end: pipes, sockets, devices; and folders.

    Args:
        path: what should be a file; links are followed.

    Returns:
        What is wrong and what to do, or None.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    return f"expected a file, found {_KINDS.get(stat.S_IFMT(mode), 'something else')}; put the image in its place"


def header_fault(path: Path) -> str | None:
    """Look for a header that cannot be true, without reading the voxels into memory.

    Compressed voxels are unpacked piece by piece and counted, so that damage that their checksum tells is found too.

    Args:
        path: a file whose name ends with ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``.

    Returns:
        What was expected, what was found and what to do, or None.
    """
    name, read = _reader(path)
    if path.stat().st_size == 0:
        return f"the file cannot be read: expected {name}, found an empty file; {_AGAIN}"
    try:
        path.open("rb").close()
    except OSError as error:
        return f"the file cannot be read: {error.strerror}; see to it that it can be opened, then run again"
    try:
        header = read(path)
    except _RefusedError as refused:
        return f"the file cannot be read: {refused}"
    except Exception:  # readers say in many ways, and at length, that they do not understand a header
        return f"the file cannot be read: expected {name}, found {_content(path)}; {_AGAIN}"
    return _shape_fault(header) or _size_fault(path, header) or _affine_fault(header)


def pixels_fault(header: Any, size: int) -> str | None:
    """Look for a DICOM header whose pixels the file cannot hold.

    Args:
        header: a pydicom data set as it was read, with ``file_meta``.
        size: of the file, in bytes.

    Returns:
        What was expected, what was found and what to do, or None.
    """
    try:
        names = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
        rows, columns, frames, samples, bits = (max(int(header.get(name) or 1), 1) for name in names)
        syntax = header.file_meta.get("TransferSyntaxUID")
    except Exception:  # values that are no numbers, or several; pydicom reads them when they are asked for
        return f"expected the number of rows and columns, found a header that makes no sense; {_AGAIN}"
    voxels = rows * columns * frames
    if voxels > MAX_VOXELS:
        return (
            f"expected at most {MAX_VOXELS} pixels in a file, found a header that promises "
            f"{_sides((columns, rows, frames))}; export it again"
        )
    needed = voxels * samples * bits // 8
    if syntax is not None and not syntax.is_compressed and not syntax.is_deflated and needed > size:
        return (
            f"expected {needed} bytes of pixels ({_sides((columns, rows, frames))}, {bits} bits), found a file of "
            f"{size} bytes; {_AGAIN}"
        )
    return None


def _reader(path: Path) -> tuple[str, Callable[[Path], _Header]]:
    if path.name.endswith(".nii.gz"):
        return "a NIfTI image compressed with gzip", _read_nifti
    if path.name.endswith(".nii"):
        return "a NIfTI image", _read_nifti
    return ("an NRRD image", _read_nrrd) if path.suffix == ".nrrd" else ("a MetaImage", _read_meta)


def _content(path: Path) -> str:
    """What a file that is not what its name says seems to be."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"\x1f\x8b"):
        return "a damaged file or header" if path.name.endswith(".gz") else "a file compressed with gzip"
    if start[128:132] == b"DICM":
        return "a DICOM file"
    text = all(byte >= 32 or byte in b"\t\n\r" for byte in start)
    header = start.startswith((b"NRRD", b"ObjectType", b"NDims"))
    return "text" if text and not header else "a header that makes no sense"


def _shape_fault(header: _Header) -> str | None:
    shape = header.shape
    if not shape or min(shape) < 1:
        return f"expected at least one voxel along every axis, found the shape {_sides(shape)}; export it again"
    if prod(shape) > MAX_VOXELS:
        return (
            f"expected at most {MAX_VOXELS} voxels, found a header that promises {_sides(shape)}; check the header, or "
            "cut the volume to the head"
        )
    if not header.real:
        return (
            f"expected one real number in a voxel, found the type {header.dtype}; export it as gray values, such as "
            "int16 or float32"
        )
    return None


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"


def _size_fault(path: Path, header: _Header) -> str | None:
    needed = prod(header.shape) * header.voxel_bytes
    with path.open("rb") as file:
        found, damage = _held(file, path.stat().st_size, header, needed)
    if found >= needed and not damage:
        return None
    return (
        f"the file cannot be read: expected {needed} bytes of voxels ({_sides(header.shape)}, {header.dtype}), found "
        f"{damage or found}; {_AGAIN}"
    )


def _held(file: BinaryIO, size: int, header: _Header, needed: int) -> tuple[int, str]:
    """How many bytes of voxels there are, counted up to a little more than what is needed, and what is damaged."""
    if header.encoding == "raw":
        return max(size - header.offset, 0), ""
    whole = header.encoding == "whole gzip"
    file.seek(0 if whole else header.offset)
    skipped = header.offset if whole else 0
    count = 0
    try:
        for piece in _unpacked(file, header.encoding):
            count += piece
            if count > needed + skipped + _CHUNK:
                break  # more than it promises: readers leave that
    except EOFError:
        return max(count - skipped, 0), "that the compressed data ends too early"
    except (OSError, zlib.error):
        return max(count - skipped, 0), "that the compressed data is damaged"
    return max(count - skipped, 0), ""


def _unpacked(file: BinaryIO, encoding: str) -> Iterator[int]:
    """Lengths of the pieces that a compressed stream unpacks to."""
    if encoding == "zlib":
        stream = zlib.decompressobj()
        while not stream.eof:
            packed = stream.unconsumed_tail or file.read(_CHUNK)
            if not packed:
                raise EOFError
            yield len(stream.decompress(packed, _CHUNK))
        return
    with bz2.BZ2File(file) if encoding == "bzip2" else gzip.GzipFile(fileobj=file) as unpacked:
        while piece := unpacked.read(_CHUNK):
            yield len(piece)


def _affine_fault(header: _Header) -> str | None:
    matrix = header.affine[:3, :3]
    with np.errstate(all="ignore"):
        sides = np.linalg.norm(matrix, axis=0)
        told = ", ".join(f"{side:g}" for side in sides)
        if not np.isfinite(header.affine).all():
            return "expected a finite affine, found NaN or infinite numbers; correct the header, or export it again"
        if not ((sides >= VOXEL_MM[0]) & (sides <= VOXEL_MM[1])).all():
            return (
                f"expected voxel sides of {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm, found {told}; correct the header, or "
                "export it again"
            )
        if abs(np.linalg.det(matrix / sides)) < 1e-3:
            return (
                f"expected axes that span a volume, found an affine that is singular (voxel sides {told}); correct the "
                "header, or export it again"
            )
    return None


def _read_nifti(path: Path) -> _Header:
    import nibabel as nib
    from nibabel.imageglobals import LoggingOutputSuppressor

    with LoggingOutputSuppressor():
        image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is one; CIFTI, Analyze and pairs are not
        raise _RefusedError(f"expected a NIfTI image, found {type(image).__name__}; export it as NIfTI")
    image.header.get_slope_inter()  # raises where they are not finite
    affine = np.asarray(image.affine, dtype=float)
    if not image.header["sform_code"]:
        with nib.openers.ImageOpener(str(path)) as file:
            sides = image.header_class.from_fileobj(file, check=False)["pixdim"][1:4]
        affine[:3, :3] *= sides > 0  # nibabel takes sides of 0 for 1, and those below 0 without their sign
    voxels: Any = image.dataobj
    if voxels.offset < image.header.single_vox_offset:  # nibabel would take the header for voxels
        raise _RefusedError(f"expected the voxels behind the header, found byte {voxels.offset} named; export it again")
    dtype = np.dtype(voxels.dtype)
    return _Header(
        tuple(int(side) for side in voxels.shape),
        str(dtype),
        dtype.itemsize,
        dtype.kind in "iuf" and dtype.itemsize <= 8,
        affine,
        int(voxels.offset),
        "whole gzip" if path.name.endswith(".gz") else "raw",
    )


_NRRD_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}


def _read_nrrd(path: Path) -> _Header:
    import itk

    fields, offset = _text_header(path, b":", lambda line: not line.strip())
    if "data file" in fields or "datafile" in fields:
        raise _RefusedError("expected the voxels behind the header, found another file named; write both as one")
    if skips := {"line skip", "lineskip", "byte skip", "byteskip"} & {name for name in fields if fields[name] != "0"}:
        raise _RefusedError(f"expected the voxels right behind the header, found a {min(skips)}; write it without")
    encoding = fields.get("encoding", "").lower()
    if encoding not in _NRRD_ENCODINGS:
        raise _RefusedError(f"expected the encoding raw or gzip, found {encoding[:20]!r}; write it with gzip")
    return _from_itk(itk.NrrdImageIO.New(), path, offset, _NRRD_ENCODINGS[encoding])


def _read_meta(path: Path) -> _Header:
    import itk

    fields, offset = _text_header(path, b"=", lambda line: line.partition(b"=")[0].strip() == b"ElementDataFile")
    if fields.get("elementdatafile") != "LOCAL":
        raise _RefusedError("expected the voxels behind the header, found another file named; write both as one")
    compressed = fields.get("compresseddata", "").lower() == "true"
    if fields.get("binarydata", "true").lower() != "true" or fields.get("headersize", "0") not in ("0", "-1"):
        raise _RefusedError(
            "expected binary voxels right behind the header, found others; write it with BinaryData = True"
        )
    return _from_itk(itk.MetaImageIO.New(), path, offset, "zlib" if compressed else "raw")


def _text_header(path: Path, separator: bytes, is_last: Callable[[bytes], bool]) -> tuple[dict[str, str], int]:
    """Fields of a header that is lines of text, and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while (line := file.readline(_CHUNK)) and file.tell() <= _CHUNK:
            name, _, value = line.partition(separator)
            fields[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
            if is_last(line):
                return fields, file.tell()
    raise ValueError("the header has no end")


def _from_itk(reader: Any, path: Path, offset: int, encoding: str) -> _Header:
    reader.SetFileName(str(path))
    if not reader.CanReadFile(str(path)):
        raise ValueError("the first lines are others")
    reader.ReadImageInformation()
    dimensions, components = reader.GetNumberOfDimensions(), reader.GetNumberOfComponents()
    shape = tuple(int(reader.GetDimensions(axis)) for axis in range(dimensions))
    affine = np.eye(4)
    for axis in range(min(dimensions, 3)):
        direction = np.asarray(reader.GetDirection(axis), dtype=float)[:3]
        affine[: len(direction), axis] = direction * float(reader.GetSpacing(axis))
        affine[axis, 3] = float(reader.GetOrigin(axis))
    dtype = reader.GetComponentTypeAsString(reader.GetComponentType())
    kind = dtype if components == 1 else f"{components} components of {dtype}"
    return _Header(shape, kind, components * int(reader.GetComponentSize()), components == 1, affine, offset, encoding)
