r"""Secure sums: the server is told what clients told together, and of none its own.

Every exchange of the method becomes two (see ``fedsciml.secure.seat``):

    Part    the method's ask, and who adds up; a client answers with ``Upload``, its
            numbers in the ring under masks
    Open    to each client what the others wrote to it; it answers with ``Shares``, by
            which the server takes the masks from the sum

and before the first one, or where clients left or came, ``Keys``. To a method whose
answers only need to be added (``Method.apart``) the sum is the answer of one client,
and nothing else changes. Numbers are fixed-point ones, the unit of each field agreed
from its last sum; where a number does not fit, the sum is asked for again in a wider
one. The sum of the integers is exact, so masks change no bit of theta.

What cannot be checked of one upload is checked of the sum, which obeys the same laws.
Where it breaks one, the clients are asked in groups, drawn anew in each round, until
the bad sums have one client in common, which is asked no more. The price: for these
rounds the server knows sums over three clients and a few. One that lies is found so;
two that lie together may have it thought of a third.

Sites give no sums over different sets of clients near one point (``secure.ledger``). So
where the set changes the model is first moved by ``STEP`` times that distance, in a
direction that is drawn: some digits are lost, and found again.
"""

from collections import Counter
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fedsciml.linalg.randomised import gaussian
from fedsciml.methods import (
    Addressed,
    Answers,
    Evaluation,
    Exchanges,
    Expected,
    Field,
    Inconsistent,
    Info,
    Method,
    Parts,
    Record,
    Said,
    generator,
)
from fedsciml.problem import Problem, SiteError
from fedsciml.residual import System
from fedsciml.residual.held_out import Fresh, HeldOut
from fedsciml.secure import keys, shamir
from fedsciml.secure.ledger import NEAR, size
from fedsciml.secure.roster import FEWEST, dealt
from fedsciml.secure.seat import LETTER, Seat, seats
from fedsciml.wrappers._base import Around, Wrapped
from fedsciml.wrappers._layout import Layout
from fedsciml.wrappers._masked import (
    At,
    Between,
    Keys,
    Loss,
    Losses,
    Members,
    Memory,
    Open,
    Own,
    Part,
    Shares,
    Upload,
    digest,
    packed,
    rows,
    stacked,
    unpacked,
)
from fedsciml.wrappers._summing import OWN, Lost, Summing, expected

STEP = 2.0
"""Distance by which a model is moved, in those at which sites refuse."""

MOST = 10_000
"""Clients of a sum: there may be more of them than parameters."""


class State(Around):
    """The method's, and what the next sum is made by.

    Attributes:
        seed: Of groups, and of where the model is moved.
        round: How many there have been.
        session: Keys of each group, by its number; None where new ones are needed.
        sizes: Exponent of the last sum of each field.
        sets: Group of each client in the last sums, -1 for none, shape [clients].
        doubted: Clients one of which lied; empty if none did.
        why: What was wrong with the last sum, if something was.
        lost: Loss of the last round.
    """

    seed: int
    round: int = 0
    session: Mapping[str, Members] | None = None
    sizes: Mapping[str, int] | None = None
    sets: Tensor | None = None
    doubted: Tensor | None = None
    why: str = ""
    lost: float = 0.0


