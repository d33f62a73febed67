"""What the library exports, by its public names."""

import ast
import inspect
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import NamedTuple

from sphinx.pycode import ModuleAnalyzer

import fedsciml


class Name(NamedTuple):
    """A public name.

    Attributes:
        module: That exports it, such as "fedsciml.methods".
        name: Within the module.
    """

    module: str
    name: str

    @property
    def full(self) -> str:
        """The dotted name."""
        return f"{self.module}.{self.name}"

    @property
    def found(self) -> object:
        """What it stands for."""
        return getattr(import_module(self.module), self.name)

    @property
    def kind(self) -> str:
        """Directive of the Python domain that describes it."""
        found = self.found
        if inspect.isclass(found):
            return "exception" if issubclass(found, BaseException) else "class"
        return "function" if inspect.isroutine(found) else "data"

    @property
    def remark(self) -> str:
        """The docstring behind its assignment; empty if it is none."""
        home = _home(self.module, self.name)
        documented = ModuleAnalyzer.for_module(home).find_attr_docs()
        return "\n".join(documented.get(("", self.name), [])).strip()

    @property
    def summary(self) -> str:
        """First paragraph of its description; empty if there is none."""
        own = "" if self.kind == "data" else inspect.getdoc(self.found) or ""
        return " ".join((self.remark or own).partition("\n\n")[0].split())

    @property
    def page(self) -> str:
        """Where its page is, without suffix: as "fedsciml.methods/class.Method"."""
        return f"{self.module}/{self.kind}.{self.name}"


@cache
def modules() -> dict[str, list[str]]:
    """The modules with an ``__all__``, and what they export, sorted."""
    found = {}
    below = sorted(m.name for m in iter_modules(fedsciml.__path__, "fedsciml."))
    for name in ["fedsciml", *below]:
        if exported := getattr(import_module(name), "__all__", None):
            found[name] = sorted(exported, key=lambda n: (n.lower(), n))
    return found


@cache
def names() -> list[Name]:
    """Every public name, but those that stand for a module."""
    every = [Name(module, name) for module, all_ in modules().items() for name in all_]
    return [name for name in every if not isinstance(name.found, ModuleType)]


@cache
def canonical() -> dict[str, Name]:
    """Of every exported class and function the first public name, by where it is."""
    found: dict[str, Name] = {}
    for name in names():
        if name.kind != "data" and not name.remark:
            found.setdefault(_place(name.found), name)
    return found


def known(name: Name) -> Name:
    """The first public name of the same thing; the name itself if there is none."""
    return canonical().get(_place(name.found), name)


def _place(found: object) -> str:
    return f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"


def _home(module: str, name: str) -> str:
    """The module in which a name is assigned, followed through imports."""
    source = _imported(module).get(name)
    return _home(source, name) if source else module


@cache
def _imported(module: str) -> dict[str, str]:
    """Where a module takes what it imports from."""
    found: dict[str, str] = {}
    for node in ast.parse(Path(str(import_module(module).__file__)).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    return found
