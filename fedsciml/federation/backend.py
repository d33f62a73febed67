"""Backends: the only door to the clients. One module each, all with equal numbers."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from fedsciml.methods import Message, State


class Traffic(NamedTuple):
    """What crossed between server and clients: payload bytes and message counts.

    A broadcast counts once per client. Payload is tensors and numbers (8 bytes each);
    the words that name them and a transport's framing are not counted. A centralised
    run has no traffic.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0

    def plus(
        self, broadcast: Message, asked: int, uploads: Collection[Message]
    ) -> "Traffic":
        """With an exchange more: ``asked`` clients, of whom some answered."""
        return Traffic(
            self.bytes_up + sum(payload(upload) for upload in uploads),
            self.bytes_down + asked * payload(broadcast),
            self.messages + asked + len(uploads),
        )


class Backend(Protocol):
    """Carries a broadcast to clients and brings their uploads back.

    Attributes:
        name: For the record.
        remote: Whether clients live on when this process ends; the run is then
            checkpointed after every round, so that they need not remember more.
        shares: Each client's part of all rows, known before the first round; as many
            as there are clients.
        memories: What each client keeps between exchanges, in the order of the clients;
            where it stays with the client, the stamp under which it does.
        traffic: Running total.
    """

    name: str
    remote: bool
    shares: list[float]
    memories: list[State]
    traffic: Traffic

    def here(self, number: int) -> list[int]:
        """Clients that can be asked in round ``number``, in their order; at once."""

    def ask(
        self,
        broadcast: Message,
        clients: Sequence[int],
        number: int,
        deadline: float | None,
    ) -> dict[int, Message | Exception]:
        """Each client's upload in round ``number``, or why there is none.

        In the order of the clients, after ``deadline`` seconds at the latest. No client
        makes it raise; ``memories`` are those of the clients that answered.
        """

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p], or why it is not known."""


def payload(message: Message) -> int:
    """Bytes of a message's tensors and numbers."""
    return sum(
        value.numel() * value.element_size()
        if isinstance(value, Tensor)
        else 8 * isinstance(value, (int, float))
        for value in message.values()
    )
