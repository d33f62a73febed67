"""Typed reading and adding up of messages."""

import math
from collections.abc import Mapping

from torch import Tensor

from fedsciml.methods._base import Message
from fedsciml.network import MLP
from fedsciml.problem import Problem


def tensor(message: Message, key: str) -> Tensor:
    """A message's tensor.

    Raises:
        ValueError: If there is none of that name.
    """
    value = message.get(key)
    if not isinstance(value, Tensor):
        raise ValueError(_missing(message, key, "tensor"))
    return value


def number(message: Message, key: str) -> float:
    """A message's number.

    Raises:
        ValueError: If there is none of that name.
    """
    value = message.get(key)
    if not isinstance(value, (int, float)):
        raise ValueError(_missing(message, key, "number"))
    return value


def without(message: Message, prefix: str) -> Message:
    """The message less the entries of a method that wraps another."""
    return {k: v for k, v in message.items() if not k.startswith(prefix)}


def own(message: Message, prefix: str) -> Message:
    """The entries of a method that wraps another."""
    return {k: v for k, v in message.items() if k.startswith(prefix)}


def clients(uploads: list[Message]) -> list[int]:
    """Numbers of the clients that sent them: their order, where the server says none.

    Whoever asks the clients writes the number in; some of them may be missing.
    """
    return [int(upload.get("client", m)) for m, upload in enumerate(uploads)]


def total(uploads: list[Message], key: str) -> float:
    """Sum over the clients."""
    return sum(number(upload, key) for upload in uploads)


def added(uploads: list[Message], key: str) -> Tensor:
    """Sum of the clients' tensors."""
    first, *rest = (tensor(upload, key) for upload in uploads)
    return sum(rest, first)


def shared(uploads: list[Message], key: str) -> Tensor:
    """Sum of share_m x_m: the mean over all clients, x_m = 0 for those missing."""
    first, *rest = (number(u, "share") * tensor(u, key) for u in uploads)
    return sum(rest, first)


def mean(uploads: list[Message], key: str) -> Tensor:
    """Mean over the clients that answered, weighted by their shares."""
    present = math.fsum(number(u, "share") for u in uploads)
    return shared(uploads, key) / present


def foreign(
    problem: Problem, upload: Message, lengths: Mapping[str, int]
) -> ValueError | None:
    """Why matrices of layers are not those of the problem's network; None if they are.

    Args:
        problem: With an MLP, or there are no such matrices.
        upload: Holds the ``widths`` of the network and the matrices.
        lengths: How many numbers there are of each.
    """
    network, found = problem.network, tensor(upload, "widths").tolist()
    if not isinstance(network, MLP) or found != list(network.widths):
        return ValueError(
            f"its widths {found} are not those of the network; did the client build "
            "the same one?"
        )
    for key, length in lengths.items():
        if len(tensor(upload, key)) != length:
            return ValueError(
                f"its {key} has {len(tensor(upload, key))} numbers, not {length}"
            )
    return None


def _missing(message: Message, key: str, kind: str) -> str:
    return (
        f"A message has no {kind} '{key}'; it holds {', '.join(message) or 'nothing'}. "
        "Do server and clients run the same method?"
    )
