"""Rounds by hand: a server and clients in this process that never fail."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from cases import theta
from torch import Tensor

from fedsciml.federation.inprocess import InProcess, Local
from fedsciml.methods import Answers, Info, Method, Record, State, conclude, flatten
from fedsciml.problem import Problem
from fedsciml.residual import System


class Exchange(NamedTuple):
    """What the server asked, and the answers by client."""

    ask: Any
    answers: dict[int, Any]


class Played(NamedTuple):
    """A round: the next state, what it was, and its exchanges."""

    state: Any
    info: Info
    exchanges: list[Exchange]


def play(method: Method, state: State, answer: Callable[[Record], Answers]) -> Played:
    """A round from a state, by clients that answer as the function does."""
    exchanges: list[Exchange] = []

    def kept(ask: Record) -> Answers:
        exchanges.append(Exchange(ask, dict(answer(ask))))
        return exchanges[-1].answers

    after, info = conclude(method.round(state), kept)
    return Played(after, info, exchanges)


def connect(
    problem: Problem, method: Method, dtype: torch.dtype = torch.float64
) -> Local:
    """The clients of a run."""
    return InProcess().connect(problem, method, dtype=dtype)


def answering(
    method: Method, systems: Mapping[int, System]
) -> Callable[[Record], dict[int, Any]]:
    """How clients with these systems answer, who remember.

    They are asked in this order, and their answers come in that of their numbers.
    """
    memories: dict[int, Record | None] = dict.fromkeys(systems)

    def answer(ask: Record) -> dict[int, Any]:
        answers, part = {}, method.client[type(ask)]
        for m, system in systems.items():
            answers[m], memories[m] = part(system, ask, memories[m])
        return dict(sorted(answers.items()))

    return answer


def first_round(
    problem: Problem, method: Method, start: Tensor | None = None
) -> Played:
    """A first round, from ``theta`` by default."""
    clients = connect(problem, method)
    return play(method, begin(problem, method, start), clients.exchange)


def opened(problem: Problem, method: Method, start: Tensor | None = None) -> Exchange:
    """The first exchange of a run, from ``theta`` by default."""
    ask = next(method.round(begin(problem, method, start)))
    return Exchange(ask, connect(problem, method).exchange(ask))


def second(method: Method, state: State, answers: Answers) -> Any:  # noqa: ANN401
    """What the server asks after these answers to the first ask of a round."""
    exchanges = method.round(state)
    next(exchanges)
    return exchanges.send(answers)


def rounds(
    problem: Problem, method: Method, count: int, start: Tensor | None = None
) -> tuple[Any, list[Any]]:
    """Server state and client memories after some rounds, from ``theta`` by default."""
    clients, state = connect(problem, method), begin(problem, method, start)
    for _ in range(count):
        state, _ = conclude(method.round(state), clients.exchange)
    return state, [*clients.memories.values()]


def same(a: Record, b: Record) -> bool:
    """Whether two records are of one type and equal, tensors bit for bit."""
    left, right = flatten(a), flatten(b)
    return left.keys() == right.keys() and all(
        type(value) is type(right[path])
        and (
            torch.equal(value, right[path]) and value.dtype == right[path].dtype
            if isinstance(value, Tensor)
            else value == right[path]
        )
        for path, value in left.items()
    )


def begin(problem: Problem, method: Method, start: Tensor | None = None) -> State:
    """The state before the first round, at ``theta`` by default."""
    return method.start(theta(problem) if start is None else start, 0)
