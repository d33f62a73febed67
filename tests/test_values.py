"""Records behave as values, or say that they do not: every dataclass and named tuple."""

import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

import fedsciml
from fedsciml.network import MLP, Parallel

ROOT = Path(fedsciml.__file__).parent


def records() -> Iterator[type]:
    """All public dataclasses and named tuples that the library defines."""
    for found in pkgutil.walk_packages([str(ROOT)], "fedsciml."):
        if found.name.startswith("fedsciml.flower") and not find_spec("flwr"):
            continue  # an extra
        module = importlib.import_module(found.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            record = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
            if record and kind.__module__ == found.name and not name.startswith("_"):
                yield kind


def sample(hint: Any, number: int) -> Any:
    """A new value of a type; values of the same number are alike, others differ.

    Of a union the member that is hardest to compare: tensors, then collections.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return sample(max(inner, key=awkward), number)
    if origin is Literal:
        return inner[number % len(inner)]
    if origin is tuple:
        kinds = inner[:1] if inner[-1] is Ellipsis else inner
        return tuple(sample(kind, number) for kind in kinds)
    if origin in (list, Sequence):
        return [sample(inner[0], number)]
    if origin in (dict, Mapping):
        return {sample(inner[0], number): sample(inner[1], number)}
    simple = {int: number, float: number / 2, str: str(number), bool: bool(number)}
    if hint in simple:
        return simple[hint]
    if hint is Tensor:
        return torch.tensor([number, 2.0])
    if origin is Callable:
        return lambda *arguments: arguments
    return Opaque()


class Opaque:
    """Whatever else a field may hold."""


def awkward(hint: Any) -> int:
    """The more, the harder to compare."""
    origin = get_origin(hint) or hint
    order = [Callable, tuple, Sequence, list, Mapping, dict, Tensor]
    return order.index(origin) + 1 if origin in order else 0


def names(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return typing.cast("tuple[str, ...]", kind._fields)


def made(kind: type, values: Mapping[str, Any]) -> Any:
    """An instance with these fields, without the checks of its own."""
    if not dataclasses.is_dataclass(kind):
        return kind(**values)
    result = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(result, name, value)
    return result


def hashable(kind: type) -> bool:
    return kind.__hash__ is not None


@pytest.mark.parametrize("kind", [*records()], ids=lambda kind: kind.__name__)
def test_records_can_be_compared_and_hashed_or_say_that_they_cannot(kind: type) -> None:
    hints = get_type_hints(kind)
    values = {name: sample(hints[name], 1) for name in names(kind)}
    like = {name: sample(hints[name], 1) for name in names(kind)}
    a, b = made(kind, values), made(kind, values)
    assert a == a
    assert not (a != a)
    assert (a == b) != (a != b)
    assert (a == made(kind, like)) in (True, False)
    assert a != object()
    if hashable(kind):
        assert a != b or hash(a) == hash(b)
        hash(made(kind, like))
    for name in names(kind):
        other = made(kind, values | {name: sample(hints[name], 2)})
        assert a != other, f"{name} is not compared"
