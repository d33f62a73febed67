"""Backends: the only way to the clients, one module each; all give the same results.

A backend is asked to ``connect`` to the clients of one run, and what it returns carries
asks to them and brings answers back. So whoever runs a method binds problem, method and
clients to each other, and nothing of one run can reach another.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fedsciml.methods import Method, Record
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.held_out import Breakdown


class Reply(NamedTuple):
    """What came of an ask.

    Attributes:
        answer: The client's.
        memory: What the client remembers after it; or, if the client keeps it itself,
            its stamp.
    """

    answer: Record
    memory: Record | None


class Clients(Protocol):
    """The clients of one run.

    Attributes:
        name: Of the way to them, for the record.
        shares: Each client's part of all rows that are counted, as many as there are
            clients.
        counts: Points of each term at each client; zeros where nobody knows them.
        uncounted: Clients of whom nobody knows how many rows they have, and why they
            take no part.
        remote: Whether clients live on when this process ends; the run is then
            checkpointed after every round, so they need keep only the last memory.
        kinds: Types of their memories, if they are not the method's.
        notes: What is recorded of them with the run.
    """

    name: str
    shares: list[float]
    counts: list[list[int]]
    uncounted: Mapping[int, str]
    remote: bool
    kinds: tuple[type, ...]
    notes: Mapping[str, object]

    def here(self, number: int) -> list[int]:
        """Clients that can be asked in round ``number``, in their order; at once."""

    def systems_here(self) -> Mapping[int, System]:
        """The rows of clients that are in this process; none where they are not."""

    def joined(self, number: int) -> Mapping[int, Sequence[int]]:
        """Count in those of ``uncounted`` who have come, from round ``number`` on.

        Returns:
            Points of each term of each. The weights of all rows have changed if there
            are any.
        """

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None,
    ) -> dict[int, Reply | Exception]:
        """What each client answers in round ``number``, or why it does not.

        Args:
            ask: What they are asked.
            memories: Whom to ask, and what each client remembers.
            number: Of the round.
            deadline: Seconds after which no answer counts.

        Returns:
            By client, in the order of ``memories``. No client makes it raise.
        """

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p], or why it is not known."""

    def breakdown(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None
    ) -> dict[int, Breakdown | Exception]:
        """Each client's losses at points that it does not train on, and by term.

        At theta [p].
        """


class Backend(Protocol):
    """A way to clients."""

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Clients:
        """The clients of a run, ready to be asked."""
