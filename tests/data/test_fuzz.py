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
"""Damaged files of every format: always a line, never a crash, never a wait, never memory that a header asked for."""

from __future__ import annotations

import gzip
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_lipcar.data import Study, explain_failure
from monai_lipcar.data.formats import SUFFIXES
from monai_lipcar.transforms.volume_checks import check_volume

pytestmark = pytest.mark.filterwarnings("ignore")  # the readers', about what was damaged

SECONDS = 20
"""For one file. It takes milliseconds; a machine may be busy."""


@pytest.fixture
def bounded() -> Iterator[None]:
    """At most a gigabyte more than now: what a header promises in vain cannot be allocated unnoticed."""

    def ended(*_: object) -> None:
        raise AssertionError("a damaged file made a reader wait")

    (pages,) = (int(field) for field in Path("/proc/self/statm").read_text().split()[:1])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ended)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)


def damage(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """Bytes changed, cut off, left out, repeated or replaced by extreme numbers, most of them in the header."""
    changed = bytearray(content)
    start = int(rng.integers(0, min(len(content), header)))
    kind = rng.integers(5)
    if kind == 0:
        for place in rng.integers(0, min(header, len(content)), size=int(rng.integers(1, 8))):
            changed[place] = int(rng.integers(256))
    elif kind == 1:
        del changed[int(rng.integers(0, len(content))) :]
    elif kind == 2:
        del changed[start : start + int(rng.integers(1, 60))]
    elif kind == 3:
        changed[start:start] = changed[start : start + int(rng.integers(1, 200))]
    else:
        extremes = (b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\x80", b"-999999999", b"nan 0 1e99")
        value = extremes[int(rng.integers(len(extremes)))]
        place = start - start % 2
        changed[place : place + len(value)] = value
    return bytes(changed)


def outcome(study: Study) -> str | None:
    """The line that a run would write about a study, or None where its volume can be used."""
    signal.alarm(SECONDS)
    try:
        study.check(("low",))
        image = LoadImage(image_only=True, ensure_channel_first=True)(study.members["low"])
        check_volume(image.numpy(), np.asarray(image.affine), min_size=2)
    except Exception as error:
        return str(explain_failure(study, error))
    finally:
        signal.alarm(0)
    return None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as on Linux")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [80, pytest.param(800, marks=pytest.mark.slow)])
def test_damaged_volumes(count: int, suffix: str, tmp_path: Path, writers, oblique_affine, bounded: None) -> None:
    rng = np.random.default_rng(count)
    array = rng.integers(0, 4000, (7, 6, 5)).astype(np.int16)
    path = writers[suffix](tmp_path / f"low{suffix}", array, oblique_affine)
    good = path.read_bytes()
    study = Study("s", {"low": path})
    assert outcome(study) is None
    lines = []
    for number in range(count):
        if suffix == ".nii.gz" and number % 2:  # what is compressed is damaged, not the compression
            path.write_bytes(gzip.compress(damage(gzip.decompress(good), rng, 352), 1))
        else:
            path.write_bytes(damage(good, rng, 400))
        lines.append(outcome(study))
    refused = [line for line in lines if line is not None]
    assert len(refused) > count // 4
    assert len(refused) < count  # fields that nothing depends on
    for line in refused:
        assert line.startswith(("study s, low", "study s:")), line
        assert "\n" not in line
        assert "emory" not in line, line
        assert len(line) < 400, line
