"""What happens between an ask and its answers, in a federation whose clients may fail.

    ask           whoever is there
    admit         drop what is missing, late or cannot be merged (see ``admission``)
    count         the bytes that crossed
    remember      what clients keep; what may have to stand in for them
    stand in      for members that are absent
    begin again   where the set of clients changed
    count in      clients whose points nobody knew before

A method whose server compares losses over the rounds cannot compare those of different
clients: where clients left or came, it begins the round again from what still holds,
its ``renewed`` state. So with a client gone the server solves the least-squares problem
of the others, and with all of them back, that of the whole.

The weights of rows come from how many points all clients have. A client of which that
is known may come at any time. With one of which it is not known they change: losses,
gradients and what clients remember of them are not those of before, so that from then
on the run is, bit for bit, one that starts at the model of the last round.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from typing import NamedTuple, TypeVar

from torch import Tensor

from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.federation.backend import Clients
from fedsciml.federation.checkpoint import Checkpoint
from fedsciml.federation.participation import (
    STRIKES,
    Heard,
    Participation,
    Rules,
    TooFewClients,
)
from fedsciml.federation.traffic import Traffic
from fedsciml.methods import (
    EARLY,
    Inconsistent,
    Info,
    Method,
    Opening,
    Record,
    State,
    payload,
    reaches,
)
from fedsciml.problem import Problem
from fedsciml.problem.outward import line
from fedsciml.residual.held_out import Breakdown, HeldOut
from fedsciml.residual.smoothness import check_smooth

log = getLogger(__name__)

T = TypeVar("T")

RETRY = 1.0
"""Seconds between two attempts at a round that too few clients answer."""

LONGEST = 500
"""Letters of what is told of a client."""


class Spent(RuntimeError):
    """There can be no further round: what it would tell is not paid for.

    Args:
        why: In a sentence.
        since: What the run ends with.
    """

    def __init__(self, why: str, since: Checkpoint) -> None:
        super().__init__(why)
        self.since = since


class Done(NamedTuple):
    """A round that is done.

    Attributes:
        checkpoint: What the next round continues from; its seconds are those of before.
        info: What the round was.
        dropped: Why clients are not in it, by their numbers, in a line each.
        stale: Clients whose last sketch stood in for them, and its age in rounds.
        joined: Points of each term of clients that were not counted before.
    """

    checkpoint: Checkpoint
    info: Info
    dropped: dict[str, str]
    stale: dict[int, int]
    joined: dict[int, Sequence[int]]


@dataclass(frozen=True)
class Federation:
    """The clients of a problem under a method and rules.

    Args:
        problem: What is trained.
        method: What is run.
        clients: Connected for both.
        rules: Which rounds count.
        clock: Seconds.
        sleep: Waits so many seconds.
        seed: Of the run, for where it starts again.

    Raises:
        ValueError: If the rules do not suit the method or the number of clients, or
            the network has kinks where a residual reads second derivatives.
    """

    problem: Problem
    method: Method
    clients: Clients
    rules: Rules = field(default_factory=Rules)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    seed: int = 0

    def __post_init__(self) -> None:
        check_smooth(self.problem)
        clients, staleness = len(self.holders), self.rules.staleness
        least, given = self.method.least, self.rules.min_clients
        if given is not None and given < least:
            raise ValueError(
                f"Secure sums need {least} clients in every round, 3 in each group; "
                f"got min_clients {given}. Give {least} or more, or fewer groups."
            )
        if self.need > clients:
            raise ValueError(
                f"A round of {self.need} clients was asked for, but {clients} have "
                "rows; give a smaller number of least clients."
            )
        if staleness and self.need == clients:
            raise ValueError(
                f"With staleness {staleness} a sketch stands in for an absent client, "
                f"but all {clients} are needed; allow fewer, or leave staleness out."
            )
        blind = self.rules.outlier < math.inf or self.rules.drop_suspects
        if blind and self.method.sums_only:
            raise ValueError(
                "Of secure sums no client's upload is seen, so that none can be held "
                "against the others': leave out outlier and drop_suspects."
            )
        if staleness and not self.method.stands_in:
            raise ValueError(
                f"Method {self.method.name} as it is here cannot stand in for an "
                "absent client; leave out staleness, or take fipa alone: not "
                "compressed, balanced, resampled or warmed up, and without parameters "
                "of each client's own."
            )

    @property
    def holders(self) -> list[int]:
        """Clients that have rows.

        Others have nothing to say, and an average no weight for them.
        """
        return [m for m, share in enumerate(self.clients.shares) if share > 0]

    @property
    def terms(self) -> dict[int, list[int]]:
        """By term, the clients that hold rows of it."""
        return {
            t: [m for m, of in enumerate(self.clients.counts) if of[t]]
            for t in range(len(self.problem.terms))
        }

    @property
    def need(self) -> int:
        """Fewest clients of a round."""
        return max(self.rules.min_clients or len(self.holders), self.method.least)

    def start(self, theta: Tensor, seed: int) -> Checkpoint:
        """Before the first round."""
        memories: list[Record | None] = [None] * len(self.clients.shares)
        return Checkpoint(0, self.method.start(theta, seed), memories)

    def restarted(self, since: Checkpoint) -> Checkpoint:
        """Before a first round, at the model that there is."""
        theta, done = since.state.theta, since.round
        begun = self.start(theta, self.seed)
        return begun._replace(round=done, traffic=since.traffic, seconds=since.seconds)

    def advance(self, since: Checkpoint) -> Done:
        """The next round: exchanges until the server has taken its step.

        Raises:
            TooFewClients: If ``min_clients`` are not there within ``patience``.
            Spent: If the method's budget of privacy is spent.
            FloatingPointError: If theta or the loss is not finite.
            Exception: Where all clients are needed and one fails, what it raised.
        """
        outcome = _Conversation(self, since).outcome()
        theta = outcome.checkpoint.state.theta
        self.check(outcome.checkpoint.round, outcome.info.loss, theta)
        return outcome

    def loss(self, since: Checkpoint) -> tuple[float | None, dict[str, str]]:
        """Loss of the model after a round, and why clients are not in the sum.

        None where it is only told as a sum, and a client of the last one is gone.

        Raises:
            Exception: As ``advance``.
        """
        asking = _Asking(self, since)
        if self.method.sums_only:
            told = asking.evaluated()
            return told[0] if told else None, asking.reasons()
        if self.method.evaluates:
            return asking.patiently(asking.evaluated)[0], asking.reasons()
        found = asking.patiently(lambda: asking.loss(since.state.theta))
        return found, asking.reasons()

    def breakdown(self, since: Checkpoint) -> tuple[Breakdown | None, Traffic]:
        """The model's loss in parts, and what crossed to know them.

        None if a client that is needed does not tell, or tells what cannot be: no round
        fails or waits for this. Without terms if another that is there does not: they
        would not add up to the loss. In secure sums without terms where a client has no
        rows of one: what the others tell of it could be of a single one.
        """
        terms = len(self.problem.terms)
        if self.method.evaluates:
            asking, everybody = _Asking(self, since), self.holders
            apart = not self.method.sums_only or all(
                of == everybody for of in self.terms.values()
            )
            sums = asking.evaluated(True, terms if apart else 0)
            n = len(HeldOut._fields)
            found = Breakdown(HeldOut(*sums[:n]), tuple(sums[n:])) if sums else None
            if found and not asking.whole:
                found = found._replace(terms=())
            return found, asking.traffic
        asked, theta = _Asking(self, since).here(), since.state.theta
        answers = self.clients.breakdown(theta, asked, self.rules.deadline)
        known = [
            told
            for told in answers.values()
            if isinstance(told, Breakdown) and told.told(terms)
        ]
        traffic = Traffic()
        if not self.method.pooled:
            down = len(asked) * payload(Opening(theta))
            up = 8 * (len(HeldOut._fields) + terms) * len(known)
            traffic = Traffic(up, down, len(asked) + len(known))
        if len(known) < self.need:
            return None, traffic
        found = Breakdown.total(known)
        return found if len(known) == len(asked) else found._replace(terms=()), traffic

    def personal(self, since: Checkpoint) -> dict[int, Tensor]:
        """Parameters of the clients' own at the model, [p_f], where they are here.

        Of a centralised method those of all clients.
        """
        found = dict[int, Tensor]()
        for m, system in self.clients.systems_here().items():
            own = self.method.own(system, since.state, since.memories[m])
            if own is not None:
                found |= dict(enumerate(own)) if self.method.pooled else {m: own[0]}
        return found

    def check(self, number: int, loss: float, theta: Tensor) -> None:
        """Refuse to go on with, or to end at, what is not finite.

        Raises:
            FloatingPointError: If theta or the loss is not finite.
        """
        finite = bool(theta.isfinite().all())
        if not (finite and math.isfinite(loss)):
            raise FloatingPointError(
                f"In round {number} of {self.method.name} on {self.problem.name} the "
                f"loss is {loss:.3e}, theta {'finite' if finite else 'not finite'} "
                "after it. Try a smaller learning rate or step, or more damping."
            )


class _Asking:
    """Asking clients, who may be absent.

    Attributes:
        dropped: Why clients are not in what is asked now.
        strikes: As in ``Participation``.
        memories: The clients', as far as this attempt has come.
        traffic: Of all attempts.
        whole: Whether all who were last asked for losses answered.
    """

    def __init__(
        self, federation: Federation, since: Checkpoint, number: int | None = None
    ) -> None:
        last, self.since = since.participation, since
        self.memories, self.traffic = list(since.memories), Traffic()
        known = last.strikes if last else {}
        self.strikes = {m: list(rounds) for m, rounds in known.items()}
        self.shut_out = last.shut_out if last else []
        self.federation = federation
        self.number = since.round if number is None else number
        self.method, self.rules = federation.method, federation.rules
        self.clients, self.need = federation.clients, federation.need
        self.label = f"{self.method.name} on {federation.problem.name}"
        self.dropped: dict[int, Exception] = {}
        self.whole = True

    def patiently(self, attempt: Callable[[], T | None]) -> T:
        """What an attempt finds, tried again for as long as patience lasts."""
        clock, sleep = self.federation.clock, self.federation.sleep
        until, first = clock() + self.rules.patience, dict[int, Exception]()
        while (found := attempt()) is None:
            if self.rules.patience and not first:
                told = "; ".join(f"client {m}: {e}" for m, e in self.reasons().items())
                log.warning("Round %d waits for clients; %s", self.number, told)
            # That a client which failed is not there in the next attempt says less.
            first = self.dropped | first
            if clock() >= until:
                self.dropped = first
                raise self._failure()
            sleep(RETRY)
        return found

    def here(self) -> list[int]:
        """Clients that can be asked; the others are dropped."""
        there, holders = self.clients.here(self.number), self.federation.holders
        self.dropped = {
            m: ConnectionError(f"Client {m} is not there in round {self.number}.")
            for m in holders
            if m not in there
        }
        for m in self.shut_out:
            rounds = sorted(set(self.strikes[m]))
            word = "round" if len(rounds) == 1 else "rounds"
            self.dropped[m] = Inconsistent(
                f"Client {m} is asked no more: its answers contradicted each other, or "
                f"the other clients', in {word} {' and '.join(map(str, rounds))}. To "
                "go on without it allow fewer clients (min_clients)."
            )
        for m, why in self.clients.uncounted.items():
            self.dropped[m] = ConnectionError(why)
        return [m for m in holders if m not in self.dropped]

    def loss(self, theta: Tensor) -> float | None:
        """Loss at theta, summed over those who answer; None if they are too few."""
        here, known = self.here(), list[float]()
        answers = self.clients.losses(theta, here, self.rules.deadline)
        for m, answer in answers.items():
            if isinstance(answer, Exception):
                self.dropped[m] = answer
            elif not (math.isfinite(answer) and answer >= 0):
                self.drop(m, FloatingPointError(f"its loss at the end is {answer}"))
            else:
                known.append(answer)
        return sum(known) if len(known) >= self.need else None

    def evaluated(self, held_out: bool = False, terms: int = 0) -> list[float] | None:
        """Sums of losses at the model, over those who answer; None if they are too few.

        Of what is told as sums alone also where one who was asked does not answer.
        """
        state, members = self.since.state, self.here()
        exchanges = self.method.evaluation(state, held_out, terms)
        sizes: dict[int, dict[str, int]] = {m: {} for m in members}
        try:
            ask = next(exchanges)
            while True:
                came = self.came(ask, state, members, sizes)
                self.whole = len(came) == sum(reaches(ask, m) for m in members)
                few = len(came) < self.need and not self.method.sums_only
                if few or not (self.whole or self.method.enough(ask, came)):
                    return None
                ask = exchanges.send(came)
        except StopIteration as end:
            found: list[float] | None = end.value
            return found

    def came(
        self,
        ask: Record,
        state: State,
        members: Sequence[int],
        sizes: Mapping[int, dict[str, int]],
    ) -> dict[int, Record]:
        """What members answer, as far as it is what the method expects.

        The others are dropped.
        """
        asked = {m: self.memories[m] for m in members if reaches(ask, m)}
        for m in members:
            if m not in asked:
                self.dropped[m] = ConnectionError(
                    f"Client {m} was not there when this began."
                )
        expected = self.method.expects(ask, len(state.theta))
        replies = self.clients.ask(ask, asked, self.number, self.rules.deadline)
        came: dict[int, Record] = {}
        found: dict[int, Record] = {}
        for m, reply in replies.items():
            if isinstance(reply, Exception):
                self.dropped[m] = reply
                continue
            came[m], self.memories[m] = reply
            share = self.clients.shares[m]
            wrong = refusal(came[m], expected, sizes[m], state.theta, share)
            if wrong is None:
                found[m] = came[m]
            else:
                self.drop(m, wrong)
        if not self.method.pooled:
            self.traffic = self.traffic.plus(ask, asked, came.values())
        return found

    def drop(self, m: int, wrong: Exception) -> None:
        """Leave the client out, and say why."""
        if isinstance(wrong, Inconsistent):
            rounds = self.strikes.setdefault(m, [])
            rounds += [self.number] * (self.number not in rounds)
        advice = (
            " Try a smaller learning rate or step, or more damping."
            if isinstance(wrong, FloatingPointError)
            else ""
        )
        self.dropped[m] = type(wrong)(
            f"In round {self.number} of {self.label} the upload of client {m} cannot "
            f"be merged: {wrong}.{advice}"
        )

    def reasons(self) -> dict[str, str]:
        """Why clients were dropped, by their numbers, in a line each of bounded length.

        What a client says of itself can be anything.
        """
        return {str(m): line(str(e), LONGEST) for m, e in self.dropped.items()}

    def _failure(self) -> Exception:
        """Why the round cannot be."""
        holders = self.federation.holders
        clients, gone = len(holders), [m for m in self.dropped if m in holders]
        if self.need == clients:
            m, error = gone[0], self.dropped[gone[0]]
            error.add_note(
                f"Raised by client {m} in round {self.number} of {self.label} (backend "
                f"{self.clients.name})."
            )
            return error
        reasons = [
            f"Client {m}: {type(self.dropped[int(m)]).__name__}: {told}"
            for m, told in self.reasons().items()
        ]
        return TooFewClients(
            f"Round {self.number} of {self.label} needs {self.need} of {clients} "
            f"clients, {clients - len(gone)} are left. {'; '.join(reasons)}. "
            "Mend them and resume the run, or allow fewer clients."
        )


class _Conversation(_Asking):
    """One round on its way.

    Attributes:
        stale: Rounds since a member was heard of for whom another answers.
        heard: What may have to stand in for a client.
        norms: What is usual.
        tried: Whether there was an attempt before.
        joined: Points of each term of clients that were not counted before.
    """

    def __init__(self, federation: Federation, since: Checkpoint) -> None:
        super().__init__(federation, since, since.round + 1)
        self.traffic = since.traffic
        self.stale: dict[int, int] = {}
        self.heard: dict[int, Heard] = {}
        self.norms: dict[str, float] = {}
        self.tried = False
        self.joined: dict[int, Sequence[int]] = {}

    def outcome(self) -> Done:
        """The round, as soon as enough clients are there."""
        return self.patiently(self._with_whoever_is_here)

    def _with_whoever_is_here(self) -> Done | None:
        """The round; None if they are too few."""
        if joined := self.clients.joined(self.number):
            self.joined.update(joined)
            self.since = self.federation.restarted(self.since)
        since, before = self.since, self.since.participation
        here, self.stale = self.here(), {}
        self.heard = dict(before.heard) if before else {}
        self.norms = before.norms if before else {}
        holders = self.federation.holders
        members = [m for m in holders if m in here or self._can_stand_in(m)]
        if self.tried or before is None or members != before.members:
            since = since._replace(state=self.method.again(since.state))
            self.since = since
        state, fresh, self.tried = since.state, before is None, True
        if before and not set(before.members) <= set(members) and self.method.compares:
            state, fresh = self.method.renewed(state), True
        while len([m for m in members if m in here]) >= self.need:
            self.stale = {m: self._age(m) for m in members if m not in here}
            self.memories = list(since.memories)
            if spent := self.method.finished(state):
                raise Spent(spent, since)
            found, members = self._attempt(state, members, fresh)
            here = [m for m in members if m not in self.stale]
            if found is not None:
                return self._done(*found, members, here)
            since = since._replace(state=self.method.interrupted(since.state))
            fresh = not self._comparable(members)
            state = self.method.renewed(since.state) if fresh else since.state
            self.since = since
        return None

    def _done(
        self, state: State, info: Info, members: list[int], here: list[int]
    ) -> Done:
        """Of clients of whom nothing was merged the memory stays what it was."""
        merged = {*here, *(m for m, age in self.stale.items() if age == 0)}
        memories = [
            after if m in merged else before
            for m, (before, after) in enumerate(
                zip(self.since.memories, self.memories, strict=True)
            )
        ]
        for m in info.refuted:
            self.strikes[m] = [self.number] * STRIKES
        if self.rules.drop_suspects and self.number > EARLY:
            for m in info.suspects.keys() - self.stale.keys():
                self.strikes.setdefault(m, []).append(self.number)
        stale = sorted(self.stale)
        checkpoint = Checkpoint(
            self.number,
            state,
            memories,
            self.traffic,
            self.since.seconds,
            Participation(members, stale, self.heard, self.norms, self.strikes),
        )
        return Done(checkpoint, info, self.reasons(), self.stale, self.joined)

    def _comparable(self, members: list[int]) -> bool:
        """Whether losses of these clients can be compared with those of before.

        Not where a client is back: what its stand-in told is not true of it.
        """
        before = self.since.participation
        if before is None or members != before.members:
            return False
        return set(before.stale) <= set(self.stale)

    def _attempt(
        self, state: State, members: list[int], fresh: bool
    ) -> tuple[tuple[State, Info] | None, list[int]]:
        """The exchanges of a round, and the members left; None if it must begin again.

        A ``fresh`` state knows no losses of before.
        """
        fresh |= not self.method.compares
        sizes: dict[int, dict[str, int]] = {m: {} for m in members}
        said: dict[int, list[tuple[Record, Record]]] = {m: [] for m in members}
        exchanges, opening = self.method.round(state), True
        ask = next(exchanges)
        while True:
            answers = self._exchange(ask, state, members, sizes, said)
            left, enough = list(answers), self.method.enough(ask, answers)
            if enough is None:
                agree = fresh or self._comparable(left) if opening else left == members
                if not agree or len(left) - len(self.stale) < self.need:
                    return None, left
                members, opening = left, False
            elif not enough:
                return None, left
            try:
                ask = exchanges.send(answers)
            except StopIteration as end:
                return end.value, members

    def _exchange(
        self,
        ask: Record,
        state: State,
        members: list[int],
        sizes: Mapping[int, dict[str, int]],
        said: Mapping[int, list[tuple[Record, Record]]],
    ) -> dict[int, Record]:
        """What is merged, by client, in their order."""
        there = [m for m in members if m not in self.stale]
        answers = self.came(ask, state, there, sizes)
        for m, answer in list(answers.items()):
            said[m].append((ask, answer))
            problem = self.federation.problem
            if wrong := self.method.objection(problem, state, m, said[m]):
                self.drop(m, wrong)
                del answers[m]
        if self.rules.outlier < math.inf:
            expected = self.method.expects(ask, len(state.theta))
            least = max(3, (len(self.federation.holders) + 1) // 2)
            self.norms = usual(answers, expected, self.norms, least)
            strange = outliers(answers, expected, self.norms, self.rules.outlier)
            for m, wrong in strange.items():
                self.drop(m, wrong)
                del answers[m]
        if self.rules.staleness:
            for m, answer in answers.items():
                last = self.method.remembered(ask, answer)
                if last is not None:
                    self.heard[m] = Heard(last, self.number)
            answers |= self._stood_in(ask, members, answers)
        return {m: answers[m] for m in sorted(answers)}

    def _stood_in(
        self, ask: Record, members: list[int], answers: Mapping[int, Record]
    ) -> dict[int, Record]:
        """Answers in the stead of members from whom there is none."""
        found: dict[int, Record] = {}
        for m in members:
            if m in answers or not self._can_stand_in(m):
                continue
            self.stale[m] = self._age(m)
            found[m], last = self.method.stand_in(ask, self.heard[m].last)
            self.heard[m] = self.heard[m]._replace(last=last)
        return found

    def _can_stand_in(self, m: int) -> bool:
        """Not for a client that was found to lie: its sketch may be the lie."""
        lied = m in self.shut_out or self.number in self.strikes.get(m, ())
        return m in self.heard and not lied and self._age(m) <= self.rules.staleness

    def _age(self, m: int) -> int:
        return self.number - self.heard[m].round
