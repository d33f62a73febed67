"""Who takes part in a round: the rules, and what a federation remembers of clients."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from fedsciml.methods import Record


@dataclass(frozen=True)
class Rules:
    """Which rounds count.

    Args:
        min_clients: Fewest clients whose uploads make a round; all if not given.
        deadline: Seconds that the clients have for an exchange; None for no limit.
        patience: Seconds for which a round is tried again when fewer than
            ``min_clients`` take part, before the run ends.
        outlier: Largest norm of a client's sketch, target or update over what is usual,
            in the round and for the client; by default none is too large. Norms have
            units: a client with sensors may have rows a million times those of one
            without, so this is for clients that are alike.
        drop_suspects: Whether a client whose data seem to contradict the others' is
            dropped too, if that is seen twice where the loss stands still; by default
            that is told only, as an honest client stands out likewise where the
            solution is hardest.
        staleness: For so many rounds an absent client's last sketch stands in for it,
            in methods that can; 0 for none.

    Raises:
        ValueError: If a number is out of range.
    """

    min_clients: int | None = None
    deadline: float | None = None
    patience: float = 0.0
    outlier: float = math.inf
    staleness: int = 0
    drop_suspects: bool = False

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


STRIKES = 2
"""Rounds of answers that contradict each other after which a client is shut out."""


class TooFewClients(RuntimeError):
    """A round that fewer clients than ``Rules.min_clients`` answered in time."""


class Heard(NamedTuple):
    """What a client sent last, where it may have to stand in for the client.

    Attributes:
        last: As the method remembers it.
        round: When.
    """

    last: Record
    round: int


class Participation(NamedTuple):
    """Who took part in the last round: what a federation continues from.

    Attributes:
        members: Clients whose answers, or whose stand-ins', were merged.
        stale: Those of them for whom a stand-in answered.
        heard: By client, what may have to stand in for it.
        norms: What is usual, see ``admission.usual``.
        strikes: By client, the rounds in which its answers were ``Inconsistent``, or
            with ``drop_suspects`` contradicted the others'.
    """

    members: list[int]
    stale: list[int]
    heard: dict[int, Heard]
    norms: dict[str, float]
    strikes: dict[int, list[int]]

    @property
    def shut_out(self) -> list[int]:
        """Clients that are asked no more: those of ``STRIKES`` strikes."""
        return [m for m, rounds in self.strikes.items() if len(rounds) >= STRIKES]
