r"""Adaptive collocation: points are drawn again where the residual is large.

Residual-based adaptive distribution, RAD (Wu, Zhu, Tan, Kartha, Lu, A comprehensive
study of non-adaptive and residual-based adaptive sampling for physics-informed neural
networks, Comput. Methods Appl. Mech. Eng. 403, 2023, 115671, arXiv 2207.10289): of many
candidates x that cover the domain evenly, new points are drawn without replacement with
the probability

    p(x) ~ |r(x)|^k / mean |r|^k + c,

|r| the unweighted residual at the present theta, over all residuals of a point. Every
client draws for itself, among candidates in its own part of the domain, and keeps its
number of points. Nobody learns of the new points, row weights stay, and losses,
gradients and gramians still add up to those of all rows. But points do not move between
clients: p is normalised within a client's part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from fedsciml.methods import (
    ClientPart,
    Exchanges,
    Expected,
    Parts,
    Record,
    Said,
    generator,
)
from fedsciml.problem import Problem, Rows, Shard, Term
from fedsciml.residual import System
from fedsciml.wrappers._base import (
    Around,
    AskAround,
    Wrapped,
    check_inner,
    relayed,
    unwrapped,
)

CANDIDATES = 10
"""Candidates for every new point, in a client's own part."""

TRIES = 100
"""How often the whole domain is covered by candidates to find those of one part."""

TINY = torch.finfo(torch.float64).tiny
"""What is divided by, and every chance, is at least so large: never 0."""


class State(Around):
    """The method's state, the seed, and how many rounds are done."""

    seed: int
    done: int = 0


class Redraw(AskAround):
    """The first ask of a round, and that points are drawn before it."""

    seed: int
    round: int


class Memory(Record):
    """The method's memory, and the points drawn, by the number of their term."""

    inner: Record | None = None
    points: Mapping[str, Tensor] = field(default_factory=dict)


def chosen(
    problem: Problem, names: Sequence[str] = (), everywhere: bool = False
) -> list[int]:
    """Numbers of the terms of these names; without names, of all that can move.

    Those have a ``sample``, and targets that are known everywhere.

    Args:
        problem: Whose terms.
        names: Of terms.
        everywhere: One party holds the points of all clients.

    Raises:
        ValueError: If there is none, a term does not say how it is sampled, its targets
            or partners are known at its own points alone, or, unless ``everywhere``,
            the partition has no rule for the owner of a new point.
    """
    known = {t.name: k for k, t in enumerate(problem.terms) if t.sample is not None}
    movable = [name for name, k in known.items() if problem.terms[k].movable]
    wanted = names or movable or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        what = (
            f"{', '.join(unknown)} of problem '{problem.name}' cannot be drawn again; "
            f"what can: {', '.join(known)}"
            if known
            else f"No term of problem '{problem.name}' can be drawn again"
        )
        raise ValueError(
            f"{what}. Give a Term(sample=...), a function (n, generator) -> points "
            "[n, d] of the whole domain."
        )
    numbers = [known[name] for name in wanted]
    for term in (problem.terms[k] for k in numbers):
        term.check_movable()
        if not (everywhere or isinstance(term.points, Tensor)):
            _check_owner(problem, term)
    return numbers


def _check_owner(problem: Problem, term: Term) -> None:
    """Raise ValueError if the partition does not say who owns a point of the term."""
    first = next(torch.as_tensor(part)[:1] for part in term.points if len(part))
    try:
        problem.partition.owner(first)
    except ValueError as error:
        raise ValueError(
            f"Partition '{problem.partition.name}' of problem '{problem.name}' does "
            f"not say who owns a new point of term '{term.name}'. Give strips, boxes, "
            "sectors or pieces that cover its points, or do not resample this term."
        ) from error


def redrawn(
    system: System,
    theta: Tensor,
    rows: Rows,
    random: Generator,
    power: float = 1.0,
    offset: float = 1.0,
    everywhere: bool = False,
) -> Tensor:
    """New points for as many rows of a party, shape [n, d].

    Args:
        system: The party's residual.
        theta: Where |r| is taken, shape [p].
        rows: The party's of one term, which has ``sample``.
        random: Draws the candidates and the points.
        power: k.
        offset: c.
        everywhere: The party holds the points of all clients.

    Raises:
        ValueError: If ``sample`` returns no points [n, d], or too few of them lie in
            the party's part of the domain.
    """
    problem = system.problem
    n = len(rows.points)
    client = None if everywhere else system.shard.client
    points = _candidates(problem, rows.term, client, n, random)
    party = Shard(system.shard.client, (problem.moved(rows, points),), 1.0)
    blocks = System(problem, party, theta.device, theta.dtype).blocks
    size = torch.cat(
        [
            block.residuals(theta[None]).view(-1, len(block.rows.points)).norm(dim=0)
            for block in blocks
        ]
    ).to("cpu", torch.float64)
    size = (size / size.max().clamp(min=TINY)) ** power
    p = size / size.mean().clamp(min=TINY) + offset
    return points[p.clamp(min=TINY).multinomial(n, generator=random)]


