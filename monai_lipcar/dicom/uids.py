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
"""UIDs that a second run finds again."""

from __future__ import annotations

import uuid

__all__ = ["derived_uid"]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "monai-lipcar.derived-series")


def derived_uid(*parts: str) -> str:
    """A DICOM UID that is a function of its arguments.

    It is derived from a UUID (DICOM PS3.5 B.2), of the kind that is the hash of a name (RFC 9562, version 5).

    Args:
        parts: what the UID is made of.

    Example:
        >>> derived_uid("a", "b") == derived_uid("a", "b"), derived_uid("a", "b") == derived_uid("ab")
        (True, False)
        >>> derived_uid("a").startswith("2.25."), len(derived_uid("a")) <= 64
        (True, True)
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"
