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
"""Tests of the study check: what is refused, in which words, what is marked and what is registered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged

from monai_lipcar.errors import StudyError
from monai_lipcar.transforms.registration import CheckRegistration, CheckRegistrationd, CheckRegistrationDict
from monai_lipcar.transforms.scale import ScaleIntensityByReferenced

Head = Callable[..., np.ndarray]
SHAPE = (80, 96, 20)


def meta(volume: np.ndarray, affine: np.ndarray, name: str = "") -> MetaTensor:
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
    return MetaTensor(tensor, affine=torch.from_numpy(affine), meta={"filename_or_obj": name} if name else None)


@pytest.fixture(scope="module")
def study(head: Head, thick_slices: np.ndarray) -> dict[Any, Any]:
    """A good study, of which the tests change copies."""
    return {
        "study_id": "rat-0007",
        "pre": meta(head(thick_slices, SHAPE, gain=0.95, noise=5.0, seed=1), thick_slices, "/data/rat-0007/pre.nii.gz"),
        "low": meta(head(thick_slices, SHAPE, dose=0.2, noise=5.0, seed=2), thick_slices, "/data/rat-0007/T1_10.nii"),
        "high": meta(head(thick_slices, SHAPE, dose=1.0, noise=2.0, seed=3), thick_slices),
    }


def check(policy: str = "raise", **options: Any) -> CheckRegistrationd:
    options.setdefault("estimate_motion", False)
    return CheckRegistrationd(keys=["pre", "low", "high"], policy=policy, allow_missing_keys=True, **options)


def test_good_study_passes_untouched_and_is_recorded(study: dict[Any, Any]) -> None:
    d = check(estimate_motion=True)(study)
    for key in ("pre", "low", "high"):
        assert d[key] is study[key]
    assert d["usable_slices"] == [True] * 20
    record = d["registration"]
    assert record["reference"] == "low"
    assert record["tolerance_mm"] == pytest.approx(1.5)  # 0.75 of a voxel of 2 mm
    for key in ("pre", "high"):
        assert record["shift_mm"][key] < 0.15
        assert record["rotation_deg"][key] < 0.2
        assert record["registered"][key] is False
        assert len(record["similarity"][key]) == len(record["judged_slices"][key]) == 20
    assert record["dose_order"]["pre<low"] > 0.7
    assert record["dose_order"]["low<high"] > 0.7
    assert json.loads(json.dumps(record)) == record
    batch = decollate_batch(list_data_collate([d]))[0]
    assert [bool(usable) for usable in batch["usable_slices"]] == d["usable_slices"]


def test_low_alone_is_enough_where_nothing_else_is_needed(study: dict[Any, Any]) -> None:
    d = CheckRegistrationd(keys="low")({"low": study["low"]})
    assert d["usable_slices"] == [True] * 20
    assert d["registration"]["shift_mm"] == {}


@pytest.mark.parametrize("key", ["pre", "low"])
def test_missing_member(study: dict[Any, Any], key: str) -> None:
    d = {name: value for name, value in study.items() if name != key}
    with pytest.raises(StudyError, match=f"study rat-0007, {key}: the member is missing; add it to the study"):
        CheckRegistrationd(keys=["pre", "low"], estimate_motion=False)(d)
    if key == "pre":
        assert "pre" not in check()(d)["registration"]["similarity"]


def changed(image: MetaTensor, how: str) -> MetaTensor:
    values, affine = image.numpy()[0].copy(), image.affine.numpy().copy()
    if how == "other shape":
        values = values[:, :, :-1]
    elif how == "other affine":
        affine[0, 3] += 2.0
    elif how == "NaN":
        values[3, 4, 5:8] = np.nan
    elif how == "constant":
        values[:] = 12.0
    elif how == "too small":
        values = values[20:44]
    return meta(values, affine, image.meta.get("filename_or_obj", ""))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("other shape", r"not on the grid of low: expected shape \(80, 96, 20\), got \(80, 96, 19\); resample it"),
        ("other affine", "not on the grid of low: expected the same affine, got one that places voxels up to 2 mm"),
        ("NaN", "expected finite values, got 3 NaN and 0 infinite ones"),
        ("constant", r"the volume is constant \(12 everywhere\)"),
        ("too small", "slices of 24x96 pixels are too small for the network"),
    ],
)
def test_unusable_file_is_named(study: dict[Any, Any], how: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"^study rat-0007, pre.nii.gz: {message}"):
        check()({**study, "pre": changed(study["pre"], how)})


def test_unusable_reference_and_mask_are_named(study: dict[Any, Any], thick_slices: np.ndarray) -> None:
    with pytest.raises(StudyError, match=r"^study rat-0007, low \(T1_10.nii\): expected finite values"):
        check()({**study, "low": changed(study["low"], "NaN")})
    mask = meta(np.zeros((80, 96, 21)), thick_slices)
    with pytest.raises(StudyError, match="study rat-0007, lesion: not on the grid of low: expected shape"):
        check()({**study, "lesion": mask})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((80, 96), r"expected a 3-D volume, got a 2-D image of shape \(80, 96\)"),
        ((80, 96, 20, 3), r"got a 4-D file with 3 volumes of shape \(80, 96, 20\)"),
    ],
)
def test_file_that_is_not_a_volume(study: dict[Any, Any], tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "pre.nii.gz")
    load = Compose([LoadImaged(keys="pre", image_only=True), EnsureChannelFirstd(keys="pre")])
    loaded = load({"pre": tmp_path / "pre.nii.gz"})["pre"]
    with pytest.raises(StudyError, match=f"study rat-0007, pre.nii.gz: .*{message}"):
        check()({**study, "pre": loaded})


def test_pre_and_low_swapped(study: dict[Any, Any]) -> None:
    swapped = {**study, "pre": study["low"], "low": study["pre"]}
    with pytest.raises(StudyError, match="expected low to be brighter than pre in enhancing tissue.*were swapped"):
        check()(swapped)
    del swapped["high"]
    with pytest.raises(StudyError, match="were swapped"):
        check()(swapped)
    with pytest.raises(StudyError, match="expected high to be brighter than low"):
        check()({**study, "low": study["high"], "high": study["low"]})


def test_study_without_enhancement_passes(head: Head, thick_slices: np.ndarray) -> None:
    pre, low = (meta(head(thick_slices, SHAPE, noise=3.0, seed=seed), thick_slices) for seed in (1, 2))
    assert check()({"pre": pre, "low": low})["registration"]["dose_order"] == {"pre<low": 0.0}


def moved(head: Head, affine: np.ndarray, rotation_deg: float, shift_mm: float) -> MetaTensor:
    volume = head(
        affine, SHAPE, noise=5.0, rotation_deg=(0.0, 0.0, rotation_deg), shift_mm=(shift_mm, 0.0, 0.0), seed=4
    )
    return meta(volume, affine, "pre.nii.gz")


@pytest.mark.parametrize("policy", ["raise", "drop"])
def test_pre_rotated_by_30_degrees_is_refused(
    study: dict[Any, Any], head: Head, thick_slices: np.ndarray, policy: str
) -> None:
    d = {"study_id": "rat-0007", "low": study["low"], "pre": moved(head, thick_slices, 30.0, 0.0)}
    message = (
        r"pre.nii.gz: displaced against low by .* mm and (29|30)\.\d\d degrees \(tolerated: 1.50 mm and 0.5 degrees\)"
    )
    with pytest.raises(StudyError, match=message + "; choose the registration policy 'register'"):
        check(policy, estimate_motion=True)(d)


def test_tolerances_decide(study: dict[Any, Any], head: Head, thick_slices: np.ndarray) -> None:
    d = {"low": study["low"], "pre": moved(head, thick_slices, 0.0, 1.0)}
    found = check("drop", estimate_motion=True)(d)["registration"]["shift_mm"]["pre"]
    assert found == pytest.approx(1.0, abs=0.15)
    with pytest.raises(StudyError, match="tolerated: 0.50 mm"):
        check("drop", estimate_motion=True, tolerance_mm=0.5)(d)


def test_register_brings_pre_into_place(study: dict[Any, Any], head: Head, thick_slices: np.ndarray) -> None:
    d = {"study_id": "rat-0007", "low": study["low"], "pre": moved(head, thick_slices, 8.0, 3.0)}
    registered = check("register", estimate_motion=True)(d)
    pre, record = registered["pre"], registered["registration"]
    assert isinstance(pre, MetaTensor)
    assert pre.meta["filename_or_obj"] == "pre.nii.gz"
    torch.testing.assert_close(pre.affine, study["low"].affine)
    assert record["registered"] == {"pre": True}
    assert record["shift_mm"]["pre"] < 0.2
    assert record["rotation_deg"]["pre"] < 0.2
    assert all(registered["usable_slices"])
    inside = np.s_[15:-15, 15:-15, 4:-4]
    truth = head(thick_slices, SHAPE)[inside]
    before, after = (np.abs(image.numpy()[0][inside] - truth).mean() for image in (d["pre"], pre))
    assert after < 0.2 * before
    assert registered["low"] is d["low"]


def test_register_takes_a_volume_on_another_grid(study: dict[Any, Any], head: Head) -> None:
    isotropic = np.diag([3.0, 3.0, 3.0, 1.0])
    isotropic[:3, 3] = -80.0, -95.0, -75.0
    d = {"low": study["low"], "pre": meta(head(isotropic, (54, 64, 51), noise=3.0), isotropic)}
    registered = check("register", estimate_motion=True)(d)
    assert registered["pre"].shape == study["low"].shape
    torch.testing.assert_close(registered["pre"].affine, study["low"].affine)
    # the result still goes back to the units of low, on its grid
    preprocessing = Compose([ScaleIntensityByReferenced(keys=["pre", "low"])])
    scaled = preprocessing(registered)
    scaled["pred"] = scaled["low"].clone()
    back = Invertd(keys="pred", transform=preprocessing, orig_keys="low", nearest_interp=False)(scaled)["pred"]
    torch.testing.assert_close(back.as_tensor(), study["low"].as_tensor(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("policy", ["raise", "drop", "register"])
def test_motion_within_the_tolerance_is_undone(
    study: dict[Any, Any], head: Head, thick_slices: np.ndarray, policy: str
) -> None:
    d = {"low": study["low"], "pre": moved(head, thick_slices, 0.2, 0.6)}
    refined = check(policy, estimate_motion=True)(d)
    record = refined["registration"]
    assert record["registered"] == {"pre": False}
    assert record["refined"] == {"pre": True}
    assert record["refined_mm"]["pre"] == pytest.approx(0.6, abs=0.1)
    assert record["refined_deg"]["pre"] == pytest.approx(0.2, abs=0.03)
    assert 0.0 < record["left_mm"]["pre"] < 0.1
    assert json.loads(json.dumps(record)) == record
    inside = np.s_[15:-15, 15:-15, 4:-4]
    truth = head(thick_slices, SHAPE)[inside]
    before, after = (np.square(image.numpy()[0][inside] - truth).mean() for image in (d["pre"], refined["pre"]))
    assert after < 0.3 * before
    left = check(policy, estimate_motion=True, refine=False)(d)
    assert left["pre"] is d["pre"]
    assert left["registration"]["refined"] == {"pre": False}


def test_registration_that_cannot_work_is_refused(study: dict[Any, Any], thick_slices: np.ndarray) -> None:
    far = thick_slices.copy()
    far[:3, 3] += 5000.0
    with pytest.raises(
        StudyError, match="pre: the motion between the volumes cannot be estimated: they do not overlap"
    ):
        check("register", estimate_motion=True)({"low": study["low"], "pre": meta(study["pre"].numpy()[0], far)})


def test_spoiled_slice_is_refused_or_dropped(study: dict[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    spoiled = study["pre"].numpy()[0].copy()
    spoiled[:, :, 9] = np.roll(spoiled[:, :, 9], 6, axis=0)
    d = {**study, "pre": meta(spoiled, study["pre"].affine.numpy())}
    with pytest.raises(StudyError, match="study rat-0007, pre: slices 9 of 0-19 do not show the same as those of low"):
        check()(d)
    with caplog.at_level(logging.WARNING):
        dropped = check("drop")(d)
    assert np.flatnonzero(~np.array(dropped["usable_slices"])).tolist() == [9]
    assert "study rat-0007: unusable slices [9]" in caplog.text
    torch.testing.assert_close(dropped["pre"], d["pre"])


def test_single_slice_is_checked_without_motion(study: dict[Any, Any]) -> None:
    d = {key: study[key][..., 9:10] for key in ("pre", "low")}
    record = check(estimate_motion=True)(d)["registration"]
    assert record["shift_mm"] == {}


def test_array_version(study: dict[Any, Any]) -> None:
    image, found = CheckRegistration(estimate_motion=False)(study["pre"], study["low"])
    assert image is study["pre"]
    assert found.motion is None
    assert found.registered is None
    assert found.slices.usable.all()
    with pytest.raises(StudyError, match="not on the grid of the reference"):
        CheckRegistration(estimate_motion=False)(study["pre"][..., :-1], study["low"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "ignore"}, "policy must be one of raise, drop, register, got 'ignore'"),
        ({"tolerance_mm": 0.0}, "tolerances must be above 0, got 0.0 mm"),
        ({"tolerance_deg": -1.0}, "tolerances must be above 0, got None mm and -1.0 degrees"),
        ({"policy": "register", "estimate_motion": False}, "policy 'register' needs estimate_motion=True"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckRegistrationDict(keys="pre", **options)
