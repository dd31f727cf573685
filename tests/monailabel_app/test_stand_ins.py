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

import sys

import pytest
from lib import stand_ins


def test_what_can_be_imported_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "_ATTRIBUTES", {"json.decoder": ("JSONDecoder",)})
    before = sys.modules["json.decoder"]
    assert stand_ins.provide() == []
    assert sys.modules["json.decoder"] is before


@pytest.mark.parametrize("error", ["RuntimeError('operator torchvision::nms does not exist')", "ImportError('gone')"])
def test_stand_ins_only_say_what_they_are(
    error: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_package").mkdir()
    (folder / "broken_package" / "__init__.py").write_text(f"raise {error}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(stand_ins, "_ATTRIBUTES", {"broken_package.utils": ("make_grid",), "not_there_at_all": ()})
    try:
        assert stand_ins.provide() == ["broken_package.utils", "not_there_at_all"]
        from broken_package.utils import make_grid

        with pytest.raises(ModuleNotFoundError, match=r"broken_package.utils.make_grid cannot be imported"):
            make_grid(1)
        assert stand_ins.provide() == []  # they stay
    finally:
        for name in ("broken_package", "broken_package.utils", "not_there_at_all"):
            sys.modules.pop(name, None)
