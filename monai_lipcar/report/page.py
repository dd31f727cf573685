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
"""Fill in the pages of the report: one file each, with nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from .words import IMAGE_NAMES, LEVELS, plain_number

__all__ = ["render"]


def render(template: str, **content: Any) -> str:
    """Fill in a template of this package.

    Everything in the content is taken for text, never for markup. The page's security policy lets a browser load
    nothing from anywhere and run no script but the package's own, whatever a study is called.

    Args:
        template: file name.
        content: what the template asks for.

    Returns:
        The page.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("monai_lipcar.report"), autoescape=True, trim_blocks=True)
    script = environment.get_template("viewer.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        script=Markup(script),
        script_source=f"'sha256-{digest}'",
        level_names=LEVELS,
        image_names=IMAGE_NAMES,
        plain=plain_number,
        **content,
    )
