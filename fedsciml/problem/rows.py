"""What one party holds: the rows of each term."""

from dataclasses import dataclass

from torch import Tensor

from fedsciml.problem.outline import Outlined


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Outlined):
    """The n rows of one term that one party holds.

    Two of them are equal only if they are the same object, as they hold tensors.

    Attributes:
        term: Number of the term in the problem, from 0.
        points: Shape [n, d].
        target: Shape [n] or [n, q]; None if the term has none.
        weight: sqrt(alpha / n_total), with all points of the term counted. It is the
            same at every party, so that losses, gradients and gramians add up.
        partner: Partners of the points, [n, d]; None if the term has none.
        scale: Factors of the residuals at the points, [n]; None for 1.
    """

    term: int
    points: Tensor
    target: Tensor | None
    weight: float
    partner: Tensor | None = None
    scale: Tensor | None = None

    @property
    def weights(self) -> float | Tensor:
        """Of the residuals, one number or [n]."""
        return self.weight if self.scale is None else self.weight * self.scale

    def part(self, chosen: slice | Tensor) -> "Rows":
        """Some of the rows, by a slice or by their numbers."""
        target, partner, scale = (
            None if value is None else value[chosen]
            for value in (self.target, self.partner, self.scale)
        )
        points = self.points[chosen]
        return Rows(self.term, points, target, self.weight, partner, scale)


@dataclass(frozen=True, eq=False, repr=False)
class Shard(Outlined):
    """All rows that one client holds; equal only to itself, as ``Rows``.

    Attributes:
        client: Its number, from 0.
        rows: Its rows of each term; of some terms there may be none.
        share: Its part of the rows of all clients, in [0, 1].
        parts: Of all rows in one place, what each client holds, where clients have
            parameters of their own; else empty.
    """

    client: int
    rows: tuple[Rows, ...]
    share: float
    parts: "tuple[Shard, ...]" = ()

    @property
    def points(self) -> int:
        """Number of points, over all terms."""
        return sum(len(rows.points) for rows in self.rows)
