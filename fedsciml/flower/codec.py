"""Records as Flower's, and back, with nothing believed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedsciml.federation.site import Content, Memories
from fedsciml.methods import Leaf, flatten, rebuild

_PARTS = ("arrays", "config")

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    )
}
"""What a tensor in a message may be, by the name that an ``Array`` gives it."""


REPLY_MEGABYTES = 500.0
"""Largest reply, by default: Flower carried 480 MB, but not 2300."""


def encode(record: Any) -> RecordDict:  # noqa: ANN401
    """Tensors in the record ``arrays``, numbers and words in ``config``; exact."""
    return packed(flatten(record))


def decode(records: Mapping[str, object], kinds: Iterable[type]) -> Any:  # noqa: ANN401
    """The record in Flower's records.

    Args:
        records: As ``encode`` makes them.
        kinds: Types that the record and its parts may have.

    Raises:
        ValueError: If they hold anything else than ``encode`` makes, or an array is not
            of the type and shape that it says.
    """
    return rebuild(unpacked(records), kinds)


def packed(content: Mapping[str, Leaf]) -> RecordDict:
    """A flat record as Flower's.

    NumPy knows no bfloat16: such a tensor travels as the int16 of its bits.
    """
    arrays = {k: _array(v) for k, v in content.items() if isinstance(v, Tensor)}
    config: dict[str, Any] = {
        k: v for k, v in content.items() if not isinstance(v, Tensor)
    }
    return RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord(config)})


def unpacked(records: Mapping[str, object]) -> Content:
    """A flat record from Flower's.

    Raises:
        ValueError: As ``decode``.
    """
    arrays, config = records.get("arrays"), records.get("config")
    if not (isinstance(arrays, ArrayRecord) and isinstance(config, ConfigRecord)):
        raise ValueError(
            "a message needs the records 'arrays' and 'config'; this one has "
            f"{', '.join(map(repr, records)) or 'none'}"
        )
    content: Content = {key: _tensor(key, array) for key, array in arrays.items()}
    for key, value in config.items():
        if not isinstance(value, int | float | str):
            raise ValueError(f"'{key}' is a {type(value).__name__}, not a number")
        if key in content:
            raise ValueError(f"'{key}' is there twice, as array and as number")
        content[key] = value
    return content


def megabytes(records: Mapping[str, object]) -> float:
    """Size of the tensors in Flower's records."""
    arrays = [part for part in records.values() if isinstance(part, ArrayRecord)]
    return sum(len(array.data) for part in arrays for array in part.values()) / 1e6


class Kept(Memories):
    """Memories in the state that Flower keeps for a node as long as its run lasts.

    Args:
        state: Flower's ``context.state``.
        run: Name of the run.
    """

    def __init__(self, state: RecordDict, run: str) -> None:
        self._state, self._prefix = state, f"{run}-"

    def __getitem__(self, stamp: str) -> Content:
        names = {part: f"{self._prefix}{stamp}-{part}" for part in _PARTS}
        return unpacked({part: self._state[name] for part, name in names.items()})

    def __setitem__(self, stamp: str, memory: Content) -> None:
        for part, record in packed(memory).items():
            self._state[f"{self._prefix}{stamp}-{part}"] = record

    def __delitem__(self, stamp: str) -> None:
        for part in _PARTS:
            del self._state[f"{self._prefix}{stamp}-{part}"]

    def __iter__(self) -> Iterator[str]:
        for name in list(self._state):
            stamp, _, part = name.removeprefix(self._prefix).partition("-")
            if name.startswith(self._prefix) and part == _PARTS[0]:
                yield stamp

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.dtype != torch.bfloat16:
        return Array(tensor.numpy())
    bits = Array(tensor.view(torch.int16).numpy())
    return Array("bfloat16", bits.shape, bits.stype, bits.data)


def _tensor(key: str, array: Array) -> Tensor:
    try:
        found = array.numpy()
    except Exception as error:
        raise ValueError(f"array '{key}' cannot be read: {error}") from error
    dtype = DTYPES.get(array.dtype)
    stored = "int16" if dtype == torch.bfloat16 else array.dtype
    if (
        dtype is None
        or not isinstance(found, np.ndarray)
        or str(found.dtype) != stored
        or found.shape != array.shape
    ):
        held = f"{getattr(found, 'dtype', '?')} {getattr(found, 'shape', '?')}"
        raise ValueError(
            f"array '{key}' says that it is {array.dtype} {array.shape}, but holds "
            f"{held}"
        )
    # A clone is aligned as fresh tensors are, which the last digit of a dot product
    # depends on.
    tensor = torch.from_numpy(found).clone()
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor
