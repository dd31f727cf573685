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
"""Round trip through a real archive: Orthanc (Debian packages orthanc and orthanc-dicomweb), where it is installed."""

from __future__ import annotations

import email
import json
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from monai_lipcar.dicom import read_volume, run_folder, scan_folder

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pynetdicom = pytest.importorskip("pynetdicom")

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = pytest.mark.skipif(not ORTHANC, reason="Orthanc is not installed")


class Archive(NamedTuple):
    """A running Orthanc."""

    http: str
    dicom_port: int

    def get(self, path: str, accept: str = "*/*") -> tuple[bytes, str]:
        """Content and its type."""
        request = urllib.request.Request(self.http + path, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read(), answer.headers["Content-Type"]

    def store(self, files: list[Path]) -> None:
        """Send by C-STORE."""
        images = [pydicom.dcmread(file) for file in files]
        entity = pynetdicom.AE("LIPCAR_TEST")
        for kind in {image.SOPClassUID for image in images}:
            entity.add_requested_context(kind, pydicom.uid.ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self.dicom_port, ae_title="ORTHANC")
        assert association.is_established
        for image in images:
            assert association.send_c_store(image).Status == 0
        association.release()

    def fetch(self, study_uid: str, series_uid: str | None, folder: Path) -> Path:
        """Retrieve a study, or one of its series, by C-GET."""
        folder.mkdir(parents=True)

        def keep(event) -> int:
            image = event.dataset
            image.file_meta = event.file_meta
            image.save_as(folder / uuid.uuid4().hex, enforce_file_format=True)
            return 0

        model = pynetdicom.sop_class.StudyRootQueryRetrieveInformationModelGet
        entity = pynetdicom.AE("LIPCAR_TEST")
        entity.add_requested_context(model)
        entity.add_requested_context(pydicom.uid.MRImageStorage, pydicom.uid.ExplicitVRLittleEndian)
        role = pynetdicom.build_role(pydicom.uid.MRImageStorage, scp_role=True)
        association = entity.associate(
            "127.0.0.1",
            self.dicom_port,
            ae_title="ORTHANC",
            ext_neg=[role],
            evt_handlers=[(pynetdicom.evt.EVT_C_STORE, keep)],
        )
        assert association.is_established
        query = pydicom.Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
        if series_uid is not None:
            query.QueryRetrieveLevel, query.SeriesInstanceUID = "SERIES", series_uid
        *_, (status, _) = association.send_c_get(query, model)
        assert status.Status == 0
        association.release()
        return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Archive]:
    """An Orthanc of our own, on loopback, with a storage that is thrown away."""
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = _free_port(), _free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"test": {"AET": "LIPCAR_TEST", "Host": "127.0.0.1", "Port": 1, "AllowGet": True}},
        "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
        "DicomWeb": {"Enable": True},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([str(ORTHANC), str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            running = Archive(f"http://127.0.0.1:{http}", dicom)
            for _ in range(300):
                if process.poll() is not None:
                    pytest.fail((folder / "log.txt").read_text()[-2000:])
                try:
                    running.get("/system")
                    break
                except OSError:
                    time.sleep(0.2)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def returned(archive, tmp_path_factory, write_examination) -> Path:
    """The phantom, sent to the archive, fetched from it, computed, and its derived series sent back."""
    folder = tmp_path_factory.mktemp("round-trip")
    sent = write_examination(folder / "sent")
    archive.store([file for file in sent.iterdir() if file.is_file()])
    study_uid = scan_folder(sent)[0].study_uid
    archive.fetch(study_uid, None, folder / "exam")
    run = run_folder("physics_tv", folder / "exam", folder / "out", also=("residual",), device="cpu")
    assert (run.status, run.done) == (0, ["exam"])
    archive.store(sorted((folder / "out" / "exam" / "dicom").rglob("*.dcm")))
    return folder


def _check(fetched: Path, folder: Path, name: str) -> None:
    """Fetched images are the NIfTI result, voxel for voxel, in its place."""
    (series,) = scan_folder(fetched)
    volume = read_volume(series, "exam", name)
    result = nib.load(folder / "out" / "exam" / f"{name}.nii.gz")
    np.testing.assert_array_equal(volume[0].numpy(), np.rint(np.asarray(result.dataobj)))
    np.testing.assert_array_equal(volume.affine.numpy().astype(np.float32), result.affine.astype(np.float32))


def test_c_store_and_c_get(archive, returned, tmp_path) -> None:
    for name in ("high_sim", "residual"):
        (series,) = scan_folder(returned / "out" / "exam" / "dicom" / name)
        _check(archive.fetch(series.study_uid, series.uid, tmp_path / name), returned, name)


def test_it_is_one_more_series_of_the_study(archive, returned) -> None:
    studies = json.loads(archive.get("/studies?expand")[0])
    assert len(studies) == 1
    described = [
        json.loads(archive.get(f"/series/{one}")[0])["MainDicomTags"]["SeriesDescription"]
        for one in studies[0]["Series"]
    ]
    assert sorted(described) == [
        "Residual of simulation, not for diagnosis: T1 SE low dose",
        "Simulated high dose, not for diagnosis: T1 SE low dose",
        "T1 SE low dose",
        "T1 SE pre",
    ]


def test_a_second_run_does_not_fill_the_archive(archive, returned, tmp_path) -> None:
    before = json.loads(archive.get("/statistics")[0])
    run_folder("physics_tv", returned / "exam", tmp_path, also=("residual",), device="cpu")
    archive.store(sorted((tmp_path / "exam" / "dicom").rglob("*.dcm")))
    after = json.loads(archive.get("/statistics")[0])
    assert (after["CountInstances"], after["CountSeries"]) == (before["CountInstances"], before["CountSeries"])


@pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")
def test_dicomweb(archive, returned, tmp_path) -> None:
    files = sorted((returned / "out" / "exam" / "dicom" / "high_sim").iterdir())
    (series,) = scan_folder(files[0].parent)
    # away with what came by C-STORE
    for one in json.loads(archive.get("/series?expand")[0]):
        if one["MainDicomTags"]["SeriesInstanceUID"] == series.uid:
            request = urllib.request.Request(f"{archive.http}/series/{one['ID']}", method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()
    boundary = uuid.uuid4().hex
    parts = [
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (boundary.encode(), file.read_bytes())
        for file in files
    ]
    request = urllib.request.Request(
        f"{archive.http}/dicom-web/studies",
        data=b"".join(parts) + b"--%s--\r\n" % boundary.encode(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.loads(answer.read())["00081199"]["Value"]) == len(files)
    path = f"/dicom-web/studies/{series.study_uid}/series/{series.uid}"
    content, kind = archive.get(path, 'multipart/related; type="application/dicom"')
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for number, part in enumerate(message.get_payload()):
        (fetched / str(number)).write_bytes(part.get_payload(decode=True))
    assert number + 1 == len(files)
    _check(fetched, returned, "high_sim")