def _candidates(
    problem: Problem, term: int, client: int | None, n: int, random: Generator
) -> Tensor:
    """Points for n new ones, spread evenly over one client's part or everywhere."""
    found: list[Tensor] = []
    for _ in range(TRIES):
        points = problem.terms[term].drawn(CANDIDATES * n, random).points
        if client is not None:
            points = points[problem.partition.owner(points) == client]
        found.append(points)
        if sum(map(len, found)) >= CANDIDATES * n:
            break
    whole = torch.cat(found)[: CANDIDATES * n]
    if len(whole) < n:
        raise ValueError(
            f"Of the samples of term '{problem.terms[term].name}' only {len(whole)} "
            f"lie in the part of client {client}, who needs {n}. Does Term(sample=...) "
            "cover the whole domain?"
        )
    return whole


@dataclass(frozen=True)
class Resampled(Wrapped):
    """A method whose clients draw their points again from time to time.

    After every ``every`` rounds the method starts anew from the theta reached, on new
    points, as it would alone: losses on other points cannot be compared, so nothing
    that it has learned from them is kept. In the history a loss is that on the round's
    points; ``Result.loss`` and ``gn_gap`` are on the problem's own.

    Args:
        method: Any.
        every: Rounds between two drawings, at least 1.
        power: k, finite and at least 0; the more, the more of the points go where |r|
            is largest. With 0 points are drawn evenly.
        offset: c, finite and at least 0; the more, the more evenly the points are
            spread.
        terms: Names of the terms that are drawn again; none stands for all that can.

    Raises:
        ValueError: If a number is out of range, or the method is resampled already; in
            the first round, as ``chosen``; when points are drawn, if too few candidates
            lie in a client's part.
    """

    apart = "its clients draw points of their own, and remember them"

    every: int = 20
    power: float = 1.0
    offset: float = 1.0
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_inner(self.method)
        if self.every < 1:
            raise ValueError(f"Points last at least 1 round, got every = {self.every}.")
        if not (0 <= self.power < math.inf and 0 <= self.offset < math.inf):
            raise ValueError(
                "Resampling needs finite power and offset of at least 0; got "
                f"{self.power} and {self.offset}."
            )
        if Redraw in self.method.client:
            raise ValueError("The points of this method are drawn again already.")

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        return (State, Redraw, Memory, *self.method.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's start, on the problem's own points."""
        return State(theta, self.method.start(theta, seed), seed)

    def round(self, state: State) -> Exchanges[State]:
        """The method's round; when points are due, on new ones.

        The method then starts from the theta reached.
        """
        due = [state.done] if state.done and state.done % self.every == 0 else []

        def down(ask: Record) -> Record:
            return Redraw(ask, state.seed, due.pop()) if due else ask

        inner, info = yield from relayed(
            self.method, state.inner, down, lambda ask, answers: answers
        )
        done = state.done + 1
        if done % self.every == 0:
            inner = self.method.start(inner.theta, state.seed)
        return State(inner.theta, inner, state.seed, done), info

    @property
    def client(self) -> Parts:
        """New points where they are due; the method's part on those of the client."""
        parts = {kind: self._moved(part) for kind, part in self.method.client.items()}
        return {**parts, Redraw: self._redraw}

    def _redraw(
        self, system: System, ask: Redraw, memory: Memory | None
    ) -> tuple[Record, Record | None]:
        terms = chosen(system.problem, self.terms, self.pooled)
        random = generator(ask.seed, ask.round, system.shard.client)
        points = {
            f"{rows.term}": redrawn(
                system, ask.theta, rows, random, self.power, self.offset, self.pooled
            )
            for rows in system.shard.rows
            if rows.term in terms and len(rows.points)
        }
        part = self._moved(self.method.part(ask.ask))
        return part(system, ask.ask, Memory(None, points))

    def _moved(self, part: ClientPart) -> ClientPart:
        """A part of the method on the points that the client has drawn."""

        def answered(
            system: System, ask: Record, memory: Memory | None
        ) -> tuple[Record, Memory]:
            memory = memory or Memory()
            terms = chosen(system.problem, self.terms, self.pooled)
            points = {
                t: memory.points[f"{t}"].cpu() for t in terms if f"{t}" in memory.points
            }
            answer, inner = part(system.moved(points), ask, memory.inner)
            return answer, replace(memory, inner=inner)

        return answered

    def expects(self, ask: Record, size: int) -> Expected:
        """Of the method."""
        return self.method.expects(ask.ask if isinstance(ask, Redraw) else ask, size)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """The method's."""
        return super().objection(problem, state, client, unwrapped(said, Redraw), unit)
