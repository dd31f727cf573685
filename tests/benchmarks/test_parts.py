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
"""Splits and chosen slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper.parts import Parts, digest

KEY, OTHER = {"level": 0.033, "approach": "low"}, {"level": 0.0, "approach": "low"}
ROWS = {"rat-0001:3": {"ssim": 0.5}}


def test_the_order_of_keys_does_not_matter() -> None:
    assert digest(KEY) == digest(dict(reversed(KEY.items()))) != digest(OTHER)


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.store(KEY, ROWS)
    assert parts.find(KEY) == ROWS
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-9])
    assert parts.find(KEY) == parts.find(OTHER) == {}


@pytest.mark.parametrize("order", [(KEY, OTHER), (OTHER, KEY)])
def test_published_parts_are_gone_on_from(order: tuple[dict[str, object], ...], tmp_path: Path) -> None:
    first = Parts(tmp_path / "first")
    first.store({"level": 0.066}, ROWS)  # of no table: not looked for, not published
    for key in order:
        first.store(key, {**ROWS, "of": key})
        first.find(key)
    first.publish(tmp_path / "rows.jsonl")
    second = Parts(tmp_path / "second", tmp_path / "rows.jsonl")
    assert second.find({"level": 0.066}) == {}
    assert [second.find(key) for key in order] == [{**ROWS, "of": key} for key in order]
    second.store(KEY, {"newer": 1})
    assert second.find(KEY) == {"newer": 1}
    second.publish(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text().count("\n") == 2


def test_the_published_file_does_not_depend_on_the_run(tmp_path: Path) -> None:
    for run, order in (("a", (KEY, OTHER)), ("b", (OTHER, KEY))):
        parts = Parts(tmp_path / run)
        for key in order:
            parts.store(key, ROWS)
            parts.find(key)
        parts.publish(tmp_path / f"{run}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
