"""What families of problems share: how their sites differ, and what is asked of them.

Every site has an equation or a sensor of its own kind. What its numbers are is drawn
from ranges that ``heterogeneity`` scales about their middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor

Range = tuple[float, float]
"""Lowest and highest value."""


@dataclass(frozen=True)
class Sites:
    """How many sites there are and how they differ; see ``make`` of ``oscillations``.

    Raises:
        ValueError: If a value is out of range.
    """

    clients: int
    seed: int
    points: int
    noise: float
    heterogeneity: float

    def __post_init__(self) -> None:
        for name in ("clients", "points"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"A family has at least 1 site with 1 point each; got {name} = "
                    f"{getattr(self, name)}."
                )
        if not 0 <= self.noise < float("inf"):
            raise ValueError(
                f"Noise is a standard deviation relative to the values, at least 0; "
                f"got {self.noise}."
            )
        if not 0 <= self.heterogeneity <= 1:
            raise ValueError(
                "Heterogeneity is 0, all sites alike, to 1, the whole ranges; got "
                f"{self.heterogeneity}."
            )

    def generator(self, of: int = 0) -> Generator:
        """A source of random numbers; another one for each ``of``."""
        return Generator().manual_seed(1000 + 10 * self.seed + of)

    def numbers(self, *ranges: Range) -> list[Tensor]:
        """A number of each site in each range, shape [clients] each.

        They do not depend on how many others there are.
        """
        source = self.generator()
        drawn = torch.rand(
            self.clients, len(ranges), generator=source, dtype=torch.float64
        )
        away = self.heterogeneity * (2 * drawn - 1) / 2
        lower, upper = torch.tensor(ranges, dtype=torch.float64).T
        return list(((lower + upper) / 2 + away * (upper - lower)).T)

    def drawn(
        self,
        box: tuple[Sequence[float], Sequence[float]],
        of: int = 1,
        count: int | None = None,
    ) -> list[Tensor]:
        """Points of each site in a box, uniform, [points, d] each, or so many."""
        lower, upper = (torch.tensor(end, dtype=torch.float64) for end in box)
        source = self.generator(of)
        shape = self.clients, count or self.points, len(lower)
        x = torch.rand(shape, generator=source, dtype=torch.float64)
        return list(lower + (upper - lower) * x)

    def read(self, values: Sequence[Tensor], unit: float | None = None) -> list[Tensor]:
        """Values [n] of each site with errors: relative to a unit, or to the values.

        Without a unit it is the root mean square of the values of all sites.
        """
        source = self.generator(2)
        mean = float(torch.cat(list(values)).square().mean())
        size = self.noise * (mean**0.5 if unit is None else unit)
        return [
            v + size * torch.randn(len(v), generator=source, dtype=torch.float64)
            for v in values
        ]

    def parameters(self) -> dict[str, object]:
        """For the record."""
        return asdict(self)


def middle(ranges: Mapping[str, Range]) -> dict[str, float]:
    """The middle of each range: where a number starts."""
    return {name: sum(ends) / 2 for name, ends in ranges.items()}
