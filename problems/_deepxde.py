"""DeepXDE without the side effects of importing it."""

import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from types import ModuleType

import torch


def deepxde() -> ModuleType:
    """The package ``deepxde``, with PyTorch as its backend.

    Importing DeepXDE chooses a backend, writes about it on stdout and makes an
    accelerator torch's default device, which would move every tensor of the program.

    Raises:
        ModuleNotFoundError: If DeepXDE is not installed.
    """
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    before = torch.get_default_device()
    with redirect_stdout(sys.stderr):
        package = import_module("deepxde")
    if torch.get_default_device() != before:
        torch.set_default_device(None if before.type == "cpu" else before)
    return package
