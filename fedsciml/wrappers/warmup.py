"""Warm-up: any method for the first rounds, then another, on the same theta."""

from dataclasses import dataclass

from torch import Tensor

from fedsciml.methods import Fields, Info, Message, Method, State, objection, renewed
from fedsciml.methods._uploads import own, without
from fedsciml.problem import Problem
from fedsciml.residual import System

_MARK = "warmup."  # prefix of what the warm-up itself keeps and sends


@dataclass(frozen=True)
class Warmup:
    """``first`` for ``rounds`` rounds, then ``then`` from the theta reached.

    Both see what they would see alone; clients forget the first method's memory.

    Raises:
        ValueError: If ``rounds < 1``, or one of the methods is centralised and the
            other is not.
    """

    first: Method
    rounds: int
    then: Method

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"A warm-up needs at least 1 round, got {self.rounds}.")
        if self.first.pooled != self.then.pooled:
            raise ValueError(
                f"{self.first.name} and {self.then.name} cannot follow each other: one "
                "is centralised, the other federated."
            )

    @property
    def name(self) -> str:
        """Both names, for records: ``fedavg:5+fipa``."""
        return f"{self.first.name}:{self.rounds}+{self.then.name}"

    @property
    def pooled(self) -> bool:
        """Whether both are centralised."""
        return self.then.pooled

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """The first method's start."""
        state, broadcast = self.first.init(theta, seed)
        mark: State = {_MARK + "left": self.rounds, _MARK + "seed": seed}
        return {**state, **mark}, {**broadcast, _MARK + "left": self.rounds}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """The part of the method whose turn it is."""
        warm = _MARK + "left" in broadcast
        if not warm and _MARK + "left" in memory:
            memory = {}
        method = self.first if warm else self.then
        upload, memory = method.client(
            system, without(broadcast, _MARK), without(memory, _MARK)
        )
        return upload, {**memory, **({_MARK + "left": 1} if warm else {})}

    def expects(self, broadcast: Message, size: int) -> Fields:
        """Of the method whose turn it is."""
        method = self.first if _MARK + "left" in broadcast else self.then
        return method.expects(without(broadcast, _MARK), size)

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """That of the method whose turn it is."""
        method = self.first if own(state, _MARK) else self.then
        return objection(method, problem, without(state, _MARK), upload)

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The part of the method whose turn it is; in the end, the change."""
        mark = own(state, _MARK)
        if not mark:
            return self.then.server(state, uploads)
        inner, broadcast, info = self.first.server(without(state, _MARK), uploads)
        left, seed = int(mark[_MARK + "left"]), int(mark[_MARK + "seed"])
        if info is not None:
            left -= 1
        if left == 0:
            theta = inner["theta"]
            assert isinstance(theta, Tensor)
            state, broadcast = self.then.init(theta, seed)
            return state, broadcast, info
        mark[_MARK + "left"] = left
        return {**inner, **mark}, {**broadcast, _MARK + "left": left}, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """Of the method whose turn it is."""
        mark = own(state, _MARK)
        inner, opening = renewed(
            self.first if mark else self.then,
            without(state, _MARK),
            without(broadcast, _MARK),
        )
        return {**inner, **mark}, {**opening, **own(broadcast, _MARK)}
