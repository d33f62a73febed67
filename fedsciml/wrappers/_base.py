"""What wrappers are made of: a method around a method."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedsciml.methods import (
    Answers,
    Budget,
    Expected,
    Field,
    Info,
    Method,
    Record,
    Said,
    State,
)
from fedsciml.methods._base import Evaluation, Own
from fedsciml.problem import Problem
from fedsciml.residual import System


class Around(State):
    """The state of a wrapper, around that of the method in it."""

    inner: State

    @property
    def point(self) -> Tensor:
        """That of the method."""
        return self.inner.point


class AskAround(Record):
    """A wrapper's ask, around that of the method in it."""

    ask: Any

    @property
    def theta(self) -> Tensor:
        """Where the round begins, shape [p], of the first ask of a round."""
        theta: Tensor = self.ask.theta
        return theta


@dataclass(frozen=True)
class Wrapped(Method):
    """What stands around a method and goes by its name.

    A subclass gives ``kinds``, ``start``, ``round`` and ``client``.
    """

    method: Method

    carries: ClassVar[bool] = False
    """Whether messages of clients with parameters of their own pass through it."""

    @property
    def name(self) -> str:
        """The method's own."""
        return self.method.name

    @property
    def pooled(self) -> bool:
        """Whether the method is centralised."""
        return self.method.pooled

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the bound method."""
        bound = self.method.bound(problem, device, dtype)
        return self if bound is self.method else replace(self, method=bound)

    def scaled(self, factors: tuple[float, ...]) -> Method:
        """Around the scaled method."""
        scaled = self.method.scaled(factors)
        return self if scaled is self.method else replace(self, method=scaled)

    def advice(self, problem: Problem) -> list[str]:
        """The method's."""
        return self.method.advice(problem)

    @property
    def personal(self) -> Own:
        """As the method, where ``carries``."""
        return self.method.personal if self.carries else None

    @property
    def evaluates(self) -> bool:
        """Where only sums are told, and as the method."""
        return self.sums_only or self.method.evaluates

    def evaluation(
        self,
        state: Any,  # noqa: ANN401
        held_out: bool,
        terms: int = 0,
    ) -> Evaluation:
        """The method's."""
        return self.method.evaluation(state.inner, held_out, terms)

    def enough(self, ask: Record, answered: Collection[int]) -> bool | None:
        """As for the method."""
        return self.method.enough(bare(ask), answered)

    def own(
        self,
        system: System,
        state: Any,  # noqa: ANN401
        memory: Any,  # noqa: ANN401
    ) -> Tensor | None:
        """The method's."""
        inner = memory.inner if memory else None
        return self.method.own(system, state.inner, inner)

    def pooling(
        self,
        whole: System,
        state: Any,  # noqa: ANN401
        memories: Sequence[Any],
    ) -> System:
        """The method's."""
        inner = [memory and memory.inner for memory in memories]
        return self.method.pooling(whole, state.inner, inner)

    @property
    def compares(self) -> bool:
        """Whether the method compares losses of different rounds."""
        return self.method.compares

    @property
    def apart(self) -> str | None:
        """The method's."""
        return self.method.apart

    def summand(self, ask: Record, answer: Any) -> Any:  # noqa: ANN401
        """The method's."""
        return self.method.summand(bare(ask), answer)

    def summed(self, ask: Record, total: Any, clients: int) -> Any:  # noqa: ANN401
        """The method's."""
        return self.method.summed(bare(ask), total, clients)

    def points(self, ask: Record, memory: Any) -> Tensor:  # noqa: ANN401
        """The method's."""
        return self.method.points(bare(ask), memory.inner if memory else None)

    def noise(self, ask: Record, size: int) -> Mapping[str, Tensor]:
        """The method's."""
        return self.method.noise(bare(ask), size)

    def moved(self, state: Any, theta: Tensor) -> Any:  # noqa: ANN401
        """Around the method's."""
        return replace(state, theta=theta, inner=self.method.moved(state.inner, theta))

    @property
    def sums_only(self) -> bool:
        """As the method."""
        return self.method.sums_only

    def expects(self, ask: Record, size: int) -> Expected:
        """What the method expects."""
        return self.method.expects(ask, size)

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """The method's."""
        return self.method.objection(problem, state.inner, client, said, unit)

    @property
    def chooses(self) -> bool:
        """As the method."""
        return self.method.chooses

    @property
    def silent(self) -> bool:
        """As the method."""
        return self.method.silent

    def interrupted(self, state: Any) -> Any:  # noqa: ANN401
        """The method's, once it has begun."""
        inner = state.inner and self.method.interrupted(state.inner)
        return state if inner is state.inner else replace(state, inner=inner)

    @property
    def budget(self) -> Budget | None:
        """The method's."""
        return self.method.budget

    def finished(self, state: Any) -> str | None:  # noqa: ANN401
        """The method's, once it has begun."""
        return self.method.finished(state.inner) if state.inner else None

    def renewed(self, state: Any) -> Any:  # noqa: ANN401
        """Of the method; what the wrapper knows stays."""
        return replace(state, inner=self.method.renewed(state.inner))


def check_inner(method: Method) -> None:
    """Refuse what a wrapper cannot stand around.

    Raises:
        ValueError: If it is a method of secure sums.
    """
    if method.sums_only:
        raise ValueError(
            "Secure sums stand around all other wrappers, or they would hide nothing: "
            "write Secure(Warmup(...)), not Warmup(..., Secure(...))."
        )


def unanchored(problem: Problem) -> Problem:
    """The problem without anchors: where a basis may be shared, none is."""
    terms = [replace(term, sample=None) for term in problem.terms]
    return replace(problem, terms=terms)


def bare(ask: Record) -> Record:
    """An ask without a wrapper's around it."""
    return ask.ask if isinstance(ask, AskAround) else ask


def unwrapped(said: Said, kind: type[AskAround]) -> Said:
    """A client's conversation without a wrapper's asks."""
    return [(ask.ask if isinstance(ask, kind) else ask, told) for ask, told in said]


def changed(
    expected: Any,  # noqa: ANN401
    change: Callable[[str, Field], Field],
    name: str = "",
) -> Any:  # noqa: ANN401
    """What is expected, with other fields.

    Args:
        expected: By the server.
        change: From the name of a field, ``outer.inner`` in a field, and what is
            expected of it.
        name: Of the field that it is of.
    """
    if isinstance(expected, Field):
        return change(name, expected)
    if isinstance(expected, Expected):
        return expected._replace(fields=changed(expected.fields, change, name))
    return {
        key: changed(part, change, f"{name}.{key}" if name else key)
        for key, part in expected.items()
    }


def relayed(
    method: Method,
    state: State,
    down: Callable[[Record], Record],
    up: Callable[[Record, Answers], Answers],
) -> Generator[Record, Answers, tuple[Any, Info]]:
    """A method's round, its messages changed on their way.

    Args:
        method: The one inside.
        state: Its own.
        down: From its ask to what the clients are asked.
        up: From its ask and their answers to what it is sent.
    """
    exchanges = method.round(state)
    ask = next(exchanges)
    while True:
        answers = yield down(ask)
        try:
            ask = exchanges.send(up(ask, answers))
        except StopIteration as end:
            found: tuple[Any, Info] = end.value
            return found
