"""Rows of a least-squares problem J D ~ -r: held, or made again piece by piece."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

TestMatrix = Any
"""Omega [p, k]: a tensor, or what the pieces that are asked for J Omega know."""


class Piece(Protocol):
    """Some of the rows.

    Attributes:
        residual: Theirs, shape [m].
    """

    @property
    def residual(self) -> Tensor:
        """Shape [m]."""

    def jacobian(self) -> Tensor:
        """J, shape [m, p]; its memory may be that of the next piece's."""

    def mixed(self, omega: TestMatrix) -> Tensor:
        """J Omega, shape [m, k]."""


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a party, which need never be in memory together.

    Attributes:
        residual: r, shape [n].
        size: Number of parameters p.
        pieces: Makes them, in order, the same each time.
        draw: Makes a random Omega [p, k] of so many columns k.
        whole: Whether J is in memory, as one piece.
    """

    residual: Tensor
    size: int
    pieces: Callable[[], Iterable[Piece]]
    draw: Callable[[int, Generator], TestMatrix]
    whole: bool = False

    def placed(self) -> Iterator[tuple[slice, Piece]]:
        """The pieces, and where among all rows they are."""
        start = 0
        for piece in self.pieces():
            stop = start + len(piece.residual)
            yield slice(start, stop), piece
            start = stop

    def norm(self) -> float:
        """|J|_F."""
        parts = [torch.linalg.matrix_norm(piece.jacobian()) for piece in self.pieces()]
        return float(torch.stack(parts).norm()) if parts else 0.0

    def mixed(self, omega: TestMatrix) -> Tensor:
        """J Omega, shape [n, k]."""
        return torch.cat([piece.mixed(omega) for piece in self.pieces()])

    def projected(self, left: Tensor) -> Tensor:
        """left^T J, shape [k, p], of a matrix [n, k]."""
        found = left.new_zeros(left.shape[1], self.size)
        for place, piece in self.placed():
            found.addmm_(left[place].mT, piece.jacobian())
        return found


@dataclass(frozen=True, eq=False)
class Whole:
    """All rows as one piece, whose J is in memory.

    Attributes:
        matrix: J, shape [n, p].
        residual: r, shape [n].
    """

    matrix: Tensor
    residual: Tensor

    def jacobian(self) -> Tensor:
        """J itself."""
        return self.matrix

    def mixed(self, omega: TestMatrix) -> Tensor:
        """J Omega, shape [n, k]."""
        return self.matrix @ omega


def normal(rows: int, columns: int, generator: Generator, like: Tensor) -> Tensor:
    """A test matrix [rows, columns], standard normal to the digits of float32.

    It need not be to more, and takes a quarter of the time. Other machines may draw
    other digits: what parties have in common is drawn by ``randomised.gaussian``.
    """
    draw = torch.randn(
        rows, columns, generator=generator, dtype=torch.float32, device=generator.device
    )
    return draw.to(like)


def whole(jacobian: Tensor, residual: Tensor) -> Rows:
    """Rows of an explicit J [n, p] and r [n]."""
    piece = Whole(jacobian, residual)

    def draw(columns: int, generator: Generator) -> Tensor:
        return normal(piece.matrix.shape[1], columns, generator, residual)

    return Rows(residual, jacobian.shape[1], lambda: [piece], draw, whole=True)
