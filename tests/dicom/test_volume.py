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
from __future__ import annotations

import random
import shutil
from pathlib import Path

import itk
import numpy as np
import pytest
from monai.data import ITKReader
from monai.transforms import LoadImage

from monai_lipcar.dicom.series import scan_folder
from monai_lipcar.dicom.volume import read_volume, slices_of
from monai_lipcar.errors import StudyError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The one series of a folder."""
    (series,) = scan_folder(folder)
    volume = read_volume(series, "s", "low")
    assert volume.dtype.is_floating_point
    return volume[0].numpy(), volume.affine.numpy()


def refused(folder: Path) -> str:
    """The line that refuses the one series of a folder."""
    (series,) = scan_folder(folder)
    with pytest.raises(StudyError) as error:
        read_volume(series, "s", "low")
    message = str(error.value)
    assert message.startswith("study s, low: ")
    assert "\n" not in message
    assert "Doe" not in message
    assert "4711" not in message
    return message


@pytest.mark.parametrize("grid", ["oblique", "sagittal"])
@pytest.mark.parametrize("backwards", [False, True])
def test_voxels_and_affine_are_exact(grid, backwards, request, tmp_path, array, write_series) -> None:
    affine = request.getfixturevalue(grid)
    write_series(tmp_path, array, affine, backwards=backwards)
    values, found = read(tmp_path)
    handed = np.linalg.det(affine[:3, :3]) > 0
    # right-handed in DICOM's coordinates: a left-handed grid comes with its slices in the other order
    expected = array if handed else array[:, :, ::-1]
    np.testing.assert_array_equal(values, expected)
    corner = [0, 0, 0 if handed else array.shape[2] - 1, 1]
    np.testing.assert_allclose(found[:, 3], affine @ corner, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(found[:3, :3]), abs(np.linalg.det(affine[:3, :3])), rtol=1e-6)


def test_the_same_as_itk(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique)
    values, affine = read(tmp_path)
    itk_volume = LoadImage(reader=ITKReader(), image_only=True)(tmp_path)
    np.testing.assert_array_equal(values, itk_volume.numpy())
    np.testing.assert_allclose(affine, itk_volume.affine.numpy(), atol=1e-4)


def test_slices_are_in_the_order_of_the_volume(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, backwards=True)
    (series,) = scan_folder(tmp_path)
    affine = read_volume(series, "s", "low").affine.numpy()
    slices = slices_of(series, "s", "low")
    for index, one in enumerate(slices):
        position = np.diag([-1, -1, 1]) @ np.asarray(one.header.ImagePositionPatient, dtype=float)
        np.testing.assert_allclose(position, (affine @ [0, 0, index, 1])[:3], atol=1e-6)


def test_rescale_slope_of_each_slice(tmp_path, array, oblique, write_series) -> None:
    slopes = [1.0, 0.5, 0.25, 2.0, 0.125]
    write_series(tmp_path, array, oblique, slopes=slopes)
    np.testing.assert_array_equal(read(tmp_path)[0], array * np.asarray(slopes, dtype=np.float32))


def test_signed_values_and_an_intercept(tmp_path, array, oblique, write_series) -> None:
    signed = array.astype(np.int16) - 1000
    write_series(tmp_path, signed, oblique, RescaleIntercept="-24", RescaleSlope="1", RescaleType="US")
    np.testing.assert_array_equal(read(tmp_path)[0], signed - 24.0)


def _lossless_jpeg(values: np.ndarray, folder: Path) -> bytes:
    """The encapsulated pixels of one slice, as ITK writes them."""
    encoder = itk.GDCMImageIO.New()
    encoder.SetCompressionType(itk.GDCMImageIOEnums.Compression_JPEG)
    image = itk.image_from_array(np.ascontiguousarray(values.T))
    path = folder / "encoded.dcm"
    itk.ImageFileWriter[type(image)].New(Input=image, FileName=str(path), ImageIO=encoder, UseCompression=True).Update()
    encoded = pydicom.dcmread(path)
    assert encoded.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1
    return bytes(encoded.PixelData)


@pytest.mark.parametrize("name", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "JPEGLosslessSV1"])
def test_compressed(name, tmp_path, array, oblique, write_series) -> None:
    syntax = getattr(pydicom.uid, name)
    slopes = [1.0, 0.5, 0.25, 2.0, 0.125]
    array = np.tile(array, (8, 8, 1))  # JPEG 2000 needs some pixels
    for index, file in enumerate(write_series(tmp_path / "dicom", array, oblique, slopes=slopes)):
        image = pydicom.dcmread(file)
        if name == "JPEGLosslessSV1":
            image.PixelData = _lossless_jpeg(array[:, :, index], tmp_path)
            image["PixelData"].is_undefined_length = True
            image.file_meta.TransferSyntaxUID = syntax
        else:
            image.compress(syntax, generate_instance_uid=False)
        image.save_as(file)
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read(tmp_path / "dicom")[0], array * np.asarray(slopes, dtype=np.float32))


@pytest.mark.parametrize("variant", ["bigendian", "implicit", "RLE", "jp2klossless", "jpeg_ls_lossless"])
def test_a_scanners_image_in_every_encoding(variant, tmp_path) -> None:
    """pydicom's sample of a real MR image, whichever way it is written."""
    from pydicom.data import get_testdata_file

    files = [get_testdata_file(f"MR_small{name}.dcm", download=False) for name in ("", f"_{variant}")]
    volumes = []
    for number, file in enumerate(files):
        (tmp_path / str(number)).mkdir()
        shutil.copy(file, tmp_path / str(number) / "x")
        volumes.append(read(tmp_path / str(number)))
    assert volumes[0][0].shape == (64, 64, 1)
    np.testing.assert_array_equal(volumes[0][0][:, :, 0], pydicom.dcmread(files[0]).pixel_array.T)
    for first, second in zip(*volumes, strict=True):
        np.testing.assert_array_equal(first, second)


