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
"""What a derived image takes over from its source: patient, study, place and acquisition, nothing else.

A list of what is copied, not of what is left out: private attributes, overlays, icons and references of the source
would be wrong in an image that it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .header import words
from .uids import derived_uid

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["copy_source"]

_PATIENT = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime"),
    *("PatientSex", "OtherPatientIDs", "OtherPatientIDsSequence", "PatientComments", "EthnicGroup"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "StrainDescription", "ResponsiblePerson", "ResponsiblePersonRole"),
    *("ResponsibleOrganization", "PatientSexNeutered", "QualityControlSubject", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "DeidentificationMethodCodeSequence", "PatientAge", "PatientSize", "PatientWeight"),
    *("PregnancyStatus", "AdditionalPatientHistory", "Occupation", "AdmittingDiagnosesDescription", "AdmissionID"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    "ClinicalTrialTimePointDescription",
)
_STUDY = (
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ConsultingPhysicianName", "PhysiciansOfRecord"),
    *("NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "TimezoneOffsetFromUTC"),
)
_PLACE = (
    *("Laterality", "BodyPartExamined", "PatientPosition", "FrameOfReferenceUID", "PositionReferenceIndicator"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness", "SpacingBetweenSlices"),
    *("SliceLocation", "PatientOrientation", "ImageLaterality"),
)
_ACQUISITION = (
    *("SeriesDate", "SeriesTime", "AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "ContentDate"),
    *("ContentTime", "ProtocolName", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType"),
    *("SequenceName", "AngioFlag", "RepetitionTime", "EchoTime", "InversionTime", "NumberOfAverages"),
    *("ImagingFrequency", "ImagedNucleus", "EchoNumbers", "MagneticFieldStrength", "NumberOfPhaseEncodingSteps"),
    *("EchoTrainLength", "PercentSampling", "PercentPhaseFieldOfView", "PixelBandwidth", "ReceiveCoilName"),
    *("TransmitCoilName", "AcquisitionMatrix", "InPlanePhaseEncodingDirection", "FlipAngle", "VariableFlipAngleFlag"),
    *("SAR", "dBdt", "ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusStartTime"),
    *("ContrastBolusStopTime", "ContrastBolusTotalDose", "ContrastFlowRate", "ContrastFlowDuration"),
    *("ContrastBolusIngredient", "ContrastBolusIngredientConcentration"),
)
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_CODED = ("ContrastBolusAgentSequence", "ContrastBolusAdministrationRouteSequence")
_NEEDED: dict[str, Any] = {
    **dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"), ""),
    **dict.fromkeys(("StudyTime", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"), ""),
    "Laterality": "",  # not known: it is for paired parts of the body
    **dict.fromkeys(("SliceThickness", "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"), None),
    # of a sequence that its header does not tell
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "LossyImageCompression": "00",
}
"""What the classic MR image has to have, and what it has where the source does not say."""


def copy_source(header: Dataset, enhanced: bool) -> Dataset:
    """The attributes that a classic MR image derived from an image has in common with it.

    Args:
        header: of the source; see :func:`~monai_lipcar.dicom.header.frame_headers`.
        enhanced: the source is a frame of an enhanced multi-frame image, whose words differ in places.

    Returns:
        A new data set.
    """
    from pydicom import Dataset

    copied = Dataset()
    for keyword in (*_PATIENT, *_STUDY, *_PLACE, *_ACQUISITION, *_LOSSY, *(() if enhanced else _CODED)):
        if keyword in header:
            copied.add(header[keyword])
    if enhanced:
        _from_enhanced(header, copied)
    for keyword, value in _NEEDED.items():
        if keyword not in copied:
            setattr(copied, keyword, value)
    if copied.ScanningSequence in ("", None):
        copied.ScanningSequence = _NEEDED["ScanningSequence"]
    if copied.SequenceVariant in ("", None):
        copied.SequenceVariant = _NEEDED["SequenceVariant"]
    if copied.LossyImageCompression in ("", None):
        copied.LossyImageCompression = "00"
    if not copied.get("FrameOfReferenceUID"):
        copied.FrameOfReferenceUID = derived_uid("frame of reference", str(header.SeriesInstanceUID))
    return copied


def _from_enhanced(header: Dataset, copied: Dataset) -> None:
    direction = str(header.get("InPlanePhaseEncodingDirection", ""))
    if direction in ("COLUMN", "ROW"):
        copied.InPlanePhaseEncodingDirection = direction[:3]
    elif "InPlanePhaseEncodingDirection" in copied:
        del copied.InPlanePhaseEncodingDirection
    agents = header.get("ContrastBolusAgentSequence")
    if agents and "ContrastBolusAgent" not in copied:
        names = words(agents[0], "ContrastBolusAgent") or words(agents[0], "CodeMeaning")
        copied.ContrastBolusAgent = "".join(names)[:64]
    moment = str(header.get("AcquisitionDateTime", ""))
    if len(moment) >= 14 and "AcquisitionTime" not in copied:
        copied.AcquisitionDate, copied.AcquisitionTime = moment[:8], moment[8:].split("+")[0].split("-")[0]
