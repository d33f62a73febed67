"""Problems, one module each: ``make(**parameters)`` returns a ``Problem``.

A module in this directory is a problem because it is there; its name is the problem's,
the first line of its docstring what ``--help`` shows. Modules whose names start with an
underscore are machinery.
"""

import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType, NoneType, UnionType

from fedsciml.problem import Problem
from fedsciml.registry import suggestion

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
            parameter is of the wrong kind or out of range.
    """
    make = _module(name).make
    kinds = _kinds(make)
    try:
        inspect.signature(make).bind(**parameters)
    except TypeError as error:
        unknown = next((key for key in parameters if key not in kinds), "")
        raise ValueError(
            f"Problem '{name}' is not made so: {error}.{suggestion(unknown, kinds)} It "
            f"takes {', '.join(kinds)}."
        ) from error
    for key, value in parameters.items():
        if key in kinds and not _fits(value, kinds[key]):
            raise ValueError(
                f"'{key}' of problem '{name}' must be {_words(kinds[key])}, got "
                f"{value!r}."
            )
    problem: Problem = make(**parameters)
    return problem


def _module(name: str) -> ModuleType:
    known = names()
    if name not in known:
        raise ValueError(
            f"Unknown problem '{name}'.{suggestion(name, known)} There are "
            f"{', '.join(known)}."
        )
    return import_module(f"{__name__}.{name}")


def _kinds(make: Callable[..., object]) -> dict[str, object]:
    """The annotation of each parameter, also of those behind ``**``."""
    kinds: dict[str, object] = {}
    for key, kind in typing.get_type_hints(make).items():
        if typing.get_origin(kind) is typing.Unpack:
            kinds |= typing.get_type_hints(typing.get_args(kind)[0])
        elif key != "return":
            kinds[key] = kind
    return kinds


def _fits(value: object, kind: object) -> bool:
    """Whether a value is what the annotation says; others than these are let pass."""
    if typing.get_origin(kind) in (UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is Sequence:
        (part,) = typing.get_args(kind)
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(_fits(v, part) for v in value)
        )
    if kind in (int, float):
        number = isinstance(value, int) or (kind is float and isinstance(value, float))
        return number and not isinstance(value, bool)
    return not (kind in (str, bool, NoneType) and not isinstance(value, kind))


def _words(kind: object) -> str:
    """An annotation for people."""
    if typing.get_origin(kind) in (UnionType, typing.Union):
        return " or ".join(_words(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is Sequence:
        (part,) = typing.get_args(kind)
        return "a list of numbers" if part is float else "a list of files"
    words: Mapping[object, str] = {
        int: "a whole number",
        float: "a number",
        str: "a word",
        bool: "true or false",
        NoneType: "null",
    }
    return words.get(kind, str(kind))
