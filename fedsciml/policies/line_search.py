"""One damping and cut-off; of the lengths, the lowest loss or the longest that will do.

With ``memory``, the non-monotone line search of Grippo, Lampariello, Lucidi (SIAM J.
Numer. Anal. 23, 1986).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    HALVINGS,
    Candidates,
    Choice,
    PolicyState,
    Probed,
    Value,
    lowest,
)
from fedsciml.policies._one_step import OneStep

ARMIJO = 1e-4
"""Fraction of the first-order decrease that is asked for; Grippo et al."""


@dataclass(frozen=True)
class LineSearch(OneStep):
    """One damping and cut-off throughout.

    Args:
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
        lengths: Fractions of the full step; 1, 1/2, ..., 1/2048 by default.
        memory: 0 takes the length of the lowest loss. A number M > 0 takes the longest
            with a loss below the greatest of the last M rounds, less a little.
    """

    damping: float = 0.0
    cutoff: float = 1e-10
    lengths: tuple[float, ...] = HALVINGS
    memory: int = 0
    probes: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ("losses",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < 0:
            raise ValueError(f"The memory must be at least 0, got {self.memory}.")

    def start(self, eps: float) -> PolicyState:
        """No losses."""
        del eps
        return (
            {"losses": torch.zeros(0, dtype=torch.float64, device="cpu")}
            if self.memory
            else {}
        )

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The one step."""
        del state
        return self._at(self.lengths, spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """See ``memory``; no step if no loss is low enough."""
        assert probed is not None
        if not self.memory:
            return lowest(probed.losses, loss), {}
        seen = torch.cat(
            [
                state["losses"].cpu(),
                torch.tensor([loss], dtype=torch.float64, device="cpu"),
            ]
        )
        seen = seen[-self.memory :]
        fitted = spectrum.s * candidates.coordinates[0]
        # -d loss / dt at t = 0; the step of local training may lead uphill.
        slope = max(float(fitted @ spectrum.c), 0.0)
        for j, length in enumerate(self.lengths):
            if (
                float(probed.losses[0, j])
                <= float(seen.max()) - ARMIJO * length * slope
            ):
                return Choice(0, j), {"losses": seen}
        return None, {"losses": seen}


make = LineSearch
