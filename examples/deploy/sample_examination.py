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
"""Write the sample study as a DICOM examination: two MR series, before contrast and at low dose. Simulated, no patient.

python examples/deploy/sample_examination.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from monai_lipcar.data import find_studies, sample_dataset_dir

SERIES = {"pre": ("T1 SE pre", 1, "100000", None), "low": ("T1 SE low dose", 2, "100500", "gadopiclenol")}


def write_examination(folder: Path) -> None:
    """One file a slice, of both series, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (study,) = find_studies(sample_dataset_dir())
    study_uid, frame_uid = generate_uid(), generate_uid()
    for member, (description, number, time, agent) in SERIES.items():
        # DICOM's axes point to the left and to the back, NIfTI's to the right and to the front
        volume = nib.as_closest_canonical(nib.load(study.members[member]))
        values = np.asarray(volume.dataobj)[::-1, ::-1].astype(np.uint16)
        width, height, thickness = (float(size) for size in volume.header.get_zooms())
        corner = np.abs(np.array([width, height, 0])) * [values.shape[0] - 1, values.shape[1] - 1, 0]
        corner = np.array([-1.0, -1.0, 1.0]) * (volume.affine[:3, 3] + corner)
        series_uid = generate_uid()
        for index in range(values.shape[2]):
            image = Dataset()
            image.file_meta = FileMetaDataset()
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.PatientName, image.PatientID, image.PatientSex, image.PatientBirthDate = "Phantom", "sample", "O", ""
            image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = (
                study_uid,
                series_uid,
                frame_uid,
            )
            image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
            image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20260101"
            image.StudyTime, image.SeriesTime, image.AcquisitionTime, image.ContentTime = "100000", time, time, time
            image.Modality, image.Manufacturer, image.PatientPosition = "MR", "simulated", "HFS"
            image.ImageType, image.SeriesDescription = ["ORIGINAL", "PRIMARY", "M"], description
            image.SeriesNumber, image.InstanceNumber, image.PositionReferenceIndicator = number, index + 1, ""
            image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "SE", "NONE", ""
            image.MRAcquisitionType, image.EchoTrainLength = "2D", 1
            image.RepetitionTime, image.EchoTime, image.FlipAngle = 360.0, 5.51, 90.0
            if agent:
                image.ContrastBolusAgent, image.ContrastBolusRoute = agent, "IV"
            image.PixelSpacing, image.SliceThickness = [height, width], thickness
            image.SpacingBetweenSlices = thickness
            image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            place = corner + np.array([0.0, 0.0, index * thickness])
            image.ImagePositionPatient = [round(float(value), 6) for value in place]
            image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
            image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
            image.Rows, image.Columns = values.shape[1], values.shape[0]
            image.PixelData = np.ascontiguousarray(values[:, :, index].T).tobytes()
            image.save_as(folder / f"{member}-{index:03d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    write_examination(Path(sys.argv[1]))
