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
"""Acquisitions: their parts, and what makes two of them different."""

from __future__ import annotations

import pytest

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics import Acquisition, DoseResponse, SpinEcho, SpoiledGradientEcho


def test_parts_and_back() -> None:
    acquisition = Acquisition(0.3, 8.0, 3.0, 15.0, r1=5.0, r2=7.1)
    assert acquisition.signal_model == SpoiledGradientEcho(8.0, 3.0, 15.0)
    assert Acquisition.of(0.3, acquisition.signal_model, acquisition.agent) == acquisition
    assert Acquisition().signal_model == SpinEcho()
    expected = DoseResponse(acquisition.signal_model, acquisition.agent, dose_fraction=0.3)
    assert acquisition.response().tables.equal(expected.tables)
    assert acquisition.response().tables[:, 0].tolist() == [0.3, 0.3]


def test_differences_of_more_than_a_percent() -> None:
    assert Acquisition().differences(Acquisition(0.2001, 361.0)) == []
    assert Acquisition().differences(Acquisition(0.21, flip_angle_deg=20.0)) == ["dose_fraction", "flip_angle_deg"]


def test_options_and_back() -> None:
    acquisition = Acquisition(0.1, 8.0, 3.0, 15.0, 5.0, 7.1)
    assert Acquisition.of_options({"alpha": 0.001, **acquisition.options()}) == acquisition
    with pytest.raises(KeyError):
        Acquisition.of_options({"dose_fraction": 0.1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dose_fraction": 0.0}, r"low dose over high dose, in \(0, 1\], got 0.0"),
        ({"repetition_time_ms": float("inf")}, "repetition_time_ms: expected a number, got inf"),
        ({"flip_angle_deg": 200.0}, "0 < flip angle <= 90"),
        ({"r1": -1.0}, "relaxivities r1 > 0"),
    ],
)
def test_impossible_values(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Acquisition(**options)