@dataclass(frozen=True)
class Secure(Wrapped):
    """A method whose server is told sums over the clients alone.

    Args:
        method: One of whose answers sums will do, see ``Method.apart``.
        count: Groups of which the server is told a sum each, at least 1. With more it
            can leave out a group that lies, and knows more.
        seats: Of the clients in this process; ``bound`` makes them for all.
        problem: That the method is bound to.

    Raises:
        ValueError: If the method needs answers one by one, or is centralised; when
            bound, if there are not clients enough.
    """

    count: int = 1
    seats: tuple[Seat, ...] | None = field(default=None, repr=False)
    problem: Problem | None = field(default=None, repr=False)

    compares = True
    apart = "its sums are secure already"
    sums_only = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Clients are in 1 group or more, got {self.count}.")
        if self.method.pooled:
            raise ValueError(
                f"Method {self.method.name} is centralised: there is nothing to hide. "
                "Leave out secure sums."
            )
        if self.method.apart:
            raise ValueError(
                f"Secure sums are of no use to method {self.method.name}: "
                f"{self.method.apart}. Leave them out, or take a method whose server "
                "only adds up: fipa with basis shared and upload sums, fedavg, fedadam."
            )

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """Around the bound method, with a seat for every client."""
        if problem.clients < self.least:
            raise ValueError(
                f"Secure sums in {self.count} group(s) need at least {self.least} "
                f"clients, {FEWEST} in each; here are {problem.clients}. Of fewer, one "
                "learns from the sum what another told."
            )
        bound = self.method.bound(problem, device, dtype)
        if bound.apart:
            told = " ".join(self.method.advice(problem))
            raise ValueError(
                f"Method {bound.name} cannot do with sums here: {bound.apart}. {told}"
            )
        made = seats(problem.clients) if self.seats is None else self.seats
        return replace(self, method=bound, seats=made, problem=problem)

    @property
    def kinds(self) -> tuple[type, ...]:
        """The messages of sums, and those of the method."""
        asked = (Keys, Part, Open, At, Between, Addressed)
        told = (Own, Upload, Shares, Loss, Losses)
        return (State, Memory, Members, *asked, *told, *self.method.kinds)

    @property
    def least(self) -> int:
        """Enough for each group."""
        return self.count * FEWEST

    def start(self, theta: Tensor, seed: int) -> State:
        """The method's."""
        return State(theta, self.method.start(theta, seed), seed)

    def renewed(self, state: State) -> State:
        """The method's, with new keys."""
        return replace(super().renewed(state), session=None)

    def again(self, state: State) -> State:
        """With new keys: clients may have ended the session."""
        return replace(state, session=None)

    def round(self, state: State) -> Exchanges[State]:
        """The method's, on sums."""
        doubts = [] if state.doubted is None else state.doubted.tolist()
        doubted = doubts if state.why else []
        session, known = yield from self._session(state, doubted)
        sets = self._sets(session)
        inner, like = self._moved(state, sets), state.theta
        summing = Summing(self.method, len(like), session, known, state.sizes)
        exchanges, said = self.method.round(inner), dict[int, list[tuple[Any, Any]]]()
        ask, bad, opening = next(exchanges), dict[int, str](), True
        missed = False
        while True:
            sums = yield from summing.ask(ask, like)
            for g, told in sums.items():
                said.setdefault(g, []).append((ask, told))
                if g not in bad and (wrong := self._wrong(inner, said[g])):
                    bad[g] = wrong
                    # Of steps a lie tells as little as no answer does.
                    missed = missed or not opening
            missed = missed or not sums
            good = {} if missed else {g: x for g, x in sums.items() if g not in bad}
            if opening and not good:
                losses = [x.loss for x in sums.values() if not isinstance(x, Lost)]
                info = Info(sum(losses, 0.0) or state.lost, step=0.0)
                break
            try:
                ask = exchanges.send(good)
            except StopIteration as end:
                inner, info = end.value
                break
            opening = False
        doubts = self._doubts(doubts, session, bad)
        refuted = tuple(doubts) if len(doubts) == 1 else ()
        after = State(
            inner.theta,
            inner,
            state.seed,
            state.round + 1,
            None if doubted else session,
            summing.sizes,
            # Where nobody told of the steps, it may be since sites refuse near a point.
            torch.full_like(sets, -1) if missed else sets,
            _integers([] if refuted else doubts),
            next(iter(bad.values()), ""),
            info.loss,
        )
        # What is true of a group is not of each of its clients.
        nobody: dict[str, Any] = {"losses": {}, "gradients": {}, "suspects": {}}
        return after, replace(info, **nobody, against=(), refuted=refuted)

    def evaluation(self, state: State, held_out: bool, terms: int = 0) -> Evaluation:
        """The sum of losses at theta, over the clients of the last sums."""
        session, known = yield from self._session(state, [])
        ask = Between(state.theta, terms) if held_out else At(state.theta)
        summing = Summing(self.method, len(state.theta), session, known, None)
        sums = yield from summing.ask(ask, state.theta)
        if not sums or any(isinstance(told, Lost) for told in sums.values()):
            return None
        if isinstance(ask, At):
            return [sum(told.loss for told in sums.values())]
        parts = [
            [*(getattr(told, name) for name in HeldOut._fields), *_listed(told.terms)]
            for told in sums.values()
        ]
        return [sum(column) for column in zip(*parts, strict=True)]

    def _session(
        self, state: State, doubted: list[int]
    ) -> Generator[Record, Answers, tuple[Mapping[str, Members], bool]]:
        """That which goes on, or a new one; and whether the clients know of it."""
        if state.session is None or doubted:
            return (yield from self._gathered(state, doubted)), False
        return state.session, True

    def _gathered(
        self, state: State, doubted: list[int]
    ) -> Generator[Record, Answers, dict[str, Members]]:
        """New keys of all who are there, in groups.

        Raises:
            Inconsistent: If a client lies and they are too few for groups.
        """
        adverts = yield Keys()
        members, count = sorted(adverts), self.count
        if doubted:
            count = len(members) // FEWEST
            if count < 2:
                raise Inconsistent(
                    f"The sum over {len(members)} clients breaks a law that every sum "
                    f"of honest answers obeys: {state.why}. Who lies is found where "
                    f"they are {2 * FEWEST} or more, in two groups. Run without secure "
                    "sums, where each answer is checked by itself, or look at the "
                    "clients' data and versions."
                )
            random = generator(state.seed, state.round, -3)
            first = [m for m in members if m in doubted]
            others = [m for m in members if m not in doubted]
            members = [
                of[i]
                for of in (first, others)
                for i in torch.randperm(len(of), generator=random).tolist()
            ]
        return {
            str(g): Members.of({m: adverts[m] for m in of})
            for g, of in enumerate(dealt(members, count))
        }

    def _doubts(
        self, doubted: list[int], session: Mapping[str, Members], bad: Mapping[int, str]
    ) -> list[int]:
        """Who may lie: those in all bad groups, of this round and of earlier ones."""
        for g in sorted(bad):
            members = session[str(g)].numbers.tolist()
            doubted = [m for m in members if m in doubted] or members
        return doubted

    def _sets(self, session: Mapping[str, Members]) -> Tensor:
        """The group of each client, -1 for none."""
        assert self.problem is not None
        sets = [-1] * self.problem.clients
        for g, members in session.items():
            for m in members.numbers.tolist():
                sets[m] = int(g)
        return _integers(sets)

    def _moved(self, state: State, sets: Tensor) -> Any:  # noqa: ANN401
        """The method's state, away from where sums over other sets were told."""
        if state.sets is None or state.sets.tolist() == sets.tolist():
            return state.inner
        theta = state.theta
        word = int.from_bytes(keys.digest(repr(sets.tolist()).encode())[:4], "big")
        random = generator(state.seed, state.round, -4 - word)
        (direction,) = gaussian(1, len(theta), random, theta)
        length = STEP * NEAR * float(size(theta) / direction.norm())
        return self.method.moved(state.inner, theta + length * direction)

    def _wrong(self, inner: Any, said: Said) -> str:  # noqa: ANN401
        """What is wrong with a sum, which obeys the laws of clients; or nothing."""
        if isinstance(said[-1][1], Lost):
            return said[-1][1].why
        assert self.problem is not None
        return str(self.method.objection(self.problem, inner, -1, said) or "")

    def enough(self, ask: Record, answered: Collection[int]) -> bool | None:
        """For shares the threshold of each group; to a later sum none need answer.

        It must be over the same clients as the first one, or not be.
        """
        parts = ask.parts if isinstance(ask, Addressed) else {}
        opens = {int(m): part for m, part in parts.items() if isinstance(part, Open)}
        if opens:
            given = Counter(opens[m].group for m in answered)
            return all(given[part.group] >= part.need for part in opens.values())
        later = any(isinstance(part, Part) and part.later for part in parts.values())
        return True if later else None

    @property
    def client(self) -> Parts:
        """Keys, parts of sums, and shares; nothing that is not a sum."""
        return {Keys: self._key, Part: self._part, Open: self._open}

    def _seat(self, system: System) -> Seat:
        m = system.shard.client
        for seat in self.seats or ():
            if seat.number == m:
                return seat
        raise SiteError(
            f"Client {m} has no seat in secure sums: no identity of its own, or no "
            "list of those of the others."
        )

    def _key(
        self, system: System, ask: Keys, memory: Record | None
    ) -> tuple[Own, Record | None]:
        return Own.of(self._seat(system).advert()), memory

    def _part(
        self, system: System, ask: Part, memory: Memory | None
    ) -> tuple[Upload, Memory]:
        """What the method's client answers, under masks."""
        seat, inner, memory = self._seat(system), ask.ask, memory or Memory()
        if ask.members is not None:
            seat.join(ask.members.roster)
        parties = seat.begin(unpacked(ask.session))
        before, since = memory.inner, memory.asked
        if ask.again:
            before, since = memory.before, memory.asked_before
        if self.method.silent and type(inner) in OWN:
            seat.refuse("for losses without noise, which no privacy budget pays for")
        if not ask.later or type(inner) in OWN:
            since = None  # what is remembered of earlier rounds is each site's own
        earlier = b"" if since is None else unpacked(since)
        asked = since
        if type(inner) in OWN:
            answer, after = self._told(system, seat, inner), before
            points = Method.points(self, inner, before)
        else:
            answer, after = self.method.part(inner)(system, inner, before)
            points = self.method.points(inner, before or after)
            answer = self.method.summand(inner, answer)
            asked = packed(digest(inner, earlier))
        size = points.shape[1]
        layout = Layout.of(expected(self.method, inner, size))
        noise = self.method.noise(inner, size)
        if not all(
            bool((std > 0).all() & std.isfinite().all()) for std in noise.values()
        ):
            seat.refuse("for a sum whose noise is none, or not finite")
        fractions = layout.fractions({}, noise)
        for i, each in enumerate(layout.parts):
            if each.name not in noise:
                fractions[i] = int(ask.fractions[i])
        added = layout.noise(noise, parties, seat.normal)
        numbers = layout.packed(answer, fractions, parties, added)
        name = unpacked(ask.sum)
        weights = repr([row.weight for row in system.shard.rows]).encode()
        about = digest(replace(ask, members=None), earlier, weights)
        budget = self.method.budget if noise else None
        part = seat.masked(name, about, numbers, points, *(budget or ()))
        return Upload.of(part), Memory(after, before, asked, since)

    def _told(self, system: System, seat: Seat, ask: Record) -> Record:
        """Losses at the model; by term only where everybody has rows of each.

        Each client sees to it of itself: of a term of which two clients have rows the
        sum over all is that of two.
        """
        if isinstance(ask, At):
            return Loss(system.loss(ask.theta))
        assert isinstance(ask, Between)
        rows = system.shard.rows
        if ask.terms and not all(len(of.points) for of in rows):
            seat.refuse("for the loss of each term, of which it has not all")
        held_out, terms = Fresh(system).breakdown(ask.theta)
        apart = torch.tensor(terms, dtype=torch.float64, device="cpu")
        return Losses(*held_out, apart if ask.terms else None)

    def _open(
        self, system: System, ask: Open, memory: Record | None
    ) -> tuple[Shares, Record | None]:
        name, letters = unpacked(ask.sum), rows(ask.letters)
        return Shares(stacked(self._seat(system).opened(name, letters))), memory

    def expects(self, ask: Record, size: int) -> Expected:
        """Numbers and bytes of their lengths."""
        part = next(iter(ask.parts.values())) if isinstance(ask, Addressed) else ask
        if isinstance(part, Keys):
            lengths = {"public": keys.KEY, "signature": keys.SIGNATURE}
            fields = {name: _bytes(length) for name, length in lengths.items()}
            return Expected(Own, {"count": Field(least=1), **fields})
        if isinstance(part, Open):
            return Expected(Shares, {"shares": _bytes("clients", shamir.SHARE)})
        assert isinstance(part, Part)
        count = Layout.of(expected(self.method, part.ask, size)).length
        fields = {
            "numbers": Field((count, 2), dtype=torch.int64),
            "letters": _bytes("clients", LETTER),
            "proof": _bytes(keys.KEY),
        }
        return Expected(Upload, fields)

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """None: of one client nothing can be read."""
        return None


def _listed(terms: Tensor | None) -> list[float]:
    return [] if terms is None else terms.tolist()


def _bytes(*shape: int | str) -> Field:
    return Field(shape, dtype=torch.uint8, most=MOST)


def _integers(of: list[int]) -> Tensor:
    return torch.tensor(of, dtype=torch.int32, device="cpu")
