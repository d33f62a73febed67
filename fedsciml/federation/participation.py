"""Who takes part in a round: the rules, and what a federation remembers of clients."""

from dataclasses import dataclass
from typing import NamedTuple

from fedsciml.methods import Record


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
    """

    members: list[int]
    stale: list[int]
    heard: dict[int, Heard]
    norms: dict[str, float]
