"""DeepXDE without the side effects of importing and using it."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

import torch

from fedsciml.alone import alone

Module = Any
"""The package ``deepxde``, which is not typed."""


def deepxde() -> Module:
    """The package ``deepxde``, with PyTorch as its backend.

    Importing DeepXDE chooses a backend, says so and makes an accelerator torch's
    default device, which would move every tensor of the program.

    Raises:
        ModuleNotFoundError: If DeepXDE is not installed.
        ValueError: If it runs on another backend.
    """
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    before = torch.get_default_device()
    nowhere = io.StringIO()
    with alone, redirect_stdout(nowhere), redirect_stderr(nowhere):
        found = import_module("deepxde")
    if torch.get_default_device() != before:
        torch.set_default_device(None if before.type == "cpu" else before)
    if found.backend.backend_name != "pytorch":
        raise ValueError(
            f"DeepXDE runs on the backend {found.backend.backend_name}; set the "
            "environment variable DDE_BACKEND=pytorch before it is imported."
        )
    return found


@contextmanager
def double_precision(device: torch.device | str = "cpu") -> Iterator[Module]:
    """DeepXDE, and torch's defaults, in float64 on a device; put back at the end.

    DeepXDE's cached derivatives are dropped at the end, which would keep graphs alive.
    """
    with precision(64) as dde:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            # A device as a context slows every call of torch.
            same = torch.get_default_device() == torch.device(device)
            with nullcontext() if same else torch.device(device):
                yield dde
        finally:
            torch.set_default_dtype(dtype)
            dde.gradients.clear()


@contextmanager
def precision(bits: int) -> Iterator[Module]:
    """DeepXDE with numbers of 32 or 64 bits; put back at the end."""
    dde = deepxde()
    real = dde.config.real
    with alone:
        before = real.precision
        getattr(real, f"set_float{bits}")()
        try:
            yield dde
        finally:
            getattr(real, f"set_float{before}")()
