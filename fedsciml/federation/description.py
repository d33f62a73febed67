"""What a method is, as plain data for the record of a run."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial

import numpy as np
from torch import Tensor

_TOLD = ("name", "pooled")
"""What a record has elsewhere."""


def describe(method: object) -> dict[str, object]:
    """A method's options as plain data, for the record.

    Functions and classes are there by name, other objects as their type's name and
    their fields, but for those that are made from the problem: not in the ``repr``.
    """
    if not is_dataclass(method) or isinstance(method, type):
        return {}
    names = [f.name for f in fields(method) if f.repr and f.name not in _TOLD]
    return {name: plain(getattr(method, name)) for name in names}


def plain(value: object) -> object:
    """A value as JSON knows it, the same in every process."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v) for v in value), key=repr)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "_asdict"):  # a named tuple
        content = value._asdict()
    elif isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    elif is_dataclass(value):
        content = {f.name: getattr(value, f.name) for f in fields(value) if f.repr}
    elif isinstance(value, partial):
        content = {"function": value.func, "args": value.args, **value.keywords}
    elif hasattr(value, "__dict__"):
        content = vars(value)
    else:
        content = {}
    return {
        "type": type(value).__qualname__,
        **{key: plain(v) for key, v in content.items()},
    }
