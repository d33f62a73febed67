"""A device that is not there: what fails on an accelerator fails on it too.

Its tensors say that they are on "meta" and hold numbers on the CPU all the same. As on
an accelerator, no operation takes tensors of it and of the CPU together, but for single
numbers and for the indices of what is there; none draws from a generator of the CPU;
and NumPy does not see them. Numbers are those of the CPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Value = Any
"""What torch hands on."""

DEVICE = torch.device("meta")

COPIES = ("aten::_to_copy", "aten::copy_")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_")
SHAPED = ("aten::squeeze_", "aten::unsqueeze_", "aten::t_", "aten::transpose_")
"""Operations that copy between devices, take indices, change a shape in place."""


class Away(Tensor):
    """A tensor of the device; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: "type[Away]", held: Tensor) -> "Away":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Value, types: Value, args: Value = (), kwargs: Value = None
    ) -> Value:
        return operated(func, args, kwargs or {})


class Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Value, types: Value, args: Value = (), kwargs: Value = None
    ) -> Value:
        return operated(func, args, kwargs or {})


class Data(TorchFunctionMode):
    """Tensors of numbers, and numbers of tensors, which torch does not dispatch."""

    def __torch_function__(
        self, func: Value, types: Value, args: Value = (), kwargs: Value = None
    ) -> Value:
        more = dict(kwargs or {})
        if args and isinstance(args[0], Away):
            if func is Tensor.tolist:
                return args[0].held.tolist()
            if func is Tensor.numpy:
                raise TypeError("NumPy does not see a tensor of an accelerator.")
            if func is Tensor.new_tensor:
                more = {"dtype": args[0].dtype, "device": DEVICE} | more
                args, func = args[1:], torch.tensor
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                args = (args[0], _indices(args[1]), *args[2:])
        if func in (torch.tensor, torch.as_tensor) and _there(more.get("device")):
            return func(*args, **more | {"device": "cpu"}).to(DEVICE)
        return func(*args, **more)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, meanwhile."""
    with Operations(), Data():
        yield DEVICE


def here(tensor: Tensor) -> Tensor:
    """A tensor on the CPU."""
    return tensor.held if isinstance(tensor, Away) else tensor.cpu()


def operated(func: Value, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
    """What an operation gives, there if it is made there or takes what is there."""
    leaves, name = tree_leaves((args, kwargs)), func._schema.name
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    away = [x for x in tensors if isinstance(x, Away)]
    device = kwargs.get("device")
    there = bool(away) if device is None else _there(device)
    if not away and not there:
        return func(*args, **kwargs)
    if there and any(isinstance(x, Generator) for x in leaves):
        raise RuntimeError(f"{func} draws there from a generator of the CPU.")
    indices = name in INDEXED and isinstance(args[0], Away)
    for x in tensors:
        if isinstance(x, Away):
            continue
        assert not _there(x.device), f"{func}: numbers were lost; add a case to Data"
        index = indices and x.dtype in (torch.int64, torch.bool)
        if away and x.ndim and not index and name not in COPIES:
            raise RuntimeError(f"{func} takes {list(x.shape)} from the CPU too.")
    if there and device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}

    def bare(x: Value) -> Value:
        return x.held if isinstance(x, Away) else x

    def put(x: Value) -> Value:
        if not isinstance(x, Tensor) or not there:
            return x
        same = [a for a in away if a.held is x]  # of an operation in place
        return same[0] if same else Away(x)

    found = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    if name in SHAPED:
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
    return args[0] if name == "aten::copy_" else tree_map(put, found)


def _there(device: Value) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _indices(index: Value) -> Value:
    """Lists of numbers as tensors of the device."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index).to(DEVICE) if isinstance(index, list) else index
