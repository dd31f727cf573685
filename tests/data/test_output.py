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
"""Results on disk: whole or not at all."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_lipcar.data import Study, output
from monai_lipcar.data.output import RESULT_FILE, StudyOutput, path_from, refuse_input_folders, write_volume
from monai_lipcar.errors import ConfigurationError, StudyError

AFFINE = np.array([[0.0, -0.5, 0.0, 12.5], [0.5, 0.0, 0.0, -3.0], [0.0, 0.0, 3.0, 40.0], [0.0, 0.0, 0.0, 1.0]])


def volume(value: float = 1.0, shape: tuple[int, ...] = (5, 6, 4)) -> MetaTensor:
    values = value * torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return MetaTensor(values, affine=AFFINE)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_volumes_and_record(tmp_path: Path) -> None:
    result = StudyOutput(tmp_path / "out", "sub-01")
    assert result.read() is None
    places = result.write({"high_sim": volume(300.0), "residual": -volume()}, {"alpha": 0.006})
    folder = tmp_path / "out" / "sub-01"
    assert places == {
        "high_sim": folder / "high_sim.nii.gz",
        "residual": folder / "residual.nii.gz",
        "result": folder / RESULT_FILE,
    }
    assert sorted(contents(folder)) == ["high_sim.nii.gz", "residual.nii.gz", "result.json"]
    assert result.read() == {"alpha": 0.006}
    image = nibabel.load(places["high_sim"])
    assert image.get_data_dtype() == np.float32
    assert image.shape == (5, 6, 4)
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_fdata(), volume(300.0)[0].float().numpy())
    assert nibabel.load(places["residual"]).get_fdata().min() < 0


def test_voxel_sizes_and_their_unit(tmp_path: Path) -> None:
    write_volume(volume(), tmp_path / "volume.nii.gz")
    header = nibabel.load(tmp_path / "volume.nii.gz").header
    assert header.get_zooms() == (0.5, 0.5, 3.0)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("content", ["", '{"alpha": 0.0', "[1, 2]", "null"])
def test_a_record_that_cannot_be_read_is_no_result(tmp_path: Path, content: str) -> None:
    result = StudyOutput(tmp_path, "sub-01")
    result.folder.mkdir()
    result.result_file.write_text(content)
    assert result.read() is None


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("out of range")]
)
@pytest.mark.parametrize("at", ["first", "second"])
def test_what_goes_wrong_half_way_leaves_the_older_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, at: str
) -> None:
    result = StudyOutput(tmp_path, "sub-01")
    result.write({"high_sim": volume(), "residual": volume()}, {"run": 1})
    before = contents(result.folder)
    written: list[Path] = []

    def write(volume: MetaTensor, path: Path) -> None:
        written.append(path)
        if at == "first" or len(written) == 2:
            path.write_bytes(b"half a volume")
            raise failure
        write_volume(volume, path)

    monkeypatch.setattr(output, "write_volume", write)
    with pytest.raises(StudyError if isinstance(failure, OSError) else type(failure)) as caught:
        result.write({"high_sim": volume(2.0), "residual": volume(2.0)}, {"run": 2})
    assert contents(result.folder) == before
    if isinstance(failure, OSError):
        assert str(caught.value) == (
            f"study sub-01: the result cannot be written to {result.folder} (No space left on device); free space or "
            "choose another --output_dir, then run again: finished studies are skipped"
        )


def test_a_disk_that_is_full_half_way(tmp_path: Path) -> None:
    result = StudyOutput(tmp_path, "sub-01")
    result.write({"high_sim": volume()}, {"run": 1})
    before = contents(result.folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may become larger: writing stops in the middle
    try:
        with pytest.raises(StudyError, match=r"sub-01.*cannot be written to .*File too large.*free space"):
            result.write({"high_sim": volume(), "residual": volume(shape=(64, 64, 16))}, {"run": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(result.folder) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"precious")
    out = tmp_path / "out"
    (out / "sub-02").mkdir(parents=True)
    (out / "sub-01").symlink_to(victim)
    for name in (".partial-high_sim.nii.gz", ".partial-result.json", "high_sim.nii.gz", "result.json"):
        (out / "sub-02" / name).symlink_to(victim / "file")
    with pytest.raises(StudyError) as caught:
        StudyOutput(out, "sub-01").write({"high_sim": volume()}, {"run": 1})
    assert str(caught.value) == (
        f"study sub-01: expected a folder, found the symbolic link {out / 'sub-01'}: results are never written through "
        "links; remove the link, or choose another output folder"
    )
    StudyOutput(out, "sub-02").write({"high_sim": volume()}, {"run": 1})
    assert contents(victim) == {"file": b"precious"}
    assert not any(path.is_symlink() for path in (out / "sub-02").iterdir())
    # the folder of all results may be one: whoever named it wants it
    (tmp_path / "link").symlink_to(out)
    StudyOutput(tmp_path / "link", "sub-03").write({"high_sim": volume()}, {"run": 1})
    assert (out / "sub-03" / "result.json").is_file()


def test_a_record_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    result = StudyOutput(tmp_path, "sub-01")
    with pytest.raises(ValueError, match="not JSON compliant"):
        result.write({"high_sim": volume()}, {"psnr": float("nan")})
    assert not result.folder.exists()


@pytest.mark.parametrize("blocked", ["study", "output"])
def test_a_file_where_the_folder_should_be(tmp_path: Path, blocked: str) -> None:
    result = StudyOutput(tmp_path / "out", "sub-01")
    if blocked == "study":
        (tmp_path / "out").mkdir()
    (result.folder if blocked == "study" else tmp_path / "out").write_text("in the way")
    with pytest.raises(StudyError, match="study sub-01: the result cannot be written to"):
        result.write({"high_sim": volume()}, {})


def test_the_record_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two renames, the study counts as unfinished: never an old record with a new volume."""
    result = StudyOutput(tmp_path, "sub-01")
    result.write({"high_sim": volume()}, {"run": 1})
    snapshots: list[tuple[str, bool]] = []
    replace = output.os.replace

    def spy(source: Path, place: Path) -> None:
        snapshots.append((Path(place).name, result.read() is None))
        replace(source, place)

    monkeypatch.setattr(output.os, "replace", spy)
    result.write({"high_sim": volume(2.0), "residual": volume()}, {"run": 2})
    assert snapshots == [("high_sim.nii.gz", True), ("residual.nii.gz", True), ("result.json", True)]
    assert result.read() == {"run": 2}


