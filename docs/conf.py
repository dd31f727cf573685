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
"""Sphinx configuration; building needs no network."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.pycode import ModuleAnalyzer

import monai_lipcar

# what the examples compute with, here and in the processes that they start
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parent.parent

project = "monai_lipcar"
author = "monai_lipcar contributors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = monai_lipcar.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_gallery/**/*.ipynb", "auto_gallery/**/*.py"]
html_theme = "furo"
html_static_path = ["_static"]
html_title = f"monai_lipcar {release}"

# The examples run while the documentation is built; one that fails makes the build fail.
sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples" / "gallery"),
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"gallery_study",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "reset_modules": ("matplotlib",),
    "capture_repr": (),
    "min_reported_time": 30,
    "show_memory": False,
    "write_computation_times": False,  # a page that fetches scripts
}

# formulas as MathML, which browsers show by themselves: MathJax would have to be fetched by every reader
html_math_renderer = "mathml"
myst_update_mathjax = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def escape_shapes(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let docstrings say ``(B, 1, *spatial)`` in prose: to reStructuredText a bare star would begin emphasis."""
    lines[:] = [re.sub(r"(``.*?``)|\*(?=spatial\b)", lambda found: found[1] or r"\*", line) for line in lines]


def add_constants(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Constants and aliases that a package exports; autodoc looks for their text in the package only."""
    if what != "module" or not hasattr(obj, "__path__"):
        return
    files = [module.name for module in pkgutil.iter_modules(obj.__path__, f"{name}.")]
    texts = {key[1]: text for file in files for key, text in ModuleAnalyzer.for_module(file).find_attr_docs().items()}
    for constant in obj.__all__:
        value = getattr(obj, constant)
        if not isinstance(value, type) and not inspect.isroutine(value):
            shown = [f"   :value: {value!r}"] if len(repr(value)) < 80 else []
            text = [f"   {line}" for line in texts[constant]]
            lines += ["", f".. py:data:: {constant}", f"   :module: {name}", *shown, "", *text]


def _fraction(found: re.Match[str]) -> str:
    return f"{found[1]}{{{found[2]}}}" + (f"{{{found[3]}}}" if found[3] else "")


def visit_math(writer: Any, node: nodes.Element) -> None:
    """Write a formula as MathML; a command that is not known makes the build fail."""
    formula = re.sub(r"\\big(?![a-z])", "", node.astext())  # brackets grow by themselves
    # as the base of an index, a closing bracket would be moved away from its opening one
    formula = re.sub(r"(\\rVert|[\])])\s*(?=[_^])", r"\1{}", formula)
    # docutils takes the 12 of \tfrac12 for one number
    formula = re.sub(r"(\\[td]?frac)\s*(\d)\s*(?:(\d)|(?=\{))", _fraction, formula)
    block = isinstance(node, nodes.math_block)
    mathml = latex2mathml.tex2mathml(formula, as_block=block).replace("<mo>‖</mo>", '<mo form="postfix">‖</mo>')
    writer.body.append(f'<div class="math-block">{mathml}</div>' if block else mathml)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.add_css_file("math.css")
    app.connect("autodoc-process-docstring", add_constants)
    app.connect("autodoc-process-docstring", escape_shapes)
