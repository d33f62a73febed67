"""Step policies by name. One module each, which is its own registry entry.

A module of this package whose name has no leading underscore is a policy of that name;
its ``make`` is a dataclass whose fields are the policy's options, and the first line of
its docstring says what the policy does.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from fedsciml.policies._base import (
    HALVINGS,
    MARGIN,
    MOST,
    Candidates,
    Choice,
    LossFree,
    Policy,
    Probed,
    S,
    check_candidates,
    check_fractions,
    lowest,
    proposal,
    resolved,
)
from fedsciml.registry import suggestion

__all__ = [
    "FORM",
    "HALVINGS",
    "MARGIN",
    "MOST",
    "Candidates",
    "Choice",
    "LossFree",
    "Policy",
    "Probed",
    "S",
    "check_candidates",
    "check_fractions",
    "lowest",
    "names",
    "options",
    "parse",
    "proposal",
    "resolved",
    "summary",
]

FORM = "NAME or NAME:OPTION=VALUE,..., for example line_search:damping=1e-6"
"""What ``parse`` understands, for messages."""


def names() -> list[str]:
    """Names of all policies, sorted."""
    modules = (module.name for module in iter_modules(__path__))
    return sorted(name for name in modules if not name.startswith("_"))


def summary(name: str) -> str:
    """What a policy does, in one line.

    Raises:
        ValueError: If there is no such policy.
    """
    return (inspect.getdoc(_module(name)) or "").partition("\n")[0]


def options(name: str) -> dict[str, int | float | bool]:
    """A policy's plain options and their defaults.

    Raises:
        ValueError: If there is no such policy.
    """
    kinds = (bool, int, float)
    found = fields(_module(name).make)
    return {f.name: f.default for f in found if isinstance(f.default, kinds)}


def parse(text: str) -> Policy[Any]:
    """The policy that a word names, as on the command line.

    Args:
        text: ``"natural"`` or, with options, ``"line_search:damping=1e-6,memory=10"``.

    Raises:
        ValueError: If there is no such policy or option, or a value does not suit.
    """
    name, _, rest = text.strip().partition(":")
    make: Callable[..., Policy[Any]] = _module(name).make
    known, given = options(name), {}
    for item in filter(None, rest.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in known:
            raise ValueError(
                f"Policy '{name}' has no option '{key}'; its options are "
                f"{', '.join(known)}." + suggestion(key, known)
            )
        given[key] = _value(text, key, value, type(known[key]))
    return make(**given)


def _module(name: str) -> ModuleType:
    known = names()
    if name not in known:
        raise ValueError(
            f"There is no policy '{name}'; choose one of {', '.join(known)}, as {FORM}."
            + suggestion(name, known)
        )
    return import_module(f"{__name__}.{name}")


def _value(text: str, key: str, value: str, kind: type) -> int | float | bool:
    words = {"true": True, "false": False}
    try:
        return words[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}
        raise ValueError(
            f"In the policy '{text}', {key} must be {wanted[kind]}, got '{value}'; "
            f"give {FORM}."
        ) from None