def test_leftovers_of_a_killed_run_do_not_disturb(tmp_path: Path) -> None:
    result = StudyOutput(tmp_path, "sub-01")
    result.folder.mkdir()
    for name in ("high_sim.nii.gz", "result.json"):
        (result.folder / f".partial-{name}").write_bytes(b"half")
    assert result.read() is None
    result.write({"high_sim": volume()}, {"run": 1})
    assert sorted(contents(result.folder)) == ["high_sim.nii.gz", "result.json"]
    assert json.loads(result.result_file.read_text()) == {"run": 1}
    shutil.rmtree(result.folder)
    assert result.read() is None


@pytest.mark.parametrize(
    ("place", "refused"),
    [
        ("data", True),  # results would go into data/sub-01
        ("data/sub-01", True),
        ("data/sub-01/results", True),
        ("data/sub-01/low", True),  # a DICOM series
        ("", False),  # the parent: results go to ./sub-01, which holds no inputs
        ("results", False),
        ("data/results", False),  # of a datalist: nobody looks for studies there
    ],
)
def test_results_among_the_inputs_of_a_datalist(tmp_path: Path, place: str, refused: bool) -> None:
    (tmp_path / "data" / "sub-01" / "low").mkdir(parents=True)
    members = {"pre": tmp_path / "data" / "sub-01" / "pre.nii", "low": tmp_path / "data" / "sub-01" / "low"}
    studies = [Study("sub-01", members)]
    if refused:
        with pytest.raises(
            ConfigurationError, match=r"would put results of study sub-01 among its inputs in .*/data/s"
        ):
            refuse_input_folders(tmp_path / place, studies)
    else:
        refuse_input_folders(tmp_path / place, studies)


def test_files_of_several_studies_in_one_folder(tmp_path: Path) -> None:
    studies = [Study(f"sub-{number}", {"pre": tmp_path / f"sub-{number}_pre.nii"}) for number in (1, 2)]
    refuse_input_folders(tmp_path / "results", studies)
    with pytest.raises(ConfigurationError, match="among its inputs"):
        refuse_input_folders(tmp_path.parent, [Study(tmp_path.name, {"pre": tmp_path / "pre.nii"})])


def test_a_link_to_the_dataset_is_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(ConfigurationError, match="link is the dataset folder .*data: inputs are never changed; choose"):
        refuse_input_folders(tmp_path / "link", [], tmp_path / "data")


HOME, MNT = "/" + "home", "/" + "mnt"  # apart, since no file may look as if it named a machine's folders


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        (f"{HOME}/one/trial/out", f"{HOME}/one/trial/data/a/pre.nii", "../data/a/pre.nii"),
        (f"{HOME}/one/out", f"{HOME}/one/data/a/pre.nii", "../data/a/pre.nii"),
        (f"{HOME}/one/out", f"{HOME}/two/data/a/pre.nii", None),  # would name somebody
        (f"{MNT}/disk{HOME}/one/out", f"{MNT}/disk{HOME}/two/pre.nii", None),
        ("/out", "/data/a/pre.nii", None),
        (f"{MNT}/out", f"{MNT}/data/a/pre.nii", None),
        (f"{MNT}/trial/data/out", f"{MNT}/trial/data/./x/../pre.nii", "../pre.nii"),
    ],
)
def test_path_of_an_input_in_a_record(folder: str, path: str, expected: str | None) -> None:
    assert path_from(folder, Path(path)) == expected
