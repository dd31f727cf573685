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
"""Finished parts of a computation, found again by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_lipcar.data.atomic import write_text

__all__ = ["Parts", "digest"]


def digest(content: Any) -> str:
    """24 hexadecimal digits of the SHA-256 of what JSON can hold; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Parts:
    """A folder of JSON files, one for each part, named after its key.

    A file is written whole or not at all, so that a killed run leaves what it finished and nothing else.

    Args:
        folder: where the files are; made when missing.
        published: file of parts that were published before (:meth:`publish`), to go on from; it is only read.
    """

    def __init__(self, folder: Path, published: Path | None = None) -> None:
        self.folder = folder
        self._found: dict[str, str] = {}
        self._published: dict[str, dict[str, Any]] = {}
        if published is not None and published.is_file():
            parts = map(json.loads, published.read_text(encoding="utf-8").splitlines())
            self._published = {digest(part["key"]): part["content"] for part in parts}

    def find(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """What was stored under this key; empty when there is nothing."""
        try:
            content: dict[str, Any] = json.loads(self._file(key).read_text(encoding="utf-8"))["content"]
        except (FileNotFoundError, ValueError):
            content = dict(self._published.get(digest(key), {}))
        if content:
            self._found[digest(key)] = self._text(key, content)
        return content

    def publish(self, file: Path) -> None:
        """Write all parts that were found, one a line, in an order that does not depend on the run."""
        write_text(file, "".join(self._found[name] for name in sorted(self._found)))

    def store(self, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Keep the content, in place of what was there."""
        write_text(self._file(key), self._text(key, content))

    @staticmethod
    def _text(key: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        return json.dumps({"key": key, "content": content}) + "\n"

    def _file(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest(key)}.json"
