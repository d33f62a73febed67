"""Warm-up: any method for the first rounds, then another, on the same theta."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsciml.methods import (
    ClientPart,
    Exchanges,
    Expected,
    Method,
    Parts,
    Record,
    Said,
    unique,
)
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers._base import (
    Around,
    AskAround,
    bare,
    check_inner,
    relayed,
    unwrapped,
)


class State(Around):
    """The state of the method whose turn it is.

    Attributes:
        left: Rounds of warm-up that are left; 0 when it is over.
        seed: For the start of the second method.
    """

    left: int
    seed: int


class First(AskAround):
    """An ask of the first method."""


class Memory(Record):
    """What a client remembers of the first method."""

    inner: Record | None = None


@dataclass(frozen=True)
class Warmup(Method):
    """``first`` for ``rounds`` rounds, then ``then`` from the theta reached.

    Both see what they would see alone; clients forget the first method's memory.

    Raises:
        ValueError: If ``rounds < 1``, one of the methods is centralised and the other
            is not, or ``then`` has a warm-up.
    """

    first: Method
    rounds: int
    then: Method

    compares = True

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Of both methods."""
        how = problem, device, dtype
        first, then = self.first.bound(*how), self.then.bound(*how)
        if first is self.first and then is self.then:
            return self
        return replace(self, first=first, then=then)

    def scaled(self, factors: tuple[float, ...]) -> Method:
        """Of both methods."""
        first, then = self.first.scaled(factors), self.then.scaled(factors)
        return replace(self, first=first, then=then)

    def advice(self, problem: Problem) -> list[str]:
        """That of both methods."""
        return [*self.first.advice(problem), *self.then.advice(problem)]

    def __post_init__(self) -> None:
        check_inner(self.first)
        check_inner(self.then)
        if self.rounds < 1:
            raise ValueError(f"A warm-up needs at least 1 round, got {self.rounds}.")
        if self.first.pooled != self.then.pooled:
            raise ValueError(
                f"{self.first.name} and {self.then.name} cannot follow each other: one "
                "is centralised, the other federated."
            )
        if First in self.then.client:
            raise ValueError(
                f"{self.then.name} has a warm-up already. To run three methods one "
                "after the other, write Warmup(Warmup(first, 2, second), 5, third)."
            )

    @property
    def name(self) -> str:
        """Both names, for records: ``fedavg:5+fipa``."""
        return f"{self.first.name}:{self.rounds}+{self.then.name}"

    @property
    def pooled(self) -> bool:
        """Whether both are centralised."""
        return self.then.pooled

    @property
    def chooses(self) -> bool:
        """As the first method."""
        return self.first.chooses

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of both, and its own."""
        return unique((State, First, Memory, *self.first.kinds, *self.then.kinds))

    def start(self, theta: Tensor, seed: int) -> State:
        """The first method's start."""
        return State(theta, self.first.start(theta, seed), self.rounds, seed)

    def round(self, state: State) -> Exchanges[State]:
        """The round of the method whose turn it is; in the end, the change."""
        if not state.left:
            inner, info = yield from self.then.round(state.inner)
            return replace(state, theta=inner.theta, inner=inner), info
        inner, info = yield from relayed(
            self.first, state.inner, First, lambda ask, answers: answers
        )
        if state.left == 1:
            inner = self.then.start(inner.theta, state.seed)
        return State(inner.theta, inner, state.left - 1, state.seed), info

    @property
    def client(self) -> Parts:
        """The part of the method whose turn it is."""
        then = {kind: self._then(part) for kind, part in self.then.client.items()}
        return {First: self._first, **then}

    def _first(
        self, system: System, ask: First, memory: Memory | None
    ) -> tuple[Record, Memory]:
        part = self.first.part(ask.ask)
        answer, kept = part(system, ask.ask, memory.inner if memory else None)
        return answer, Memory(kept)

    def _then(self, part: ClientPart) -> ClientPart:
        def answered(
            system: System, ask: Record, memory: Record | None
        ) -> tuple[Record, Record | None]:
            return part(system, ask, None if isinstance(memory, Memory) else memory)

        return answered

    @property
    def apart(self) -> str | None:
        """Of either method."""
        return self.first.apart or self.then.apart

    def summand(self, ask: Record, answer: Any) -> Any:  # noqa: ANN401
        """That of the method whose turn it is."""
        return self._asked(ask).summand(bare(ask), answer)

    def summed(self, ask: Record, total: Any, clients: int) -> Any:  # noqa: ANN401
        """That of the method whose turn it is."""
        return self._asked(ask).summed(bare(ask), total, clients)

    def points(self, ask: Record, memory: Any) -> Tensor:  # noqa: ANN401
        """That of the method whose turn it is."""
        first = isinstance(memory, Memory)
        if isinstance(ask, First):
            return self.first.points(ask.ask, memory.inner if first else None)
        return self.then.points(ask, None if first else memory)

    def moved(self, state: State, theta: Tensor) -> State:
        """Of the method whose turn it is."""
        method = self.first if state.left else self.then
        return replace(state, theta=theta, inner=method.moved(state.inner, theta))

    def _asked(self, ask: Record) -> Method:
        return self.first if isinstance(ask, First) else self.then

    def expects(self, ask: Record, size: int) -> Expected:
        """Of the method whose turn it is."""
        if isinstance(ask, First):
            return self.first.expects(ask.ask, size)
        return self.then.expects(ask, size)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """That of the method whose turn it is."""
        method = self.first if state.left else self.then
        said = unwrapped(said, First)
        return method.objection(problem, state.inner, client, said, unit)

    def renewed(self, state: State) -> State:
        """Of the method whose turn it is."""
        method = self.first if state.left else self.then
        return replace(state, inner=method.renewed(state.inner))
