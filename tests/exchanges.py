"""Rounds by hand: exchanges of a server with clients that never fail."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from cases import theta
from torch import Tensor

from fedsciml.federation.inprocess import InProcess, LocalClients
from fedsciml.methods import Answers, Info, Method, Record, State, conclude
from fedsciml.problem import Problem
from fedsciml.residual import System

Answering = Callable[[Record], Answers]
"""What clients answer when they are asked."""


class Exchange(NamedTuple):
    """What the server asked, and the answers by client."""

    ask: Any
    answers: dict[int, Any]


class Played(NamedTuple):
    """A round: the next state, what it was, and its exchanges."""

    state: Any
    info: Info
    exchanges: list[Exchange]


def play(method: Method, state: State, answer: Answering) -> Played:
    """A round from a state, by clients that answer as the function does."""
    exchanges: list[Exchange] = []

    def kept(ask: Record) -> Answers:
        exchanges.append(Exchange(ask, dict(answer(ask))))
        return exchanges[-1].answers

    after, info = conclude(method.round(state), kept)
    return Played(after, info, exchanges)


def connect(
    problem: Problem, method: Method, dtype: torch.dtype = torch.float64
) -> LocalClients:
    """The clients of a run."""
    return InProcess().connect(problem, method, dtype=dtype)


def answering(method: Method, systems: Mapping[int, System]) -> Answering:
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


def begin(problem: Problem, method: Method) -> Any:  # noqa: ANN401
    """The state before the first round, at ``theta``."""
    return method.start(theta(problem), 0)


def first_round(problem: Problem, method: Method) -> Played:
    """A first round, from ``theta``."""
    return play(method, begin(problem, method), connect(problem, method).exchange)


def opened(problem: Problem, method: Method) -> Exchange:
    """The first exchange of a run, from ``theta``."""
    ask = next(method.round(begin(problem, method)))
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
    clients = connect(problem, method)
    state = method.start(theta(problem) if start is None else start, 0)
    for _ in range(count):
        state, _ = conclude(method.round(state), clients.exchange)
    return state, [*clients.memories.values()]
