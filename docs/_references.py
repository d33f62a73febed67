"""Links that lead elsewhere on the site than in the repository."""

import re
from importlib import import_module

from _public import canonical, names
from docutils.nodes import Element, Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

BUILT = {
    r"\]\(tutorials/(\w+)\.py\)": r"](generated/tutorials/\1.rst)",
    r"\]\(tutorials\)": "](generated/tutorials/index.rst)",
    r"\]\(\.\./figures/README\.md\)": "](generated/figures.rst)",
    r"\]\(\.\./fedsciml\)": "](generated/api/index.rst)",
    r"\]\(\.\./fedsciml/(methods|policies)\)": r"](generated/api/\1/index.rst)",
    r"\]\(\.\./problems\)": "](generated/api/problems/index.rst)",
    r"\]\(\.\./tests/first_errors\.py\)": "](generated/errors.rst)",
    r"\]\(\.\./CONTRIBUTING\.md": "](contributing.md",
}
"""What pages link to in the repository, and what that is on the site."""


def linked(app: Sphinx, name: str, source: list[str]) -> None:
    """Point the links of a Markdown page to what is built; and code to its page.

    What stands as code and is a full public name, such as ``fedsciml.run``, becomes a
    link to its description.
    """
    if not app.env.doc2path(name, False).endswith(".md"):
        return
    for pattern, replacement in BUILT.items():
        source[0] = re.sub(pattern, replacement, source[0])
    known = {name.full for name in names()}

    def code(match: re.Match[str]) -> str:
        return f"{{py:obj}}{match[0]}" if match[1] in known else match[0]

    source[0] = re.sub(r"(?<!`)`(fedsciml[\w.]+)`(?!`)", code, source[0])


def resolved(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
) -> Node | None:
    """A link to the public name of what an annotation names by its private one.

    What exists and is not public is shown without link; what does not exist stays
    unresolved, which is a warning.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("fedsciml."):
        return None
    if name := canonical().get(target):
        python = env.get_domain("py")
        place = node["refdoc"], app.builder, "obj", name.full
        return python.resolve_xref(env, *place, node, shown)
    return shown if _exists(target) else None


def _exists(target: str) -> bool:
    module, _, name = target.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False
