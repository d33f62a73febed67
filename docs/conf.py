"""How the documentation site is built: ``make docs``.

Pages are Markdown in this directory, tutorials Python in ``tutorials/``. The build
writes ``generated/``: the API reference and the figures (``_pages``), and the tutorials
with what they print and draw.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(p) for p in (HERE, ROOT, ROOT / "scripts", ROOT / "tests")]

import _pages
from _docstrings import text
from _references import linked, resolved
from sphinx.application import Sphinx

import fedsciml

project = "fedsciml"
version = release = fedsciml.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fedsciml).*")]

html_theme = "furo"
html_title = "fedsciml"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "generated/tutorials",
    "filename_pattern": "",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "image_scrapers": ("_tutorials.pictures",),
    "reset_modules": ("_tutorials.timed",),
    "reset_modules_order": "both",
}


def _docstring(
    app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    lines[:] = text("\n".join(lines)).splitlines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is written here."""
    app.connect("config-inited", lambda *_: _pages.write(HERE / "generated"))
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("source-read", linked)
    app.connect("missing-reference", resolved)
    return {"parallel_read_safe": True}
