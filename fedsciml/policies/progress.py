"""Of several cut-offs, the one with the largest predicted decrease that comes true.

A candidate is admitted if its decrease is at least a fraction of what the linear model
predicts at its length. Of those, the one with the largest predicted decrease is taken,
not the one with the lowest loss.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    Candidates,
    Choice,
    LossFree,
    Probed,
    check_fractions,
    lowest,
    proposal,
    resolved,
)


@dataclass(frozen=True)
class State:
    """The bound of the cut-offs.

    Attributes:
        cutoff: The least relative cut-off in this arithmetic.
    """

    cutoff: float


@dataclass(frozen=True)
class Progress(LossFree[State]):
    """Undamped steps at the cut-offs 1e-1, 1e-2, ... down to ``cutoff``.

    Args:
        sufficient: Least ratio of actual to predicted decrease, in (0, 1).
        cutoff: The least relative cut-off of singular values.
        lengths: Fractions of the full steps.
    """

    sufficient: float = 0.25
    cutoff: float = 1e-11
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25, 2.0**-4, 2.0**-7)
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "sufficient", "cutoff")

    def start(self, eps: float) -> State:
        """The least cut-off in this arithmetic."""
        return State(resolved(self.cutoff, eps))

    def reach(self, state: State) -> float:
        """The least cut-off."""
        return state.cutoff

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """A step for every decade of the cut-off."""
        decades = [10.0**-i for i in range(1, 13)]
        cutoffs = [x for x in decades if x >= 0.99 * state.cutoff]
        return proposal(spectrum, [0.0] * len(cutoffs), cutoffs, self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The largest predicted decrease of those admitted; else the lowest loss."""
        assert probed is not None
        lengths = probed.losses.new_tensor(candidates.lengths)[:, None]
        predicted = spectrum.decrease(lengths * candidates.coordinates[:, None])
        gains = loss - probed.losses
        kept = (gains > 0) & (gains >= self.sufficient * predicted)
        if kept.any():
            promised = torch.where(kept, predicted, -torch.inf)
            step, length = divmod(int(promised.argmax()), len(self.lengths))
            return Choice(step, length), state
        return lowest(probed.losses, loss), state


make = Progress
