"""A federation whose clients may fail: who takes part in a round, and what is merged.

An upload that is missing, late or cannot be merged (see ``admission``) is dropped, and
its client with it for the round; the round goes on with the others. A method whose
server compares losses over the rounds cannot compare those of different clients: where
clients left or came, it begins the round again from what still holds, its ``renewed``
state. So with a client gone the server solves the least-squares problem of the others,
and with all of them back, that of the whole.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import getLogger
from typing import NamedTuple, TypeVar

from torch import Tensor

from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.federation.backend import Backend
from fedsciml.methods import (
    Info,
    Message,
    Method,
    Standing,
    State,
    compares,
    objection,
    renewed,
)
from fedsciml.problem import Problem

log = getLogger(__name__)

Found = TypeVar("Found")

RETRY = 1.0
"""Seconds between two attempts at a round that too few clients answer."""

LONGEST = 500
"""Letters of what is told of a client."""


@dataclass(frozen=True)
class Rules:
    """Which rounds count.

    Args:
        min_clients: Fewest clients whose uploads make a round; None stands for all.
        deadline: Seconds that the clients have for an exchange; None for no limit.
        patience: Seconds for which a round is tried again when fewer than
            ``min_clients`` take part, before the run ends.
        outlier: Largest norm of a client's sketch, target or update over what is usual,
            see ``admission.usual``. Of honest clients at most 56 was measured with
            FIPA, 108 with any method (docs/stragglers.md); a sketch scaled by 1000 may
            stay below 1000, where the client's own is smaller than is usual.
        staleness: For so many rounds an absent client's last sketch stands in for it,
            in methods that can; 0 for none.

    Raises:
        ValueError: If a number is out of range.
    """

    min_clients: int | None = None
    deadline: float | None = None
    patience: float = 0.0
    outlier: float = 500.0
    staleness: int = 0

    def __post_init__(self) -> None:
        if self.min_clients is not None and self.min_clients < 1:
            raise ValueError(
                f"A round needs at least 1 client, got min_clients {self.min_clients}."
            )
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(
                f"The deadline of an exchange must be positive, got {self.deadline} s."
            )
        for name in ("patience", "staleness"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"The {name} must be at least 0, got {value}.")
        if not self.outlier > 1:
            raise ValueError(
                "Uploads are refused from a ratio outlier above 1 on, got "
                f"{self.outlier}; inf lets pass all."
            )


class TooFewClients(RuntimeError):
    """A round that fewer clients than ``Rules.min_clients`` answered in time."""


class Roll(NamedTuple):
    """Who took part in the last round: what a federation continues from.

    Attributes:
        members: Clients whose uploads, or whose stand-ins', were merged.
        stale: Those of them for whom a stand-in answered.
        last: What each client sent last, where it may have to stand in for the client.
        norms: What is usual, see ``admission.usual``.
    """

    members: list[int]
    stale: list[int]
    last: list[State]
    norms: dict[str, float]


class Federation:
    """The clients of a problem behind a backend, under the rules.

    Args:
        problem: What is trained.
        method: What is run.
        backend: Door to the clients.
        rules: Which rounds count.
        clock: Seconds.
        sleep: Waits so many seconds.

    Attributes:
        roll: Who took part in the last round; None before the first.
        dropped: Why clients that were asked in the current round are not in it.
        stale: Rounds since a client was heard of for whom another answered.

    Raises:
        ValueError: If the rules do not suit the method or the number of clients.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        backend: Backend,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.method, self.backend, self.rules = method, backend, rules or Rules()
        self.roll: Roll | None = None
        self.dropped: dict[int, Exception] = {}
        self.stale: dict[int, int] = {}
        self._problem, self._label = problem, f"{method.name} on {problem.name}"
        self._clock, self._sleep = clock, sleep
        self._last: list[State] = []
        self._norms: dict[str, float] = {}
        # A client without rows has nothing to say, and an average no weight for it.
        self._clients = [m for m, share in enumerate(backend.shares) if share > 0]
        clients = len(self._clients)
        self.need = self.rules.min_clients or clients
        if self.need > clients:
            raise ValueError(
                f"A round of {self.need} clients was asked for, but {clients} have "
                "rows; give a smaller number of least clients."
            )
        if self.rules.staleness and self.need == clients:
            raise ValueError(
                f"With staleness {self.rules.staleness} a sketch stands in for an "
                f"absent client, but all {clients} are needed; allow fewer, or leave "
                "staleness out."
            )
        if self.rules.staleness and not isinstance(method, Standing):
            raise ValueError(
                f"Method {method.name} as it is here cannot stand in for an absent "
                "client; leave out staleness, or take fipa alone: not compressed, "
                "balanced, resampled or warmed up."
            )

    def advance(
        self, state: State, broadcast: Message, number: int
    ) -> tuple[State, Message, Info]:
        """Round ``number``: exchanges until the server has taken its step.

        Returns:
            The state after it, the next round's broadcast, and what the round was.

        Raises:
            TooFewClients: If ``min_clients`` are not there within ``patience``.
            Exception: Where all clients are needed and one fails, what it raised.
        """
        return self._patiently(lambda: self._round(state, broadcast, number), number)

    def loss(self, theta: Tensor, number: int) -> float:
        """Loss at theta after round ``number``, summed over the clients that answer.

        Raises:
            Exception: As ``advance``.
        """

        def found() -> float | None:
            here, known = self._here(number), list[float]()
            answers = self.backend.losses(theta, here, self.rules.deadline)
            for m, answer in answers.items():
                if isinstance(answer, Exception):
                    self.dropped[m] = answer
                elif not (math.isfinite(answer) and answer >= 0):
                    wrong = f"its loss at the end is {answer}"
                    self._drop(m, FloatingPointError(wrong), number)
                else:
                    known.append(answer)
            return sum(known) if len(known) >= self.need else None

        return self._patiently(found, number)

    def reasons(self) -> dict[str, str]:
        """Why clients were dropped, by their numbers, in a line each of bounded length.

        What a client says of itself can be anything.
        """
        lines = {m: " ".join(str(e).split()) for m, e in self.dropped.items()}
        return {str(m): line[:LONGEST] for m, line in lines.items()}

    def _patiently(self, attempt: Callable[[], Found | None], number: int) -> Found:
        """What an attempt finds, tried again for as long as patience lasts."""
        until, first = self._clock() + self.rules.patience, dict[int, Exception]()
        while (found := attempt()) is None:
            if self.rules.patience and not first:
                told = "; ".join(f"client {m}: {e}" for m, e in self.reasons().items())
                log.warning("Round %d waits for clients; %s", number, told)
            # That a client which failed is not there in the next attempt says less.
            first = self.dropped | first
            if self._clock() >= until:
                self.dropped = first
                raise self._failure(number)
            self._sleep(RETRY)
        return found

    def _here(self, number: int) -> list[int]:
        """Clients that can be asked; the others are dropped."""
        there = self.backend.here(number)
        self.dropped = {
            m: ConnectionError(f"Client {m} is not there in round {number}.")
            for m in self._clients
            if m not in there
        }
        return [m for m in self._clients if m in there]

    def _round(
        self, state: State, broadcast: Message, number: int
    ) -> tuple[State, Message, Info] | None:
        """The round with whoever is there; None if they are too few."""
        before, roll = list(self.backend.memories), self.roll
        here, self.stale = self._here(number), {}
        self._last = list(roll.last) if roll else [{} for _ in before]
        self._norms = roll.norms if roll else {}
        members = [
            m for m in self._clients if m in here or self._can_stand_in(m, number)
        ]
        attempt, fresh = (state, broadcast), roll is None
        if roll and not set(roll.members) <= set(members) and compares(self.method):
            attempt, fresh = renewed(self.method, state, broadcast), True
        while len([m for m in members if m in here]) >= self.need:
            self.stale = {m: self._age(m, number) for m in members if m not in here}
            found, members = self._attempt(*attempt, members, fresh, number)
            here = [m for m in members if m not in self.stale]
            if found is not None:
                after = self.backend.memories
                # Of the others nothing was merged: they go on from what they were.
                heard = {*here, *(m for m, age in self.stale.items() if age == 0)}
                self.backend.memories = [
                    after[m] if m in heard else before[m] for m in range(len(before))
                ]
                stale = sorted(self.stale)
                self.roll = Roll(members, stale, self._last, self._norms)
                return found
            self.backend.memories = list(before)
            fresh = not self._comparable(members)
            attempt = (state, broadcast)
            if fresh:
                attempt = renewed(self.method, state, broadcast)
        return None

    def _comparable(self, members: list[int]) -> bool:
        """Whether losses of these clients can be compared with those of before.

        Not where a client is back: what its stand-in told is not true of it.
        """
        if self.roll is None or members != self.roll.members:
            return False
        return set(self.roll.stale) <= set(self.stale)

    def _attempt(
        self,
        state: State,
        broadcast: Message,
        members: list[int],
        fresh: bool,
        number: int,
    ) -> tuple[tuple[State, Message, Info] | None, list[int]]:
        """The exchanges of a round, and the members left; None if it must begin again.

        A ``fresh`` state knows no losses of before.
        """
        sizes: list[dict[str, int]] = [{} for _ in self.backend.shares]
        fresh |= not compares(self.method)
        opening, info = True, None
        while info is None:
            uploads = self._exchange(state, broadcast, members, sizes, number)
            left = list(uploads)
            agree = fresh or self._comparable(left) if opening else left == members
            if not agree or len(left) - len(self.stale) < self.need:
                return None, left
            members, opening = left, False
            state, broadcast, info = self.method.server(state, list(uploads.values()))
        return (state, broadcast, info), members

    def _exchange(
        self,
        state: State,
        broadcast: Message,
        members: list[int],
        sizes: list[dict[str, int]],
        number: int,
    ) -> dict[int, Message]:
        """What is merged, by client, in their order."""
        asked = [m for m in members if m not in self.stale]
        rules, theta = self.rules, state["theta"]
        expected = self.method.expects(broadcast, len(theta))
        answers = self.backend.ask(broadcast, asked, number, rules.deadline)
        uploads: dict[int, Message] = {}
        for m, answer in answers.items():
            if isinstance(answer, Exception):
                self.dropped[m] = answer
                continue
            wrong = (
                refusal(answer, expected, sizes[m], theta)
                or self._untrue(m, answer)
                or objection(self.method, self._problem, state, {**answer, "client": m})
            )
            if wrong is None:
                uploads[m] = answer
            else:
                self._drop(m, wrong, number)
        if not self.method.pooled:
            came = [a for a in answers.values() if not isinstance(a, Exception)]
            self.backend.traffic = self.backend.traffic.plus(
                broadcast, len(asked), came
            )
        self._norms = usual(uploads, expected, self._norms)
        for m, wrong in outliers(uploads, self._norms, rules.outlier).items():
            self._drop(m, wrong, number)
            del uploads[m]
        if rules.staleness:
            if "theta" in broadcast:
                heard = {"theta": broadcast["theta"], "heard": number}
                for m, upload in uploads.items():
                    self._last[m] = {**upload, **heard}
            uploads |= self._stood_in(broadcast, members, uploads, number)
        return {m: {**uploads[m], "client": m} for m in sorted(uploads)}

    def _stood_in(
        self,
        broadcast: Message,
        members: list[int],
        uploads: Mapping[int, Message],
        number: int,
    ) -> dict[int, Message]:
        """Uploads in the stead of members from whom there is none."""
        assert isinstance(self.method, Standing)
        found: dict[int, Message] = {}
        for m in members:
            if m in uploads or not self._can_stand_in(m, number):
                continue
            self.stale[m] = self._age(m, number)
            heard = self._last[m]["heard"]
            found[m], last = self.method.stand_in(broadcast, self._last[m])
            self._last[m] = {**last, "heard": heard}
        return found

    def _can_stand_in(self, m: int, number: int) -> bool:
        return bool(self._last[m]) and self._age(m, number) <= self.rules.staleness

    def _age(self, m: int, number: int) -> int:
        return number - int(self._last[m]["heard"])

    def _untrue(self, m: int, upload: Message) -> Exception | None:
        """What a client says of itself must be what was agreed before."""
        share = self.backend.shares[m]
        if upload.get("share", share) != share:
            return ValueError(
                f"it says that it holds {upload['share']} of all rows, not {share:.4g}"
            )
        return None

    def _drop(self, m: int, wrong: Exception, number: int) -> None:
        advice = (
            " Try a smaller learning rate or step, or more damping."
            if isinstance(wrong, FloatingPointError)
            else ""
        )
        self.dropped[m] = type(wrong)(
            f"In round {number} of {self._label} the upload of client {m} cannot be "
            f"merged: {wrong}.{advice}"
        )

    def _failure(self, number: int) -> Exception:
        """Why the round cannot be."""
        clients = len(self._clients)
        if self.need == clients:
            m, error = next(iter(self.dropped.items()))
            error.add_note(
                f"Raised by client {m} in round {number} of {self._label} (backend "
                f"{self.backend.name})."
            )
            return error
        reasons = [
            f"Client {m}: {type(self.dropped[int(m)]).__name__}: {told}"
            for m, told in self.reasons().items()
        ]
        return TooFewClients(
            f"Round {number} of {self._label} needs {self.need} of {clients} clients, "
            f"{clients - len(self.dropped)} are left. {'; '.join(reasons)}. Mend them "
            "and resume the run, or allow fewer clients."
        )
