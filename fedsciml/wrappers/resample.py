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

With the new points come half as many that are drawn by the same law and not trained on.
What the loss is there, next to that at the points, tells whether the network fits the
points and not the equation between them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from fedsciml.methods import (
    LOSS,
    Answers,
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
    """The method's state, and when points are drawn.

    Attributes:
        seed: Of the points.
        done: How many rounds are done.
        left: Rounds until points are drawn; 0 before the next one.
    """

    seed: int
    done: int
    left: int


class Redraw(AskAround):
    """The first ask of a round, and that points are drawn before it."""

    seed: int
    round: int


class Judge(AskAround):
    """The first ask of a round without a drawing, and for two losses."""


class Judged(Record):
    """The method's answer, and losses of the terms that were drawn.

    Attributes:
        answer: Of the method.
        trained: At the points.
        fresh: At those that are not trained on, with the weight of the points.
    """

    answer: Any
    trained: float
    fresh: float


class Memory(Record):
    """The method's memory, and the points drawn, by the number of their term.

    Attributes:
        inner: Of the method.
        points: Shapes [n, d].
        fresh: By the same law, and not trained on.
    """

    inner: Record | None = None
    points: Mapping[str, Tensor] = field(default_factory=dict)
    fresh: Mapping[str, Tensor] = field(default_factory=dict)


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
    count: int | None = None,
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
        count: n, another number of points than of rows.

    Raises:
        ValueError: If ``sample`` returns no points [n, d], or too few of them lie in
            the party's part of the domain.
    """
    problem = system.problem
    n = len(rows.points) if count is None else count
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
    drawn = p.clamp(min=TINY).multinomial(n, generator=random)
    # The likely are drawn first; any part of the points is to be like the others.
    return points[drawn[torch.randperm(n, generator=random)]]


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

    After ``every`` rounds, or fewer where the network fits its points alone, the method
    goes on from its theta on new points. Losses on other points cannot be compared: it
    forgets them, and keeps its damping (``Method.moved``). In the history a loss is
    that on the round's points; ``Result.loss`` and ``gn_gap`` are on the problem's own.

    Args:
        method: Any.
        every: Rounds between two drawings at most, at least 1.
        power: k, finite and at least 0; the more, the more of the points go where |r|
            is largest. With 0 points are drawn evenly.
        offset: c, finite and at least 0; the more, the more evenly the points are
            spread.
        ratio: Points are drawn in the next round if the loss at points that are not
            trained on is so many times that at the points, at least 1. Of the
            problem's own points it is not known how they were drawn: they stay for
            ``every`` rounds. Each client tells two numbers more. None for never.
        terms: Names of the terms that are drawn again; none stands for all that can.

    Raises:
        ValueError: If a number is out of range, or the method is resampled already; in
            the first round, as ``chosen``; when points are drawn, if too few candidates
            lie in a client's part.
    """

    apart = "its clients draw points of their own, and remember them"

    every: int = 10
    power: float = 1.0
    offset: float = 1.0
    ratio: float | None = 1.5
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
        if self.ratio is not None and not self.ratio >= 1:
            raise ValueError(
                "Points are drawn early where the loss at fresh ones is ratio times "
                "that at the points, 1 or more; got ratio "
                f"{self.ratio}. None is for never."
            )
        if Redraw in self.method.client:
            raise ValueError("The points of this method are drawn again already.")

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        return (State, Redraw, Judge, Judged, Memory, *self.method.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's start, on the problem's own points."""
        return State(theta, self.method.start(theta, seed), seed, 0, self.every)

    def round(self, state: State) -> Exchanges[State]:
        """The method's round, on new points where they are due."""
        first, early = True, False

        def down(ask: Record) -> Record:
            if not first:
                return ask
            if state.left == 0:
                return Redraw(ask, state.seed, state.done)
            drawn = state.done >= self.every  # so that some are not trained on
            return Judge(ask) if drawn and self.ratio is not None else ask

        def up(ask: Record, answers: Answers) -> Answers:
            nonlocal first, early
            judged = first and isinstance(next(iter(answers.values())), Judged)
            first = False
            if not judged:
                return answers
            trained = sum(answer.trained for answer in answers.values())
            fresh = sum(answer.fresh for answer in answers.values())
            early = self.ratio is not None and fresh > self.ratio * trained
            return {m: answer.answer for m, answer in answers.items()}

        inner, info = yield from relayed(self.method, state.inner, down, up)
        left = 0 if early else (state.left or self.every) - 1
        if left == 0:
            inner = self.method.moved(inner, inner.theta)
        return State(inner.theta, inner, state.seed, state.done + 1, left), info

    @property
    def client(self) -> Parts:
        """New points where they are due; the method's part on those of the client."""
        parts = {kind: self._moved(part) for kind, part in self.method.client.items()}
        return {**parts, Redraw: self._redraw, Judge: self._judge}

    def _redraw(
        self, system: System, ask: Redraw, memory: Memory | None
    ) -> tuple[Record, Record | None]:
        terms = chosen(system.problem, self.terms, self.pooled)
        random = generator(ask.seed, ask.round, system.shard.client)
        how = random, self.power, self.offset, self.pooled
        points, fresh = dict[str, Tensor](), dict[str, Tensor]()
        for rows in system.shard.rows:
            if rows.term in terms and (n := len(rows.points)):
                more = 0 if self.ratio is None else -(-n // 2)
                found = redrawn(system, ask.theta, rows, *how, n + more)
                points[f"{rows.term}"], fresh[f"{rows.term}"] = found[:n], found[n:]
        part = self._moved(self.method.part(ask.ask))
        inner = memory.inner if memory else None
        return part(system, ask.ask, Memory(inner, points, fresh))

    def _judge(
        self, system: System, ask: Judge, memory: Memory | None
    ) -> tuple[Judged, Record | None]:
        trained, fresh = self._losses(system, ask.theta, memory or Memory())
        answer, kept = self._moved(self.method.part(ask.ask))(system, ask.ask, memory)
        return Judged(answer, trained, fresh), kept

    def _losses(
        self, system: System, theta: Tensor, memory: Memory
    ) -> tuple[float, float]:
        """At the points that were drawn, and at those that are not trained on."""
        problem, moved, more = system.problem, list[Rows](), list[Rows]()
        for rows in system.shard.rows:
            points, fresh = (
                known.get(f"{rows.term}") for known in (memory.points, memory.fresh)
            )
            if points is not None and fresh is not None and len(fresh):
                weight = rows.weight * (len(points) / len(fresh)) ** 0.5
                moved.append(problem.moved(rows, points.cpu()))
                more.append(replace(problem.moved(rows, fresh.cpu()), weight=weight))
        losses = [
            system.on(rows).normalised(theta).loss(theta) for rows in (moved, more)
        ]
        return (losses[0], losses[1]) if sum(losses) < math.inf else (0.0, 0.0)

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
        """Of the method, and the two losses where they are asked for."""
        plain = ask.ask if isinstance(ask, Redraw | Judge) else ask
        inner = self.method.expects(plain, size)
        if not isinstance(ask, Judge):
            return inner
        return Expected(Judged, {"answer": inner, "trained": LOSS, "fresh": LOSS})

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """The method's."""
        plain = [
            (ask, told.answer if isinstance(told, Judged) else told)
            for ask, told in unwrapped(unwrapped(said, Redraw), Judge)
        ]
        return super().objection(problem, state, client, plain, unit)
