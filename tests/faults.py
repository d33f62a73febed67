"""Faults of clients, injected into the clients that run in process."""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsciml.federation.backend import Clients, Reply
from fedsciml.federation.exchange import Checkpoint, Federation
from fedsciml.federation.inprocess import LocalClients
from fedsciml.methods import Method, Opening, Record, flatten, mapped
from fedsciml.methods import _fipa as fipa
from fedsciml.methods._averaging import Update
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.held_out import Fresh
from fedsciml.wrappers.balance import Weighed

Fault = Callable[[Any], object]
"""From a good answer to what the server gets instead; may raise."""


class Faulty(LocalClients):
    """Clients with faults.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` parts are run.
        faults: By client.
        rounds: When they happen.
        when: At which asks, for example ``opening``.
        away: Clients that are known to be gone in these rounds, by client.

    Attributes:
        asked: The round of each exchange, and who was asked.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        faults: Mapping[int, Fault] | None = None,
        rounds: Container[int] = range(1, 10**6),
        when: Callable[[Record], bool] = bool,
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
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """The answers with the faults in them."""
        self.asked.append((number, tuple(memories)))
        replies = super().ask(ask, memories, number, deadline)
        for m, fault in self.faults.items():
            if m in memories and number in self.rounds and self.when(ask):
                reply = replies[m]
                assert not isinstance(reply, Exception)
                try:
                    answer: Any = fault(reply.answer)
                    replies[m] = reply._replace(answer=answer)
                except Exception as error:
                    replies[m] = error
        return replies


class Late(LocalClients):
    """Clients of whom nobody knows what they hold before they come.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` parts are run.
        comes: The round in which each of them comes.
    """

    def __init__(
        self, problem: Problem, method: Method, comes: Mapping[int, int]
    ) -> None:
        super().__init__(problem, method)
        self.problem, self.comes = problem, dict(comes)
        self.counts = [problem.counts(m) for m in range(problem.clients)]
        self._weigh()

    def _weigh(self) -> None:
        """Weigh rows by the points of those who have come."""
        self.uncounted = {
            m: f"Client {m} has not come. When it does the weights of all rows change."
            for m in sorted(self.comes)
        }
        known = [own for m, own in enumerate(self.counts) if m not in self.comes]
        totals = [sum(column) for column in zip(*known, strict=True)]
        for m in range(len(self.counts)):
            if m not in self.comes:
                shard = self.problem.shard(m, totals)
                self.systems[m] = System(self.problem, shard)
                self._fresh[m] = Fresh(self.systems[m])
                self.shares[m] = shard.share
            else:
                self.shares[m] = 0.0

    def here(self, number: int) -> list[int]:
        """Those who have come."""
        return [m for m in super().here(number) if m not in self.comes]

    def joined(self, number: int) -> dict[int, list[int]]:
        """Those who come now."""
        now = [m for m, first in self.comes.items() if first <= number]
        for m in now:
            del self.comes[m]
        self._weigh()
        return {m: self.counts[m] for m in now}


@dataclass(frozen=True)
class Connected:
    """A backend that connects every run to the same clients."""

    clients: Clients

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Clients:
        """The clients, which must be of this method; it may be bound by now."""
        del problem, device, dtype
        if isinstance(self.clients, LocalClients):
            assert self.clients.method.name == method.name
            self.clients.method = method
        return self.clients


def advanced(
    federation: Federation, since: Checkpoint | Tensor, rounds: int = 1
) -> Checkpoint:
    """What a federation has reached some rounds after a checkpoint or a start theta."""
    reached = since if isinstance(since, Checkpoint) else federation.start(since, 0)
    for _ in range(rounds):
        reached = federation.advance(reached).checkpoint
    return reached


def same(a: Record | None, b: Record | None) -> bool:
    """Whether two records hold the same values, bit for bit, under the same paths."""
    if a is None or b is None:
        return a is b
    left, right = flatten(a), flatten(b)
    return left.keys() == right.keys() and all(
        torch.equal(left[path], right[path]) and left[path].dtype == right[path].dtype
        if isinstance(left[path], Tensor) and isinstance(right[path], Tensor)
        else left[path] == right[path] and type(left[path]) is type(right[path])
        for path in left
    )


def raises(answer: object) -> object:
    """The client's own program fails."""
    del answer
    raise RuntimeError("disk on fire")


def gone(answer: object) -> object:
    """The client does not answer."""
    del answer
    raise ConnectionError("the node is gone")


def everywhere(change: Callable[[Tensor], Any]) -> Fault:
    """Every tensor of the answer is changed."""
    return lambda answer: mapped(answer, change)


def negative(answer: Any) -> object:  # noqa: ANN401
    """Losses that promise more than any sum of squares can keep."""
    parts = {field.name: getattr(answer, field.name) for field in fields(answer)}
    for name, part in parts.items():
        if name in ("loss", "losses"):
            parts[name] = -part - 1e300
        elif is_dataclass(part):
            parts[name] = negative(part)
    return replace(answer, **parts)


def empty(answer: Any) -> object:  # noqa: ANN401
    """The record has nothing in it."""
    return replace(answer, **{f.name: None for f in fields(answer)})


def garbage(answer: Any) -> object:  # noqa: ANN401
    """Bytes instead of tensors."""
    return replace(answer, **{f.name: b"\x00\xff" for f in fields(answer)})


class Foreign(Record):
    """What no method knows."""

    x: Tensor


def foreign(answer: object) -> Foreign:
    """A record of another type, with a tensor that nobody asked for."""
    del answer
    return Foreign(torch.zeros(3))


class Better(fipa.Sketched):
    """An answer of FIPA that can do more."""


STRANGERS: dict[str, object] = {
    "a state": fipa.Fipa().start(torch.zeros(3), 0),
    "an ask": Opening(torch.zeros(3)),
    "a memory": fipa.Memory(3),
    "a policy's state": fipa.Fipa().policy.start(1e-16),
    "an answer of another method": Update(torch.zeros(3), 0.5, 0.5),
    "an answer that can do more": Better(torch.zeros(1, 3), torch.zeros(1), 0.5),
    "a wrapper's answer": Weighed(Update(torch.zeros(3), 0.5, 0.5), 0.5),
    "a record that nobody knows": Foreign(torch.zeros(3)),
}
"""Records that are no answer of FIPA."""

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
    "foreign": foreign,
    "negative": negative,
    "scaled": everywhere(lambda x: 1e6 * x),
}
"""By name. In answers to a probe a scale is not seen."""


def opening(ask: Record) -> bool:
    """Whether it is the first of a round, also in what a wrapper asks."""
    inner = getattr(ask, "ask", None)
    return opening(inner) if inner is not None else isinstance(ask, Opening)


def probing(ask: Record) -> bool:
    """Whether it asks for candidates of FIPA."""
    return isinstance(ask, fipa.Probe)
