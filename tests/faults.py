"""Faults of clients, injected into the backend that runs them in process."""

import math
from collections.abc import Callable, Container, Mapping, Sequence

import torch
from torch import Tensor

from fedsciml.federation.inprocess import InProcess
from fedsciml.methods import Message, Method
from fedsciml.problem import Problem

Fault = Callable[[Message], Message]
"""From a good upload to what the server gets instead; may raise."""


class Faulty(InProcess):
    """Clients with faults.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` function is run.
        faults: By client.
        rounds: When they happen.
        when: At which broadcasts, for example ``opening``.
        away: Clients that are known to be gone in these rounds, by client.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        faults: Mapping[int, Fault] | None = None,
        rounds: Container[int] = range(1, 10**6),
        when: Callable[[Message], bool] = bool,
        away: Mapping[int, Container[int]] | None = None,
    ) -> None:
        super().__init__(problem, method)
        self.faults, self.rounds, self.when = faults or {}, rounds, when
        self.away = away or {}
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def here(self, number: int) -> list[int]:
        """Those that are not away."""
        everyone = super().here(number)
        return [m for m in everyone if number not in self.away.get(m, ())]

    def ask(
        self,
        broadcast: Message,
        clients: Sequence[int],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Message | Exception]:
        """The answers with the faults in them."""
        self.asked.append((number, tuple(clients)))
        answers = super().ask(broadcast, clients, number, deadline)
        for m, fault in self.faults.items():
            if m in clients and number in self.rounds and self.when(broadcast):
                answer = answers[m]
                assert not isinstance(answer, Exception)
                try:
                    answers[m] = fault(answer)
                except Exception as error:
                    answers[m] = error
        return answers


def raises(upload: Message) -> Message:
    """The client's own program fails."""
    del upload
    raise RuntimeError("disk on fire")


def gone(upload: Message) -> Message:
    """The client does not answer."""
    del upload
    raise ConnectionError("the node is gone")


def everywhere(change: Callable[[Tensor], object]) -> Fault:
    """Every tensor of the upload is changed."""
    return lambda upload: {
        key: change(value) if isinstance(value, Tensor) else value
        for key, value in upload.items()
    }


def negative(upload: Message) -> Message:
    """Losses that promise more than any sum of squares can keep."""
    return {
        key: -value - 1e300 if key in ("loss", "losses") else value
        for key, value in upload.items()
    }


def empty(upload: Message) -> Message:
    """The record has nothing in it."""
    del upload
    return {}


def garbage(upload: Message) -> Message:
    """Bytes instead of tensors, and a tensor that nobody asked for."""
    return {**dict.fromkeys(upload, b"\x00\xff"), "\x00": torch.zeros(3)}


FAULTS: dict[str, Fault] = {
    "raises": raises,
    "gone": gone,
    "nan": everywhere(lambda x: torch.full_like(x, math.nan)),
    "inf": everywhere(lambda x: torch.full_like(x, math.inf)),
    "shape": everywhere(lambda x: x[..., None]),
    "dtype": everywhere(lambda x: x.float()),
    "another network": everywhere(lambda x: torch.cat([x, x[..., :1]], -1)),
    "empty": empty,
    "garbage": garbage,
    "negative": negative,
    "scaled": everywhere(lambda x: 1e6 * x),
}
"""By name. In answers to a probe a scale is not seen."""


def opening(broadcast: Message) -> bool:
    """Whether it is the first of a round."""
    return "theta" in broadcast


def probing(broadcast: Message) -> bool:
    """Whether it asks for candidates of FIPA."""
    return "steps" in broadcast
