"""Records: what crosses between server and client, and what both keep.

A record is a frozen dataclass whose fields are tensors, numbers, words, other records,
mappings of names to tensors, or None. All that handles records in general walks their
fields here: the byte count, a message on a wire, a checkpoint. ``flatten`` names a
field of a field ``outer/inner``, and the type of each record under ``kind``;
``rebuild`` makes the record again, of the types that it is given and no others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar, dataclass_transform

import torch
from torch import Tensor

from fedsciml.problem.outline import Outlined

Plain = int | float | str
"""A number or a word."""

Leaf = Tensor | Plain
"""What a record consists of in the end."""

KIND = "kind"
"""Under which ``flatten`` keeps the name of a record's type."""

DEEPEST = 16
"""Records within records that are rebuilt: a path of a thousand costs gigabytes."""


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
class Record(Outlined):
    """What crosses between server and client, or is kept by one of them.

    A subclass is a frozen dataclass of its annotated fields. Two records are equal only
    if they are the same object: compare what ``flatten`` gives. A part of a record may
    be any other frozen dataclass of such fields.
    """

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, eq=False, repr=False)(cls)
        if KIND in cls.__annotations__:
            raise TypeError(f"{cls.__name__}.{KIND}: that word tells a record's type.")


R = TypeVar("R")


def kind(record: type) -> str:
    """Name of a type of records: that of its module and its own, ``fipa.Probe``."""
    module = record.__module__.rpartition(".")[2].lstrip("_")
    return f"{module}.{record.__qualname__}"


def flatten(record: Any) -> dict[str, Leaf]:  # noqa: ANN401
    """The tensors, numbers and words of a record by their paths; None is left out.

    Raises:
        TypeError: If it holds anything else, or None where that is not the default.
    """
    found: dict[str, Leaf] = {KIND: kind(type(record))}
    for own in fields(record):
        value = getattr(record, own.name)
        if value is None and own.default is not None:
            raise TypeError(
                f"{found[KIND]}.{own.name} is None, which is not its default."
            )
        found |= _entries(own.name, value)
    return found


def _entries(path: str, value: object) -> dict[str, Leaf]:
    if value is None:
        return {}
    if isinstance(value, Tensor | int | float | str):
        return {path: value}
    if is_dataclass(value):
        value = flatten(value)
    if isinstance(value, Mapping):
        inner: dict[str, Leaf] = {}
        for name, part in value.items():
            inner |= _entries(f"{path}/{name}", part)
        return inner
    raise TypeError(
        f"A record holds tensors, numbers, words and records; its field '{path}' is a "
        f"{type(value).__name__}."
    )


def rebuild(content: Mapping[str, object], kinds: Iterable[type]) -> Any:  # noqa: ANN401
    """The record that ``flatten`` took apart.

    What the fields hold is not checked: that is done by whoever reads them.

    Args:
        content: Leaves by path.
        kinds: The types that the record and its parts may have.

    Raises:
        ValueError: If the content is of none of these types, or has other fields.
    """
    known = {kind(each): each for each in kinds}
    parts: dict[str, object] = {}
    groups: dict[str, dict[str, object]] = {}
    for path, value in content.items():
        name, slash, rest = path.partition("/")
        if rest.count("/") >= DEEPEST:
            raise ValueError(f"it holds records within records, {DEEPEST} and more")
        if slash:
            groups.setdefault(name, {})[rest] = value
        else:
            parts[name] = value
    word = parts.pop(KIND, None)
    made = known.get(word) if isinstance(word, str) else None
    if made is None:
        raise ValueError(
            f"it is a {word!r}, not one of {', '.join(sorted(known)) or 'nothing'}"
        )
    for name, group in groups.items():
        parts[name] = rebuild(group, known.values()) if KIND in group else group
    names = {own.name for own in fields(made)}
    if strange := sorted(parts.keys() - names):
        raise ValueError(f"it holds '{strange[0]}', which nobody asked for")
    if missing := [name for name in required(made) if name not in parts]:
        found = ", ".join(parts) or "nothing"
        raise ValueError(f"it has no '{missing[0]}'; it holds {found}")
    return made(**parts)


def required(record: type) -> list[str]:
    """Names of the fields that have no default."""
    return [f.name for f in fields(record) if f.default is f.default_factory is MISSING]


def mapped(record: R, change: Callable[[Tensor], Tensor]) -> R:
    """The record with all its tensors changed."""

    def changed(value: object) -> object:
        if isinstance(value, Tensor):
            return change(value)
        if is_dataclass(value):
            return mapped(value, change)
        if isinstance(value, Mapping):
            return {name: changed(part) for name, part in value.items()}
        return value

    parts: Any = record
    return replace(
        parts, **{f.name: changed(getattr(parts, f.name)) for f in fields(parts)}
    )


def placed(record: R, device: torch.device | str) -> R:
    """The record with its tensors on a device."""
    return mapped(record, lambda value: value.to(device))


def payload(record: object) -> int:
    """Bytes of a record's tensors and numbers; nothing else that it holds is counted.

    Of what is no record, too: it is counted before it is looked at.
    """
    if isinstance(record, Tensor):
        return record.numel() * record.element_size()
    if isinstance(record, Mapping):
        return sum(map(payload, record.values()))
    if is_dataclass(record) and not isinstance(record, type):
        return sum(payload(getattr(record, f.name)) for f in fields(record))
    return 8 * isinstance(record, int | float)


def unique(kinds: Sequence[type]) -> tuple[type, ...]:
    """The types without repetitions, in their order.

    Raises:
        ValueError: If two different types have the same name.
    """
    found: dict[str, type] = {}
    for each in kinds:
        if found.setdefault(kind(each), each) is not each:
            raise ValueError(
                f"Two types of records are called '{kind(each)}'; rename one of them."
            )
    return tuple(found.values())
