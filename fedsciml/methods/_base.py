"""What a method is: pure functions over plain state.

A round is one or several *exchanges*. In each the server broadcasts a message, every
client answers with an upload, and the server turns the uploads into the next broadcast.
The round is over when the server also returns its ``Info``:

    state, broadcast = method.init(theta, seed)
    repeat:   uploads          = [method.client(system_m, broadcast, memory_m) for m]
              state, broadcast, info = method.server(state, uploads)

``state["theta"]`` is the model at all times; a method whose next step starts elsewhere
keeps that point as ``state["at"]``. State, memory and messages are flat
dictionaries of tensors, numbers and strings, so a checkpoint, a resumed run and a
message on a wire need no code of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from fedsciml.problem import Problem
from fedsciml.residual import System

Value = Any
"""A tensor, a number or a string; which of them, the method knows by the key."""

Message = dict[str, Value]
"""What crosses between server and client. Only tensors and numbers count as bytes."""

State = dict[str, Value]
"""What a server or a client keeps from one exchange to the next."""


class Field(NamedTuple):
    """What an upload must hold under a key, for the server to merge it.

    Attributes:
        shape: Of a tensor: numbers, or words for sizes that are the client's own, such
            as the rank "k"; a word means the same size throughout a client's round.
            None for a plain number.
        finite: Whether every entry must be finite; else, of several, one at least.
        scale: Whether its norm is held against those of the other clients.
        dtype: Of the tensor; None for that of theta.
        least: What no entry may be below, such as 0 for a sum of squares; None for
            no bound.
        most: The largest size that its words may stand for; None for the length of
            theta, which no rank exceeds.
    """

    shape: tuple[int | str, ...] | None = None
    finite: bool = True
    scale: bool = False
    dtype: torch.dtype | None = None
    least: float | None = None
    most: float | None = None


Fields = Mapping[str, Field]
"""All that an upload must hold, by its keys, and nothing else."""


@dataclass(frozen=True)
class Info:
    """What a round reports, for the record.

    Attributes:
        loss: Loss where the round's step starts, summed over the clients.
        step: Length of the step taken, as a fraction of the full one; 0 if none was.
        damping: mu of the step, absolute; 0 for none.
        cutoff: Relative cut-off of singular values in the step; 0 for none.
        ranks: Rank of each client's sketch, in the order of the clients; empty for
            methods without sketches.
        epochs: Local epochs of each client in this round.
        probes: Candidate steps whose losses the clients were asked for.
    """

    loss: float
    step: float = 1.0
    damping: float = 0.0
    cutoff: float = 0.0
    ranks: tuple[int, ...] = ()
    epochs: int = 0
    probes: int = 0


class Method(Protocol):
    """A federated or centralised method."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def pooled(self) -> bool:
        """Whether it trains centralised."""

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """The server's first state and the first broadcast."""

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """A client's upload and what it remembers; memory is empty at first."""

    def expects(self, broadcast: Message, size: int) -> Fields:
        """What every client's upload to this broadcast holds; theta is [size]."""

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """Next state and broadcast; ``Info`` when the round is complete."""


@dataclass(frozen=True)
class Wrapped:
    """What stands around a method and goes by its name."""

    method: Method

    @property
    def name(self) -> str:
        """The method's own."""
        return self.method.name

    @property
    def pooled(self) -> bool:
        """Whether the method is centralised."""
        return self.method.pooled


@runtime_checkable
class Comparing(Protocol):
    """A method whose server compares losses over the rounds."""

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """State and broadcast to begin a round with when clients left or came.

        theta stays. Losses of other clients cannot be compared with those of before:
        what was concluded from them is forgotten.

        Args:
            state: That the round would have begun with.
            broadcast: Likewise.
        """


def compares(method: Method) -> bool:
    """Whether a method is ``Comparing``; a wrapper is if what it wraps is."""
    if isinstance(method, Wrapped):
        return compares(method.method)
    return isinstance(method, Comparing)


def renewed(method: Method, state: State, broadcast: Message) -> tuple[State, Message]:
    """``Comparing.renewed``; as they are for a method that compares no losses."""
    if isinstance(method, Comparing):
        return method.renewed(state, broadcast)
    return state, broadcast


@runtime_checkable
class Standing(Protocol):
    """A method that can answer for an absent client."""

    def stand_in(self, broadcast: Message, last: State) -> tuple[Message, State]:
        """The absent client's upload as its last one tells, and what tells the next.

        Args:
            broadcast: What the client is asked.
            last: Its last upload to a broadcast of theta, with that ``theta``; or what
                was returned here.
        """


@runtime_checkable
class Objecting(Protocol):
    """A method whose server needs more of an upload than ``Fields`` can say."""

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """Why an upload that holds what is expected cannot be used; None if it can.

        Args:
            problem: What is trained.
            state: The server's, when the upload came.
            upload: With the number of its ``client``.
        """


def objection(
    method: Method, problem: Problem, state: State, upload: Message
) -> ValueError | None:
    """``Objecting.objection``; None for a method that expects nothing more."""
    if isinstance(method, Objecting):
        return method.objection(problem, state, upload)
    return None
