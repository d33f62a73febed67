"""Rank schedules: how many singular vectors a client sends in a round.

A schedule is a callable ``(singular_values [k] descending, context) -> rank`` and plain
data otherwise. Linear algebra alone; it knows no problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """What a client knows when it chooses its rank.

    Attributes:
        round: Round k, from 1.
        cutoff: Absolute singular value below which nothing matters in this round.
        gradient_norm: |g_m| of this client.
        total_gradient_norm: |sum_j g_j| over all clients, as last known.
    """

    round: int = 1
    cutoff: float = 0.0
    gradient_norm: float = 0.0
    total_gradient_norm: float = 0.0


Schedule = Callable[[Tensor, Context], int]
"""Maps singular values [k], descending, and the context to a rank in 0 ... k."""


@dataclass(frozen=True)
class Fixed:
    """The same rank in every round, clipped to the k there are.

    Raises:
        ValueError: If ``rank < 1``.
    """

    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"A fixed rank must be at least 1, got {self.rank}.")

    def __call__(self, singular_values: Tensor, context: Context) -> int:
        """min(rank, k)."""
        del context
        return min(self.rank, len(singular_values))


@dataclass(frozen=True)
class Energy:
    """The smallest rank r with s_1^2 + ... + s_r^2 >= fraction * |J|_F^2.

    Raises:
        ValueError: If ``fraction`` is not in (0, 1].
    """

    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"An energy fraction must be in (0, 1], got {self.fraction}; "
                "0.999 keeps all but a thousandth."
            )

    def __call__(self, singular_values: Tensor, context: Context) -> int:
        """The rank; 0 where all singular values are zero."""
        del context
        if not len(singular_values):
            return 0
        energy = singular_values.double().square().cumsum(0)
        short = int((energy < self.fraction * energy[-1]).sum())
        return short + 1 if float(energy[-1]) > 0 else 0


@dataclass(frozen=True)
class AboveCutoff:
    """All singular values above the cut-off of the round: the default."""

    def __call__(self, singular_values: Tensor, context: Context) -> int:
        """Number of s > cutoff."""
        return int((singular_values > context.cutoff).sum())


@dataclass(frozen=True)
class Published:
    """Eigenvalues s^2 above delta * s_1^2, a threshold that falls like 1 / k.

        delta = min(C / (k (|g_m| + |sum_j g_j|)), 0.99)

    of Chang, He, Hao 2026, arXiv 2601.13608 (their adaptive rank, C = 1).

    Raises:
        ValueError: If ``c`` is not positive.
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise ValueError(f"The constant C must be positive, got {self.c}; try 1.0.")

    def __call__(self, singular_values: Tensor, context: Context) -> int:
        """The rank, at least 1 unless all singular values are zero."""
        if not len(singular_values):
            return 0
        norms = context.gradient_norm + context.total_gradient_norm
        scale = context.round * norms
        delta = min(self.c / scale, 0.99) if scale > 0 else 0.99
        relative = singular_values.double() / singular_values[0].double()
        return int((relative.square() > delta).sum())


FORMS = "a rank such as '20', 'energy:0.999', 'cutoff', or 'published:1.0'"
"""What ``parse`` understands, for messages."""


def parse(text: str) -> Schedule:
    """The schedule that a word names, as on the command line.

    Args:
        text: ``"20"`` (fixed), ``"energy:0.999"``, ``"cutoff"``, ``"published:1.0"`` or
            ``"published"``.

    Raises:
        ValueError: If the text is none of these, or its number is out of range.
    """
    kind, colon, number = text.strip().partition(":")
    if text.strip() == "cutoff":
        return AboveCutoff()
    try:
        if kind == "published":
            value = float(number) if colon else 1.0
        elif kind == "energy":
            value = float(number)
        else:
            value = int(text)
    except ValueError:
        raise ValueError(f"'{text}' is no rank schedule; give {FORMS}.") from None
    if kind == "published":
        return Published(value)
    return Energy(value) if kind == "energy" else Fixed(int(value))
