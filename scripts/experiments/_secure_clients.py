"""Clients of secure sums that are killed in the middle of one, or lie in it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from experiments._absent import Away, Patchy
from fedsciml.federation.backend import Reply
from fedsciml.methods import Method, Record, addressed, payload
from fedsciml.methods._shared import Shared
from fedsciml.methods._summed import Sums
from fedsciml.problem import Problem
from fedsciml.wrappers._masked import Open, Own, Part, Shares, Upload
from fedsciml.wrappers.secure import Secure


@dataclass(frozen=True)
class Death:
    """Who dies when.

    Attributes:
        clients: Who.
        round: In which round.
        sum: In which sum of the round, after masking: 1 for the first.
        away: Rounds that they are away after this one.
    """

    clients: tuple[int, ...]
    round: int
    sum: int
    away: int


class Killed(Patchy):
    """Clients of which some die when their masked numbers are sent.

    Args:
        problem: Gives the shards.
        method: Secure sums.
        death: Who dies, and when.
    """

    def __init__(self, problem: Problem, method: Method, death: Death) -> None:
        last = death.round + death.away
        away: Away = {m: range(death.round + 1, last + 1) for m in death.clients}
        super().__init__(problem, method, away)
        self.death, self._sums = death, 0

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """The answers of those who live."""
        dead = set[int]()
        if number == self.death.round and memories:
            part = addressed(ask, next(iter(memories)))
            self._sums += isinstance(part, Part)
            gone = self._sums > self.death.sum or (
                self._sums == self.death.sum and isinstance(part, Open)
            )
            dead = memories.keys() & set(self.death.clients) if gone else dead
        living = {m: memory for m, memory in memories.items() if m not in dead}
        found = super().ask(ask, living, number, deadline)
        for m in dead:
            found[m] = ConnectionError(f"Client {m} is gone.")
        return {m: found[m] for m in memories}


Lie = Callable[[Sums], Sums]

LIES: dict[str, Lie] = {
    "-G": lambda told: replace(told, gramian=-told.gramian),
    "-t": lambda told: replace(told, target=-told.target),
    "loss 0": lambda told: replace(told, loss=0.0),
    "G and t times 20": lambda told: replace(
        told, gramian=20 * told.gramian, target=20 * told.target, loss=20 * told.loss
    ),
}
"""What a liar adds in place of its part of the first sum of a round."""


@dataclass(frozen=True)
class Lying(Shared):
    """FIPA of a client that lies in sums."""

    lie: Lie = LIES["-G"]

    def summand(self, ask: Record, answer: Any) -> Any:  # noqa: ANN401
        """What it adds."""
        return self.lie(answer) if isinstance(answer, Sums) else answer


class Liars(Patchy):
    """Clients of which one lies.

    Args:
        problem: Gives the shards.
        method: Secure sums.
        liar: Who lies.
        lie: What it does.
    """

    def __init__(self, problem: Problem, method: Method, liar: int, lie: Lie) -> None:
        super().__init__(problem, method, {})
        self.liar, self.lie = liar, lie

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """The answers; the liar's by a method of its own."""
        honest = self.method
        assert isinstance(honest, Secure)
        own = honest.method
        assert isinstance(own, Shared)
        kept = {f.name: getattr(own, f.name) for f in fields(own)}
        found: dict[int, Reply | Exception] = {}
        for m, memory in memories.items():
            lies = m == self.liar
            self.method = (
                replace(honest, method=Lying(**kept, lie=self.lie)) if lies else honest
            )
            found |= super().ask(ask, {m: memory}, number, deadline)
        self.method = honest
        return found


class Counted(Patchy):
    """Clients whose messages are weighed.

    Attributes:
        bytes: By round, of what is in the messages: "numbers" (of clients, masked or
            not), "letters" (shares of seeds, there and back), "keys" (with the lists of
            who adds up), "asks" (theta, candidates and names of sums).
        up: Bytes by round.
        down: The same.
    """

    def __init__(self, problem: Problem, method: Method) -> None:
        super().__init__(problem, method, {})
        self.bytes: dict[int, Counter[str]] = defaultdict(Counter)
        self.up: Counter[int] = Counter()
        self.down: Counter[int] = Counter()

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """The answers."""
        found = super().ask(ask, memories, number, deadline)
        for m, reply in found.items():
            assert isinstance(reply, Reply)
            asked = addressed(ask, m)
            self.down[number] += payload(asked)
            self.up[number] += payload(reply.answer)
            self.bytes[number] += weighed(asked, "asks")
            self.bytes[number] += weighed(reply.answer, "numbers")
        return found


def weighed(message: Record, other: str) -> Counter[str]:
    """Bytes of a message by what they are; ``other`` if it is none of secure sums."""
    whole = payload(message)
    if isinstance(message, Part):
        names = payload(message.members)
        return Counter(keys=names, asks=whole - names)
    if isinstance(message, Own):
        return Counter(keys=whole)
    if isinstance(message, Upload):
        numbers = payload(message.numbers)
        return Counter(numbers=numbers, letters=whole - numbers)
    if isinstance(message, (Open, Shares)):
        return Counter(letters=whole)
    return Counter({other: whole})
