"""What the problems of suite ``fedpinn`` share: networks, points and partitions.

The experiments of Zhang, Liu, Weng, Lu, Federated scientific machine learning for
approximating functions and solving differential equations with data heterogeneity
(2025), arXiv 2410.13141. The domain is cut into pieces dealt round-robin; few pieces
make the clients different, many make them alike. No point is drawn at random: the seed
changes nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.collocation import Partition, pieces
from fedsciml.problems import _suite


class Options(_suite.Options, total=False):
    """What ``make`` takes besides ``clients``, with defaults; checked by ``Setting``.

    Args:
        clients: Number of clients M.
        seed: Changes nothing, as no point is drawn.
        partition: "pieces", the published kind (default); "pieces:K" is ``piece=K``;
            "strips", "slabs" and "boxes" are equal ones.
        edges: Of the strips or slabs, M + 1 numbers (default equal ones).
        points: Factor of the published numbers of points (default 1).
        width: Of the hidden layers (default the published one).
        depth: Number of hidden layers (default the published one).
        activation: tanh, sin, sigmoid, swish or relu (default the published one).
        initialisation: Of the weights, fan_in or glorot (default glorot).
        first: Frequency of the first layer at the start, a number or "auto", see
            ``MLP`` (default the start that ``initialisation`` makes).
        piece: Pieces per client, see ``collocation.pieces`` (default the fewest that
            leave no client without one: 1 for the published numbers of clients).
    """

    piece: int | None


@dataclass(frozen=True)
class Setting(_suite.Setting):
    """What a problem of the suite is made with, see ``Options``.

    Raises:
        ValueError: If a value is out of range, or pieces are counted for a partition
            that has none.
    """

    initialisation: str = "glorot"
    piece: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.piece is not None and self.partition not in (None, "pieces"):
            raise ValueError(
                f"piece={self.piece} counts the pieces of a client, but the partition "
                f"is '{self.partition}'; leave out one of them."
            )

    def deal(
        self, lower: Sequence[float], upper: Sequence[float], axis: int | None = None
    ) -> Partition:
        """The partition of a box; pieces along ``axis``, see ``collocation.pieces``."""
        kind, number = self.kind("pieces")
        if self.edges is not None or kind != "pieces" or not (number + "0").isdigit():
            return self.divide(lower, upper)
        in_blocks = axis is None and len(lower) > 1
        fewest = max(1, self.clients // 2) if in_blocks else 1
        piece = int(number) if number else self.piece
        piece = fewest if piece is None else piece
        return pieces(lower, upper, piece, self.clients, axis)


def setting(clients: int, options: Options, activation: str = "tanh") -> Setting:
    """The options of ``make``, checked, with the published activation.

    Raises:
        ValueError: If an option is out of range.
    """
    chosen: Options = {"activation": activation}
    chosen.update(options)
    return Setting(clients, **chosen)


def hammersley(n: int) -> Tensor:
    """The first n Hammersley points of the unit square, shape [n, 2].

    Point i is ((i + 1/2) / n, i with its binary digits mirrored at the point);
    J. M. Hammersley (1960), Monte Carlo methods for solving multivariable problems.
    """
    i = torch.arange(n, device="cpu")
    mirrored = torch.zeros(n, dtype=torch.float64, device="cpu")
    for digit in range(max(1, n).bit_length()):
        mirrored += (i >> digit & 1) / 2 ** (digit + 1)
    return torch.stack([(i.double() + 0.5) / n, mirrored], dim=1)
