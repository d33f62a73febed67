"""Messages between two programs: a line of JSON, then the bytes of float64 arrays.

Imports NumPy alone: the program at the other end has an environment of its own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

Head = dict[str, Any]
"""Plain data."""


def send(
    stream: IO[bytes], head: Mapping[str, Any], arrays: Sequence[np.ndarray]
) -> None:
    """Write a message.

    Args:
        stream: Where to.
        head: Plain data; its field ``shapes`` is written here.
        arrays: Of any shapes, as float64.
    """
    wide = [np.asarray(array, dtype="<f8") for array in arrays]
    line = json.dumps({**head, "shapes": [array.shape for array in wide]})
    stream.write(line.encode() + b"\n")
    for array in wide:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Head, list[np.ndarray]]:
    """Read a message: its plain data and its arrays.

    Raises:
        EOFError: If the stream has ended.
    """
    line = stream.readline()
    if not line:
        raise EOFError("The program at the other end has ended.")
    head = json.loads(line)
    arrays = []
    for shape in head.pop("shapes"):
        size = 8 * int(np.prod(shape))
        content = stream.read(size)
        if len(content) < size:
            raise EOFError("The program at the other end has ended within a message.")
        arrays.append(np.frombuffer(content, dtype="<f8").reshape(shape))
    return head, arrays
