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

from pathlib import Path

import pytest

from monai_lipcar.dicom.rules import DEFAULT_RULES, load_rules
from monai_lipcar.errors import ConfigurationError

pytest.importorskip("yaml")
pytest.importorskip("pydicom")


def test_own_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("low: [{SeriesNumber: '^5$'}]\npre: [{ContrastBolusAgent: false, like: low, take: last}]\n")
    rules = load_rules(file)
    assert rules.members["low"][0].attributes == {"SeriesNumber": "^5$"}
    assert str(rules.members["pre"][0]) == "ContrastBolusAgent is empty, like low, the last of those"
    assert rules.every.attributes == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("low: {", "cannot be read"),
        ("- low", "expected the keys pre, low, high and perhaps every, got list"),
        ("every: {Modality: MR}", r"and perhaps every, got \['every'\]"),
        ("lo: []", r"got \['lo'\]"),
        ("low: {Modality: MR}", "low: expected a list of rules"),
        ("low: []", "low: expected a list of rules"),
        ("low: [5]", "low, rule 1: expected conditions, got 5"),
        ("low: [{Modalety: MR}]", "low, rule 1: 'Modalety' is no keyword of a DICOM attribute"),
        ("low: [{SeriesNumber: 5}]", "low, rule 1, SeriesNumber: expected a quoted pattern, true or false, got 5"),
        ("low: [{Modality: '('}]", "is no regular expression"),
        ("low: [{Modality: MR, like: pre}]", r"expected a member with its rules above \(none\), got 'pre'"),
        ("low: [{take: best}]", "take: expected first or last, got 'best'"),
        ("low: [{not: 5}]", "not: expected conditions, got 5"),
        ("low: [{}]\nevery: {take: first}", "every: 'take' is for the rules of a member"),
    ],
)
def test_what_is_no_rule(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as error:
        load_rules(file)
    assert str(error.value).startswith("series rules rules.yaml")
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"series rules none.yaml cannot be read"):
        load_rules(tmp_path / "none.yaml")


def test_default_rules_are_packaged() -> None:
    assert DEFAULT_RULES.is_file()
    assert load_rules().every.attributes == {"Modality": "^MR$"}
