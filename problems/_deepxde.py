"""DeepXDE's geometries without the side effects of importing DeepXDE."""

import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from types import ModuleType

import torch


def geometry() -> ModuleType:
    """The module ``deepxde.geometry``.

    Importing DeepXDE chooses a backend, writes about it on stdout and makes an
    accelerator torch's default device, which would move every tensor of the program.

    Raises:
        ModuleNotFoundError: If DeepXDE is not installed.
    """
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    before = torch.get_default_device()
    with redirect_stdout(sys.stderr):
        module = import_module("deepxde.geometry")
    if torch.get_default_device() != before:
        torch.set_default_device(None if before.type == "cpu" else before)
    return module
