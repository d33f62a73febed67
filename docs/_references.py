"""What annotations name, as links to public names."""

from importlib import import_module

from _public import canonical
from docutils.nodes import Element, Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def resolved(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
) -> Node | None:
    """A link to the public name of what a reference names by its private one.

    What exists and is not public is shown without link; what does not exist stays
    unresolved, which is a warning.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("fedsciml."):
        return None
    if name := canonical().get(target):
        place = f"generated/api/{name.page}"
        python = env.domains["py"]
        return python.resolve_xref(
            env, node["refdoc"], app.builder, "obj", name.full, node, shown
        )
    return shown if _exists(target) else None


def _exists(target: str) -> bool:
    module, _, name = target.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False
