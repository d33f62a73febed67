"""Methods by name. One module each, which is its own registry entry.

A module of this package whose name has no leading underscore is a method of that name.
It has a ``make`` with keyword defaults, which returns the ``Method``; its signature and
the ``Args:`` of its docstring are the method's options, and the first line of the
module's docstring says what the method is. ``make`` takes plain values only: numbers,
words and switches.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal, NamedTuple, get_args, get_origin

from fedsciml.methods._base import (
    LOSS,
    SHARE,
    Answers,
    ClientPart,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Opening,
    Parts,
    S,
    State,
    conclude,
)
from fedsciml.methods._local import Local, Solver, Trained, minimise, train
from fedsciml.methods._records import (
    Leaf,
    Record,
    flatten,
    kind,
    mapped,
    payload,
    placed,
    rebuild,
    unique,
)
from fedsciml.methods._sketching import generator
from fedsciml.registry import suggestion

__all__ = [
    "LOSS",
    "SHARE",
    "Answers",
    "ClientPart",
    "Exchanges",
    "Expected",
    "Field",
    "Info",
    "Leaf",
    "Local",
    "Method",
    "Opening",
    "Option",
    "Parts",
    "Record",
    "S",
    "Solver",
    "State",
    "Trained",
    "conclude",
    "flatten",
    "generator",
    "kind",
    "load",
    "mapped",
    "minimise",
    "names",
    "options",
    "payload",
    "placed",
    "rebuild",
    "summary",
    "train",
    "unique",
]


class Option(NamedTuple):
    """An option of a method, as the command line needs it.

    Attributes:
        type: ``int``, ``float``, ``bool`` or ``str``.
        default: What ``make`` takes if the option is not given; None for "none".
        help: What it means.
        choices: The words it may be; empty if not restricted.
    """

    type: type
    default: object
    help: str
    choices: tuple[str, ...] = ()


def names() -> list[str]:
    """Names of all methods, sorted."""
    modules = (module.name for module in iter_modules(__path__))
    return sorted(name for name in modules if not name.startswith("_"))


def load(name: str, **options: object) -> Method:
    """The method of that name.

    Args:
        name: One of ``names()``.
        options: Values for its ``options(name)``; the others keep their defaults.

    Raises:
        ValueError: If there is no such method or option, or a value does not suit.
    """
    module = _module(name)
    known = _options(module)
    for key, value in options.items():
        if key not in known:
            raise ValueError(
                f"Method '{name}' has no option '{key}'; its options are "
                f"{', '.join(known) or 'none'}." + suggestion(key, known)
            )
        _check(name, key, value, known[key])
    return module.make(**options)


def options(name: str) -> dict[str, Option]:
    """The options of a method, in the order of its ``make``.

    Raises:
        ValueError: If there is no such method.
    """
    return _options(_module(name))


def summary(name: str) -> str:
    """What a method is, in one line.

    Raises:
        ValueError: If there is no such method.
    """
    return (inspect.getdoc(_module(name)) or "").partition("\n")[0]


def _module(name: str) -> types.ModuleType:
    known = names()
    if name not in known:
        raise ValueError(
            f"There is no method '{name}'; choose one of {', '.join(known)}."
            + suggestion(name, known)
        )
    return import_module(f"{__name__}.{name}")


def _options(module: types.ModuleType) -> dict[str, Option]:
    make: Callable[..., Method] = module.make
    hints = typing.get_type_hints(make)
    help_ = _help(make)
    result = {}
    for key, parameter in inspect.signature(make).parameters.items():
        union = get_origin(hints[key]) in (typing.Union, types.UnionType)
        hint, *more = (
            kind
            for kind in (get_args(hints[key]) if union else (hints[key],))
            if kind is not types.NoneType
        )
        choices: tuple[str, ...] = ()
        if get_origin(hint) is Literal:
            choices = tuple(word for words in (hint, *more) for word in get_args(words))
            hint = str
        result[key] = Option(hint, parameter.default, help_.get(key, ""), choices)
    return result


def _help(make: Callable[..., Method]) -> dict[str, str]:
    """The ``Args:`` section of a Google-style docstring: name to text."""
    _, _, section = (inspect.getdoc(make) or "").partition("Args:\n")
    entries: dict[str, str] = {}
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            key = start[1]
            entries[key] = start[2]
        elif line.strip() and entries:
            entries[key] += " " + line.strip()
    return entries


def _check(method: str, key: str, value: object, option: Option) -> None:
    """Refuse a value of the wrong kind; the ranges are the method's own business."""
    if value is None and option.default is None:
        return
    fits = isinstance(value, (int, float) if option.type is float else option.type)
    if isinstance(value, bool) and option.type is not bool:
        fits = False
    if option.choices and value not in option.choices:
        raise ValueError(
            f"Option '{key}' of method '{method}' must be one of "
            f"{', '.join(option.choices)}; got {value!r}."
        )
    if not fits:
        raise ValueError(
            f"Option '{key}' of method '{method}' must be of type "
            f"{option.type.__name__}; got {value!r}."
        )
