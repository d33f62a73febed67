"""Problems, one module each: ``make(**parameters)`` returns a ``Problem``.

A module in this directory is a problem because it is there; its name is the problem's,
the first line of its docstring what ``--help`` shows. Modules whose names start with an
underscore are machinery.
"""

import difflib
import inspect
import pkgutil
from importlib import import_module
from types import ModuleType

from fedsciml.problem import Problem

__all__ = ["load", "names", "summary"]


def names() -> list[str]:
    """Names of all problems, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def summary(name: str) -> str:
    """The first line of a problem's description.

    Raises:
        ValueError: If there is no such problem.
    """
    return (_module(name).__doc__ or name).strip().splitlines()[0]


def load(name: str, **parameters: object) -> Problem:
    """Make a problem by name.

    Args:
        name: One of ``names()``.
        parameters: For the problem's ``make``, as ``clients`` and ``seed``.

    Raises:
        ValueError: If there is no such problem, it has no such parameter, or a
            parameter is out of range.
    """
    make = _module(name).make
    try:
        inspect.signature(make).bind(**parameters)
    except TypeError as error:
        raise ValueError(
            f"Problem '{name}' is made with {inspect.signature(make)}: {error}."
        ) from error
    problem: Problem = make(**parameters)
    return problem


def _module(name: str) -> ModuleType:
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"Unknown problem '{name}'. Did you mean '{near}'? There are "
            f"{', '.join(known)}."
        )
    return import_module(f"{__name__}.{name}")
