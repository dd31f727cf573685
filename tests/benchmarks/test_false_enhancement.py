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
"""False enhancement by anatomy."""

from __future__ import annotations

from benchmarks.false_enhancement import means


def row(size: float, per_cm3: float) -> dict[str, float]:
    found = {"false_enhancement_3mm": float(size >= 3), "false_enhancement_mm": size}
    return found | {"false_enhancement_per_cm3": per_cm3}


def test_means_are_of_the_studies_of_an_anatomy() -> None:
    studies = {"rat-0001": row(0.5, 2.0), "mni152-0001": row(4.0, 0.1), "mni152-0002": row(1.0, 0.3)}
    found = means({"ph2l": studies, "high": {"rat-0001": {}}}, ["rat", "mni152"])
    assert found["rat"] == {"ph2l": row(0.5, 2.0)}
    expected = {"false_enhancement_3mm": 0.5, "false_enhancement_mm": 4.0, "false_enhancement_per_cm3": 0.2}
    assert found["mni152"] == {"ph2l": expected}
