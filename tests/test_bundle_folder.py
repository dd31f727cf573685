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
"""What the folder of a bundle says; more in ``test_bundle.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_lipcar.bundle import domain_ranges


@pytest.mark.parametrize(
    ("metadata", "expected"), [({"domain": {"noise": [None, 0.1]}}, {"noise": [None, 0.1]}), ({"version": "0"}, {})]
)
def test_the_ranges_of_the_training(metadata: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    assert domain_ranges(tmp_path) == expected
