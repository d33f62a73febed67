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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fedsciml.methods import (
    Fields,
    Info,
    Message,
    State,
    Wrapped,
    objection,
    renewed,
)
from fedsciml.methods._sketching import generator
from fedsciml.methods._uploads import number, own, tensor, without
from fedsciml.problem import Problem, Rows, Shard, Term
from fedsciml.residual import System

CANDIDATES = 10
"""Candidates for every new point, in a client's own part."""

TRIES = 100
"""How often the whole domain is covered by candidates to find those of one part."""

TINY = torch.finfo(torch.float64).tiny

_MARK = "resample."  # prefix of what the resampling itself keeps and sends
_ROUND, _SEED, _POINTS = _MARK + "round", _MARK + "seed", _MARK + "points."


def chosen(
    problem: Problem, names: Sequence[str] = (), everywhere: bool = False
) -> list[int]:
    """Numbers of the terms of these names; without names, of all that have ``sample``.

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
    wanted = names or list(known)
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
    sample, d = problem.terms[term].sample, len(problem.coordinates)
    assert sample is not None
    found: list[Tensor] = []
    for _ in range(TRIES):
        points = sample(CANDIDATES * n, random).to("cpu", torch.float64)
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(
                f"The sample of term '{problem.terms[term].name}' has shape "
                f"{list(points.shape)}; it must be [n, {d}]."
            )
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
        method: One whose first broadcast carries ``theta``.
        every: Rounds between two drawings, at least 1.
        power: k, finite and at least 0; the more, the more of the points go where |r|
            is largest. With 0 points are drawn evenly.
        offset: c, finite and at least 0; the more, the more evenly the points are
            spread.
        terms: Names of the terms that are drawn again; none stands for all that can.

    Raises:
        ValueError: If a number is out of range; in the first round, as ``chosen``; when
            points are drawn, if too few candidates lie in a client's part.
    """

    every: int = 20
    power: float = 1.0
    offset: float = 1.0
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Points last at least 1 round, got every = {self.every}.")
        if not (0 <= self.power < math.inf and 0 <= self.offset < math.inf):
            raise ValueError(
                "Resampling needs finite power and offset of at least 0; got "
                f"{self.power} and {self.offset}."
            )

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """The method's start, on the problem's own points."""
        state, opening = self.method.init(theta, seed)
        return {**state, _SEED: seed, _ROUND: 0}, opening

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """New points where they are due; the method's part on those of the client."""
        terms = chosen(system.problem, self.terms, self.pooled)
        if _ROUND in broadcast:
            memory = self._drawn(system, terms, broadcast)
        points = {
            t: tensor(memory, f"{_POINTS}{t}").cpu()
            for t in terms
            if f"{_POINTS}{t}" in memory
        }
        upload, kept = self.method.client(
            system.moved(points), without(broadcast, _MARK), without(memory, _MARK)
        )
        return upload, {**kept, **own(memory, _MARK)}

    def _drawn(self, system: System, terms: list[int], broadcast: Message) -> State:
        """A memory with new points and nothing else."""
        theta, client = tensor(broadcast, "theta"), system.shard.client
        seed, round_ = (int(number(broadcast, key)) for key in (_SEED, _ROUND))
        random = generator(seed, round_, client)
        return {
            f"{_POINTS}{rows.term}": redrawn(
                system, theta, rows, random, self.power, self.offset, self.pooled
            )
            for rows in system.shard.rows
            if rows.term in terms and len(rows.points)
        }

    def expects(self, broadcast: Message, size: int) -> Fields:
        """Of the method."""
        return self.method.expects(without(broadcast, _MARK), size)

    def objection(
        self, problem: Problem, state: State, upload: Message
    ) -> ValueError | None:
        """The method's."""
        return objection(self.method, problem, without(state, _MARK), upload)

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The method's part; when points are due, its start from the theta reached."""
        done, seed = (int(number(state, key)) for key in (_ROUND, _SEED))
        inner, broadcast, info = self.method.server(without(state, _MARK), uploads)
        if info is not None:
            done += 1
            if done % self.every == 0:
                inner, broadcast = self.method.init(tensor(inner, "theta"), seed)
                broadcast = {**broadcast, _SEED: seed, _ROUND: done}
        return {**inner, _SEED: seed, _ROUND: done}, broadcast, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """Of the method; points that are due are drawn all the same."""
        inner, opening = renewed(
            self.method, without(state, _MARK), without(broadcast, _MARK)
        )
        return {**inner, **own(state, _MARK)}, {**opening, **own(broadcast, _MARK)}