def test_enhanced_multi_frame(tmp_path, array, oblique, write_enhanced) -> None:
    order = list(range(array.shape[2]))
    random.Random(1).shuffle(order)
    write_enhanced(tmp_path, array, oblique, order=order, slope=0.5)
    values, affine = read(tmp_path)
    np.testing.assert_array_equal(values, array * np.float32(0.5))
    np.testing.assert_allclose(affine, oblique, atol=1e-6)
    (series,) = scan_folder(tmp_path)
    assert series.frames == array.shape[2]
    slices = slices_of(series, "s", "low")
    assert [one.frame for one in slices] == [order.index(index) + 1 for index in range(array.shape[2])]
    header = slices[0].header
    assert (header.EchoTime, header.RepetitionTime, header.FlipAngle) == (3.0, 8, 15)
    assert (header.ScanningSequence, header.SequenceVariant) == ("GR", "SP")


def test_enhanced_with_two_volumes(tmp_path, array, oblique, write_enhanced) -> None:
    write_enhanced(tmp_path, array, oblique, order=[0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    assert "6 or more of the 10 images" in refused(tmp_path)


def test_bruker_export(tmp_path, array, write_series) -> None:
    """Per-slice slopes near zero, a tenth of a millimeter, and what ParaVision leaves out."""
    affine = np.diag([-0.1, -0.1, 0.5, 1.0])
    slopes = [1.034e-4, 1.1e-4, 9.7e-5, 1.2e-4, 1.0e-4]
    left_out = dict.fromkeys(("FrameOfReferenceUID", "SpacingBetweenSlices", "AcquisitionTime", "PatientPosition"))
    write_series(tmp_path, array, affine, description="", slopes=slopes, ProtocolName="T1_RARE", **left_out)
    values, found = read(tmp_path)
    np.testing.assert_allclose(values, array * np.asarray(slopes), rtol=1e-5)
    np.testing.assert_allclose(found, affine, atol=1e-9)
    assert scan_folder(tmp_path)[0].description == "T1_RARE"


def test_one_slice(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array[:, :, :1], oblique, SpacingBetweenSlices=None)
    values, affine = read(tmp_path)
    assert values.shape == (7, 6, 1)
    np.testing.assert_allclose(affine, oblique, atol=1e-6)


def test_missing_slice(tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, description="T1 of Doe", drop=(2,))
    message = refused(tmp_path)
    assert 'the slices of series 1 "T1 of ***" (4 images, 10:15:00, UID ' in message
    assert "are 3 to 6 mm apart: 1 missing; export the whole series again" in message


def test_several_images_in_one_place(tmp_path, array, oblique, write_series) -> None:
    files = write_series(tmp_path, array, oblique)
    image = pydicom.dcmread(files[2])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    image.TemporalPositionIdentifier = 2
    image.save_as(tmp_path / "again")
    message = refused(tmp_path)
    assert "expected one image in each place, but 2 or more of the 6 images" in message
    assert "(they differ in TemporalPositionIdentifier)" in message


def test_a_copy_of_a_file_does_no_harm(tmp_path, array, oblique, write_series, caplog) -> None:
    files = write_series(tmp_path, array, oblique)
    (tmp_path / "copy").write_bytes(files[1].read_bytes())
    with caplog.at_level("INFO"):
        np.testing.assert_array_equal(read(tmp_path)[0], array)
    assert "1 file ignored: further copies of an image" in caplog.messages


def test_tilted_gantry(tmp_path, array, oblique, write_series) -> None:
    for index, file in enumerate(write_series(tmp_path, array, oblique)):
        image = pydicom.dcmread(file)
        position = np.asarray(image.ImagePositionPatient, dtype=float)
        position += 0.5 * index * np.asarray(image.ImageOrientationPatient[:3], dtype=float)
        image.ImagePositionPatient = [f"{value:.6f}" for value in position]
        image.save_as(file)
    assert "are shifted against each other" in refused(tmp_path)


def test_images_of_different_orientation(tmp_path, array, oblique, sagittal, write_series) -> None:
    write_series(tmp_path, array, oblique)
    uid = scan_folder(tmp_path)[0].uid
    write_series(tmp_path, array, sagittal, seed=1, SeriesInstanceUID=uid)
    assert "but ImageOrientationPatient differs" in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImagePositionPatient": None}, "does not say where it lies"),
        ({"NumberOfFrames": 2}, "several frames in a file without their positions"),
        ({"NumberOfFrames": 0, "ImageOrientationPatient": ["1", "0", "0"]}, "does not say where it lies"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "(MONOCHROME2), got MONOCHROME1 in series 1"),
        ({"PhotometricInterpretation": "RGB"}, "got RGB in series 1"),
        ({"PixelData": b"\0\0"}, "the pixels of series 1"),
    ],
)
def test_images_that_make_no_volume(changes, reason, tmp_path, array, oblique, write_series) -> None:
    write_series(tmp_path, array, oblique, **changes)
    assert reason in refused(tmp_path)


def test_truncated_file(tmp_path, array, oblique, write_series) -> None:
    file = write_series(tmp_path, array, oblique)[0]
    file.write_bytes(file.read_bytes()[:-40])
    assert "the pixels of series 1" in refused(tmp_path)
