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

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.utils import json_hashing, pickle_hashing
from monai.transforms import (
    Compose,
    CropForegroundd,
    DivisiblePadd,
    Lambdad,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandGaussianNoised,
    ScaleIntensityd,
    ScaleIntensityRanged,
    Spacingd,
)

from monai_lipcar.data.fingerprint import fingerprint


def _chain(upper: float = 100.0) -> Compose:
    return Compose(
        [
            LoadImaged(("pre", "low"), image_only=True, ensure_channel_first=True, allow_missing_keys=True),
            Spacingd(("pre", "low"), pixdim=(1.0, 1.0, -1.0), mode=("bilinear", "nearest")),
            ScaleIntensityRanged(("pre", "low"), a_min=0, a_max=upper, b_min=0, b_max=1, clip=True),
            CropForegroundd(("pre", "low"), source_key="low", select_fn=lambda x: x > 0.1),
            RandGaussianNoised(("pre",), prob=1.0),
            Lambdad("pre", func=partial(np.clip, a_min=0, a_max=1.0)),
        ]
    )


def test_same_for_every_random_state() -> None:
    chain = _chain()
    chain.set_random_state(seed=5)
    assert fingerprint(chain) == fingerprint(_chain())


def test_same_in_another_process() -> None:
    program = f"""
import importlib.util, sys
from monai_lipcar.data.fingerprint import fingerprint
spec = importlib.util.spec_from_file_location({__name__!r}, {__file__!r})
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(fingerprint(module._chain()), fingerprint({{"b", "a", "c"}}))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [fingerprint(_chain()), fingerprint({"a", "b", "c"})]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ""])
def test_same_after_a_call(suffix: str, tmp_path: Path, writers, oblique_affine) -> None:
    keys = ("pre",)
    chain = Compose(
        [
            LoadImaged(keys, image_only=True, ensure_channel_first=True),
            Orientationd(keys, "RAS", labels=None),
            Spacingd(keys, pixdim=(1.0, 1.0, -1.0)),
            CropForegroundd(keys, source_key="pre"),
            DivisiblePadd(keys, 16),
            ScaleIntensityd(keys),
        ]
    )
    before = fingerprint(chain)
    array = np.random.default_rng(0).integers(0, 100, (8, 8, 8)).astype(np.int16)
    chain({"pre": writers[suffix](tmp_path / f"pre{suffix}", array, oblique_affine)})
    assert fingerprint(chain) == before


def test_why_not_the_hashes_of_monai() -> None:
    assert pickle_hashing(Compose([ScaleIntensityd("pre")])) != pickle_hashing(Compose([ScaleIntensityd("pre")]))
    name, twin, same = (f"pre{number}"[:3] for number in range(3))
    assert pickle_hashing([ScaleIntensityd((name, name))]) != pickle_hashing([ScaleIntensityd((twin, same))])
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_hashing([ScaleIntensityd("pre")])
    assert fingerprint(ScaleIntensityd((name, name))) == fingerprint(ScaleIntensityd((twin, same)))


@pytest.mark.parametrize(
    "other",
    [
        _chain(101.0),
        Compose(_chain().transforms[::-1]),
        Compose(_chain().transforms[:-1]),
        Compose([*_chain().transforms[:-1], Lambdad("pre", func=partial(np.clip, a_min=0, a_max=2.0))]),
        Compose([*_chain().transforms[:-1], Lambdad("pre", func=lambda x: x)]),
    ],
)
def test_another_configuration_is_another_fingerprint(other: Compose) -> None:
    assert fingerprint(other) != fingerprint(_chain())


def _power(exponent: float):
    return lambda image: image**exponent


def test_values_that_must_not_be_mixed_up() -> None:
    values = [
        *(None, True, 1, 1.0, "1", b"1", np.float32(1), (1,), [1], {1}, {1: 1}, (1, (2, 3)), (1, 2, 3), ((1, 2), 3)),
        *(np.ones(2), np.ones(2, dtype=np.float32), np.ones((1, 2)), np.zeros(2), torch.ones(2), torch.zeros(2)),
        *(torch.ones(2, dtype=torch.bfloat16), torch.float32, torch.device("cpu"), Path("a"), "a", ["a", "b"], ["ab"]),
        *(_power(2), _power(3), lambda x: x + 1, lambda x: x + 2, lambda x, y=1: x, lambda x, y=2: x, abs, int),
        *(np.clip, np.linalg.norm, partial(max, 1), partial(max, 2)),
        *(NormalizeIntensityd("a"), NormalizeIntensityd("b")),
        *(RandGaussianNoised("a", prob=0.1), RandGaussianNoised("a", prob=0.2), torch.nn.ReLU(), torch.nn.ELU()),
    ]
    prints = [fingerprint(value) for value in values]
    assert len(set(prints)) == len(values)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(_power(2)) == fingerprint(_power(2))


def test_objects_that_hold_themselves() -> None:
    class Node:
        def __init__(self) -> None:
            self.parent = self

    assert fingerprint(Node()) == fingerprint(Node())


def test_edited_source_counts_as_another_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_lipcar.data import fingerprint as module

    helper, transforms = tmp_path / "our_chain" / "helper.py", tmp_path / "our_chain" / "transforms.py"
    helper.parent.mkdir()
    (helper.parent / "__init__.py").write_text("")
    helper.write_text("def threshold(x):\n    return 1\n")
    transforms.write_text("from our_chain.helper import threshold\n\nclass Cut:\n    uses = staticmethod(threshold)\n")
    monkeypatch.syspath_prepend(tmp_path)
    cut = importlib.import_module("our_chain.transforms").Cut
    before = fingerprint(cut())
    configuration = fingerprint(cut(), source=False)
    helper.write_text("def threshold(x):\n    return 2\n")
    module._source_hash.cache_clear()  # a new process
    after = fingerprint(cut())
    assert before != after
    transforms.write_text(transforms.read_text() + "# note\n")
    module._source_hash.cache_clear()
    assert fingerprint(cut()) != after
    assert fingerprint(cut(), source=False) == configuration
