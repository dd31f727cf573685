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
"""Benchmarks that take times of this process: OpenMP reads how threads wait when torch loads it, and never again."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .conftest import REPOSITORY


@pytest.mark.parametrize("script", ["solver", "solver_quality", "whole_study"])
def test_scripts_say_it_before_they_import_torch(script: str) -> None:
    text = (REPOSITORY / "benchmarks" / f"{script}.py").read_text(encoding="utf-8")
    imports = re.search(r"^(import|from) (torch|monai|monai_lipcar)\b", text, re.MULTILINE)
    assert imports is not None
    assert 0 < text.find('setdefault("OMP_WAIT_POLICY", "PASSIVE")') < imports.start()


def test_the_package_says_it_without_torch() -> None:
    code = "import os, sys, benchmarks; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env={}, capture_output=True, text=True)
    assert ended.stdout.split() == ["PASSIVE", "False"]
