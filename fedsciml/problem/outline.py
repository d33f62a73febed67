"""What is shown of objects that hold data: shapes, no values."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

import numpy as np
from torch import Tensor

LONGEST = 16
"""Of a list whose entries are shown."""


class Outlined:
    """Gives a dataclass a ``repr`` without the values in its tensors and functions.

    Points and measured values may be private, and a ``repr`` gets into logs.
    """

    def __repr__(self) -> str:
        return outline(self)


def outline(value: object) -> str:
    """A value with its tensors and arrays as shapes, its functions as their names."""
    name = type(value).__name__
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{name}{list(value.shape)}"
    if isinstance(value, Mapping):
        return _joined("{", (f"{k!r}: {outline(v)}" for k, v in value.items()), "}")
    if isinstance(value, (list, tuple)):
        if len(value) > LONGEST:
            return f"{name} of {len(value)}"
        return _joined("[", map(outline, value), "]")
    if is_dataclass(value) and not isinstance(value, type):
        shown = (f for f in fields(value) if f.repr)
        parts = (f"{f.name}={outline(getattr(value, f.name))}" for f in shown)
        return _joined(f"{name}(", parts, ")")
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return str(getattr(value, "__qualname__", name))


def _joined(start: str, parts: Iterable[str], end: str) -> str:
    return f"{start}{', '.join(parts)}{end}"
