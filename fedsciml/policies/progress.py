"""Of several cut-offs, the one with the largest predicted progress that is kept.

A step is admitted if it brings a fraction of the decrease that the linear model
promises at its length; of those, the one to which the model promises most is taken, not
the one with the lowest loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    Candidates,
    Choice,
    PolicyState,
    Probed,
    Value,
    check_fractions,
    lowest,
    proposal,
    resolved,
)


@dataclass(frozen=True)
class Progress:
    """Undamped steps at the cut-offs 1e-1, 1e-2, ... down to ``cutoff``.

    Args:
        sufficient: Fraction of the predicted decrease, in (0, 1).
        cutoff: The least relative cut-off of singular values.
        lengths: Fractions of the full steps.
    """

    sufficient: float = 0.25
    cutoff: float = 1e-11
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25, 2.0**-4, 2.0**-7)
    probes: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fractions(self, "sufficient", "cutoff")

    def start(self, eps: float) -> PolicyState:
        """The least cut-off in this arithmetic."""
        return {"cutoff": resolved(self.cutoff, eps)}

    def reach(self, state: Mapping[str, Value]) -> float:
        """The least cut-off."""
        return float(state["cutoff"])

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """A step a decade."""
        decades = [10.0**-i for i in range(1, 13)]
        cutoffs = [x for x in decades if x >= 0.99 * state["cutoff"]]
        return proposal(spectrum, [0.0] * len(cutoffs), cutoffs, self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """The largest promise that is kept; else the lowest loss."""
        assert probed is not None
        lengths = probed.losses.new_tensor(candidates.lengths)[:, None]
        predicted = spectrum.decrease(lengths * candidates.coordinates[:, None])
        gains = loss - probed.losses
        kept = (gains > 0) & (gains >= self.sufficient * predicted)
        if kept.any():
            promised = torch.where(kept, predicted, -torch.inf)
            step, length = divmod(int(promised.argmax()), len(self.lengths))
            return Choice(step, length), dict(state)
        return lowest(probed.losses, loss), dict(state)


make = Progress
