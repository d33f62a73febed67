"""Backends: the only door to the clients. One module each, all with equal numbers."""

from typing import NamedTuple, Protocol

from torch import Tensor

from fedsciml.method import Message, State


class Traffic(NamedTuple):
    """What crossed between server and clients: payload bytes and message counts.

    A broadcast counts once per client. Payload is tensors and numbers (8 bytes each);
    the words that name them and a transport's framing are not counted. A centralised
    run has no traffic.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0


class Backend(Protocol):
    """Carries a broadcast to every client and brings the uploads back.

    Attributes:
        name: For the record.
        traffic: Running total.
        memories: What each client keeps between exchanges, in the order of the clients.
    """

    name: str
    traffic: Traffic
    memories: list[State]

    def exchange(self, broadcast: Message) -> list[Message]:
        """Uploads in the order of the clients."""


def payload(message: Message) -> int:
    """Bytes of a message's tensors and numbers."""
    return sum(
        value.numel() * value.element_size()
        if isinstance(value, Tensor)
        else 8 * isinstance(value, (int, float))
        for value in message.values()
    )
