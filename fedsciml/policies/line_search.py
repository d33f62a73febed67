"""One damping and cut-off; the length of the lowest loss, or the longest that suffices.

The second with ``memory``: the non-monotone line search of Grippo, Lampariello, Lucidi
(SIAM J. Numer. Anal. 23, 1986).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import HALVINGS, Candidates, Choice, Probed, lowest
from fedsciml.policies._one_step import OneStep

ARMIJO = 1e-4
"""Least ratio of actual to first-order decrease; gamma of Grippo et al."""


@dataclass(frozen=True, eq=False)
class State:
    """The losses of the last rounds. Compared by identity.

    Attributes:
        losses: Losses at theta, the latest last, shape [m] in float64 on the CPU with
            m at most the policy's memory.
    """

    losses: Tensor


@dataclass(frozen=True)
class LineSearch(OneStep):
    """The same damping and cut-off in every round, and a search for the length.

    Args:
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
        lengths: Fractions of the full step; 1, 1/2, ..., 1/2048 by default.
        memory: 0 takes the length of the lowest loss. M > 0 takes the longest whose
            loss is below the greatest of the last M rounds by at least ``ARMIJO`` times
            the first-order decrease at this length.
    """

    damping: float = 0.0
    cutoff: float = 1e-10
    lengths: tuple[float, ...] = HALVINGS
    memory: int = 0
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < 0:
            raise ValueError(f"The memory must be at least 0, got {self.memory}.")

    def start(self, eps: float) -> State:
        """No losses."""
        return State(torch.zeros(0, dtype=torch.float64, device="cpu"))

    def renewed(self, state: State, eps: float) -> State:
        """No losses."""
        return self.start(eps)

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """One step, at all lengths."""
        return self._at(self.lengths, spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The length by the rule of ``memory``; no step if no loss is low enough."""
        assert probed is not None
        if not self.memory:
            return lowest(probed.losses, loss), state
        now = torch.tensor([loss], dtype=torch.float64, device="cpu")
        seen = torch.cat([state.losses.cpu(), now])[-self.memory :]
        fitted = spectrum.s * candidates.coordinates[0]
        # -d loss / dt at t = 0; the step of local training may lead uphill.
        slope = max(float(fitted @ spectrum.c), 0.0)
        highest = float(seen.max())
        for j, length in enumerate(self.lengths):
            if float(probed.losses[0, j]) <= highest - ARMIJO * length * slope:
                return Choice(0, j), State(seen)
        return None, State(seen)


make = LineSearch
