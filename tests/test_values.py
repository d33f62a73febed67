"""Records compare as values, or by identity: every dataclass and many named tuples."""

import dataclasses
import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

import fedsciml
from fedsciml.linalg import Sketch
from fedsciml.network import MLP, Parallel

AROUND = ("problems", "command")
"""Examples, and programs: they define no records for others to compare."""

UNPACKED = ("federation", "flower", "methods", "policies", "wrappers")
"""Packages whose named tuples are taken apart at once: they compare as tuples do."""


def records() -> Iterator[type]:
    """All public dataclasses, and named tuples, that the library defines."""
    for found in pkgutil.walk_packages(fedsciml.__path__, "fedsciml."):
        if ".flower" in found.name and not find_spec("flwr"):
            continue  # an extra
        if found.name.split(".")[1] in AROUND:
            continue
        module = importlib.import_module(found.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == found.name and not name.startswith("_"):
                tupled = hasattr(kind, "_fields") and room(kind) not in UNPACKED
                if dataclasses.is_dataclass(kind) or tupled:
                    yield kind


def room(kind: type) -> str:
    return kind.__module__.split(".")[1]


class Opaque:
    """Whatever a field may hold that is no plain value."""


def sample(hint: object, number: int) -> object:
    """A new value of a type; values of different numbers differ.

    Of a union the member that is hardest to compare, a tensor or a collection.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return sample(max(inner, key=awkwardness), number)
    if origin is Literal:
        return inner[number % len(inner)]
    if origin is tuple:
        kinds = inner[:1] if inner[-1] is Ellipsis else inner
        return tuple(sample(kind, number) for kind in kinds)
    if origin in (list, Sequence):
        return [sample(inner[0], number)]
    if origin in (dict, Mapping):
        return {sample(inner[0], number): sample(inner[1], number)}
    if hint is Tensor:
        return torch.tensor([number, 2.0])
    plain = {int: number, float: number / 4, str: str(number), bool: number % 2 == 0}
    return plain.get(hint, Opaque())


def awkwardness(hint: object) -> int:
    """The more, the harder to compare."""
    order = [Callable, tuple, Sequence, list, Mapping, dict, Tensor]
    origin = get_origin(hint) or hint
    return order.index(origin) + 1 if origin in order else 0


def made(kind: type, values: Mapping[str, object]) -> object:
    """A record with these fields, without its own checks."""
    if not dataclasses.is_dataclass(kind):
        return kind(**values)
    result = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(result, name, value)
    return result


def hints(kind: type) -> dict[str, object]:
    """The type of each field."""
    known = get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        return {field.name: known[field.name] for field in dataclasses.fields(kind)}
    return {name: known[name] for name in kind._fields}


@pytest.mark.parametrize("kind", [*records()], ids=lambda kind: kind.__qualname__)
def test_comparing_and_hashing_records_never_raises(kind: type) -> None:
    first, second = (
        made(kind, {name: sample(hint, 1) for name, hint in hints(kind).items()})
        for _ in range(2)
    )
    assert first == first
    assert (first == second) != (first != second)
    assert first != object()
    if kind.__hash__ is not None:
        hashes = hash(first), hash(second)
        assert first != second or hashes[0] == hashes[1]


@pytest.mark.parametrize("kind", [*records()], ids=lambda kind: kind.__qualname__)
def test_records_that_differ_in_any_field_are_not_equal(kind: type) -> None:
    values = {name: sample(hint, 1) for name, hint in hints(kind).items()}
    for name, hint in hints(kind).items():
        other = made(kind, values | {name: sample(hint, 2)})
        assert made(kind, values) != other, name


def test_records_with_tensors_are_equal_to_themselves_alone() -> None:
    tensors = torch.eye(2), torch.ones(2)
    for make in (
        lambda: Sketch(*tensors),
        lambda: MLP((1, 1, 1), start=torch.ones(4)),
        lambda: Parallel([MLP((1, 1, 1))], {"a": 1.0, "b": 2.0}),
    ):
        one, other = make(), make()
        assert one == one
        assert one != other
        assert len({one, other, one}) == 2
