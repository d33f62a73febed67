"""Clients that lie: what they send in place of an honest answer of FIPA.

A lie is a function from what a liar knows, ``Seen``, to what it sends. An ``Attack`` is
a lie about the sketch and one about the candidates; where one is left out, the truth is
told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from experiments._absent import Patchy
from fedsciml.federation.backend import Reply
from fedsciml.methods import Method, Record
from fedsciml.methods._fipa import Found, Memory, Probe, Sketched
from fedsciml.problem import Problem, Rows
from fedsciml.residual import System

LIAR = 2
PAIR = (1, 3)
"""Of five clients, each with a neighbour on both sides that is honest."""

ALWAYS = range(1, 10**6)


class Seen(NamedTuple):
    """What a liar knows when it answers.

    Attributes:
        honest: Its own answer, ``Sketched`` or ``Found``.
        other: What the client before it answers.
        sent: The sketch that it sent in this round.
        first: The honest one of its first round.
        ask: What it is asked.
        round: Number of the round.
        random: Its random numbers in this round.
    """

    honest: Any
    other: Any
    sent: Sketched
    first: Sketched
    ask: Any
    round: int
    random: Generator


Lie = Callable[[Seen], Record]


def truth(seen: Seen) -> Record:
    """No lie."""
    found: Record = seen.honest
    return found


@dataclass(frozen=True)
class Attack:
    """What liars do.

    Args:
        sketch: In place of a ``Sketched``.
        candidates: In place of a ``Found``.
        liars: Who.
        begins: In which round.
        shift: Added to the targets of the liars' data.
        away: They do not lie but are absent.
    """

    sketch: Lie = truth
    candidates: Lie = truth
    liars: tuple[int, ...] = (LIAR,)
    begins: int = 1
    shift: float = 0.0
    away: bool = False


def scaled(factor: float = 1.0, target: float = 1.0, loss: float = 1.0) -> Lie:
    """The sketch with B, c and the loss times these."""

    def lie(seen: Seen) -> Record:
        a = seen.honest
        return replace(
            a, factor=factor * a.factor, target=target * a.target, loss=loss * a.loss
        )

    return lie


def growing(sign: float) -> Lie:
    """The sketch with c times 1.5 more in every round."""
    return lambda seen: scaled(target=sign * 1.5**seen.round)(seen)


def told(loss: float) -> Lie:
    """The sketch with another loss."""
    return lambda seen: replace(seen.honest, loss=loss)


def permuted(seen: Seen) -> Record:
    """The sketch with the columns of B in another order."""
    order = torch.randperm(seen.honest.factor.shape[1], generator=seen.random)
    return replace(seen.honest, factor=seen.honest.factor[:, order])


def stale(seen: Seen) -> Record:
    """The first sketch again."""
    return seen.first


def others(seen: Seen) -> Record:
    """What the client before it says."""
    found: Record = seen.other
    return found


def garbage(seen: Seen) -> Record:
    """Three random rows as large as B and c are; c as large as the loss allows."""
    a, rows = seen.honest, _random(seen, 3, seen.honest.factor.shape[1])
    factor = rows * (a.factor.norm() / rows.norm())
    return replace(
        a, factor=factor, target=_bounded(seen, (), a.factor.new_tensor(a.loss))
    )


def probed(losses: float = 1.0, targets: float = 1.0) -> Lie:
    """Losses and targets at the candidates times these."""
    return lambda seen: Found(
        losses * seen.honest.losses, targets * seen.honest.targets
    )


def same(loss: float, near: bool = True) -> Lie:
    """This loss at every candidate; with ``near`` also at that next to theta."""

    def lie(seen: Seen) -> Record:
        losses = torch.full_like(seen.honest.losses, loss)
        if not near:
            losses[-1] = seen.honest.losses[-1]
        return replace(seen.honest, losses=losses)

    return lie


def favoured(boldest: bool, within: bool) -> Lie:
    """One candidate has a far lower loss than the others: the longest or the shortest.

    Args:
        boldest: The longest.
        within: The losses keep all laws: that one is as low as |c(D)|^2 <= 2 loss
            allows, the others ten times the loss at theta, and next to theta is the
            truth; else 0, and 1e9.
    """

    def lie(seen: Seen) -> Record:
        a, length = seen.honest, moves(seen.ask).norm(dim=1)[:-1]
        one = int(length.argmax() if boldest else length.argmin())
        least = a.targets.square().sum(-1) / 2
        high = max(10 * seen.sent.loss, float(least.max())) if within else 1e9
        losses = torch.full_like(least, high)
        losses[one] = least[one] * (1 + 1e-9) if within else 0.0
        losses[-1] = a.losses[-1] if within else 1e9
        return replace(a, losses=losses)

    return lie


def moves(ask: Probe) -> Tensor:
    """t D of every candidate, shape [N, p]."""
    return ask.candidates(torch.zeros_like(ask.steps[0]))


def foreseen(seen: Seen) -> Record:
    """Next to theta what follows from the sketch that was sent."""
    a, sent = seen.honest, seen.sent
    losses, targets = a.losses.clone(), a.targets.clone()
    moved = sent.factor @ moves(seen.ask)[-1]
    targets[-1] = sent.target - moved
    losses[-1] = sent.loss + float(moved @ moved) / 2 - float(sent.target @ moved)
    return Found(losses, targets)


def blank_losses(seen: Seen) -> Record:
    """No losses but the first."""
    losses = torch.full_like(seen.honest.losses, nan)
    losses[0] = seen.honest.losses[0]
    return replace(seen.honest, losses=losses)


def blank_targets(seen: Seen) -> Record:
    """No first coordinate of the targets."""
    targets = seen.honest.targets.clone()
    targets[..., 0] = nan
    return replace(seen.honest, targets=targets)


def garbled(seen: Seen) -> Record:
    """Random targets for ``garbage``, as large as the losses allow."""
    a = seen.honest
    return replace(a, targets=_bounded(seen, a.losses.shape, a.losses))


def _random(seen: Seen, *shape: int) -> Tensor:
    like = seen.first.factor
    return torch.randn(shape, generator=seen.random, dtype=like.dtype)


def _bounded(seen: Seen, shape: tuple[int, ...], losses: Tensor) -> Tensor:
    """Random c [..., 3] with |c|^2 equal to the loss, half of what it may be."""
    found = _random(seen, *shape, 3)
    return found * (losses.sqrt() / found.norm(dim=-1))[..., None]


def _scales() -> dict[str, Attack]:
    found = {
        f"B and c times {s}": Attack(scaled(s, s)) for s in (2.0, 20.0, 100.0, 400.0)
    }
    return found | {
        f"B times {s}, c times -{s}": Attack(scaled(s, -s)) for s in (2.0, 20.0, 400.0)
    }


FLIP = scaled(target=-1)
ATTACKS: dict[str, Attack] = {
    **{name.replace(".0", ""): attack for name, attack in _scales().items()},
    "-c": Attack(FLIP),
    "-c, also at the candidates": Attack(FLIP, probed(targets=-1)),
    "-c growing 1.5 times a round": Attack(growing(-1)),
    "c growing 1.5 times a round": Attack(growing(1)),
    "permuted columns of B": Attack(permuted),
    "rank-3 garbage": Attack(garbage, garbled),
    "its first sketch, always": Attack(stale),
    "another client's answers": Attack(others, others),
    "another client's sketch": Attack(others),
    "told loss 0": Attack(told(0.0)),
    "told loss a thousandth": Attack(scaled(loss=1e-3)),
    "told loss 1e6": Attack(told(1e6)),
    "told loss 1e300": Attack(told(1e300)),
    "losses 1e9 at the candidates": Attack(candidates=same(1e9)),
    "losses inf at the candidates": Attack(candidates=same(inf)),
    "losses for the boldest": Attack(candidates=favoured(True, False)),
    "losses for the shyest": Attack(candidates=favoured(False, False)),
    "losses NaN but one, from round 10": Attack(candidates=blank_losses, begins=10),
    "NaN in the targets": Attack(candidates=blank_targets),
    "all consistent, times 20": Attack(scaled(20, 20, 400), probed(400, 20)),
    "data shifted by 0.05": Attack(shift=0.05),
    "data shifted by 0.05, times 200": Attack(
        scaled(200, 200, 200**2), probed(200**2, 200), shift=0.05
    ),
    "two: -c": Attack(FLIP, liars=PAIR),
    "two: losses 1e9 at the candidates": Attack(candidates=same(1e9), liars=PAIR),
    "two: another client's answers": Attack(others, others, PAIR),
    "two: rank-3 garbage": Attack(garbage, garbled, PAIR),
    # By one who knows what is checked.
    "informed: -c": Attack(FLIP, foreseen),
    "informed: permuted columns of B": Attack(permuted, foreseen),
    "informed: losses 1e9": Attack(candidates=same(1e9, near=False)),
    "informed: losses for the boldest": Attack(candidates=favoured(True, True)),
    "informed: losses for the shyest": Attack(candidates=favoured(False, True)),
}
"""By what is done."""

NOBODY = "nobody"
ABSENT = {
    (LIAR,): f"client {LIAR} is absent",
    PAIR: "clients {} and {} are absent".format(*PAIR),
}
"""What an attack is compared with: a run without the liars."""

CONTROLS = {
    NOBODY: Attack(liars=()),
    **{name: Attack(liars=liars, away=True) for liars, name in ABSENT.items()},
}


class Lying(Patchy):
    """Clients of which some lie, as long as an attack says.

    Args:
        problem: What is trained.
        method: FIPA.
        attack: What the liars do.
    """

    def __init__(self, problem: Problem, method: Method, attack: Attack) -> None:
        away = dict.fromkeys(attack.liars, ALWAYS) if attack.away else {}
        super().__init__(problem, method, away)
        self.attack = attack
        self._first: dict[int, Reply] = {}
        self._sent: dict[int, Sketched] = {}
        if attack.shift:
            for m in attack.liars:
                self.systems[m] = shifted(self.systems[m], attack.shift)

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """The answers with the lies in them."""
        honest = super().ask(ask, memories, number, deadline)
        replies = dict(honest)
        for m in self.attack.liars:
            reply = replies.get(m)
            if number >= self.attack.begins and isinstance(reply, Reply):
                other = honest.get(m - 1, reply)
                other = other if isinstance(other, Reply) else reply
                replies[m] = self._lied(m, reply, other.answer, ask, number)
        return replies

    def _lied(
        self, m: int, reply: Reply, other: Record, ask: Record, number: int
    ) -> Reply:
        first: Any = self._first.setdefault(m, reply)
        opening, memory = isinstance(reply.answer, Sketched), reply.memory
        sent: Any = reply.answer
        lie = self.attack.sketch if opening else self.attack.candidates
        if opening:
            self._sent[m] = sent
        random = Generator().manual_seed(1000 * number + m)
        own = self._sent[m], first.answer
        answer: Any = lie(Seen(reply.answer, other, *own, ask, number, random))
        if opening:
            self._sent[m] = answer
        if answer is first.answer and isinstance(memory, Memory):
            # Targets at the candidates are then in the basis of the first sketch.
            basis: Any = memory.basis
            left = first.memory.basis.left
            memory = replace(memory, basis=replace(basis, left=left))
        return Reply(answer, memory)


def shifted(system: System, shift: float) -> System:
    """The system of data whose targets are larger by ``shift``."""

    def other(rows: Rows) -> Rows:
        target = None if rows.target is None else rows.target + shift
        return replace(rows, target=target)

    shard = replace(system.shard, rows=tuple(map(other, system.shard.rows)))
    return System(system.problem, shard)
