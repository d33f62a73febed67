"""A cut-off that falls while steps are long and rises when they become short.

After a step of length >= 1/2 the cut-off falls. After one of length <= 1/32, or none,
it rises, unless the linear model promises little decrease at this cut-off: that is
stagnation, and it falls.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    HALVINGS,
    Candidates,
    Choice,
    LossFree,
    Probed,
    check_fractions,
    lowest,
    proposal,
    resolved,
)

LONG, SHORT = 1 / 2, 1 / 32


@dataclass(frozen=True)
class State:
    """The cut-off and its bound.

    Attributes:
        cutoff: Relative cut-off of the round's step.
        floor: The least cut-off in this arithmetic.
    """

    cutoff: float
    floor: float


@dataclass(frozen=True)
class Continuation(LossFree[State]):
    """Undamped steps at one cut-off a round, and the length of the lowest loss.

    Args:
        cutoff: Relative cut-off of the first round.
        factor: In (0, 1). The cut-off falls by this factor, and rises by its inverse.
        stagnation: Fraction of the loss. If after a short step the model promises a
            decrease by less, the cut-off falls.
        floor: The least cut-off.
        lengths: Fractions of the full step.
    """

    cutoff: float = 1e-3
    factor: float = 0.1
    stagnation: float = 0.1
    floor: float = 1e-12
    lengths: tuple[float, ...] = HALVINGS
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "cutoff", "factor", "floor")
        if not 0 <= self.stagnation < 1:
            raise ValueError(
                f"Continuation's stagnation must be in [0, 1), got {self.stagnation}."
            )

    def start(self, eps: float) -> State:
        """The first cut-off."""
        return State(self.cutoff, resolved(self.floor, eps))

    def reach(self, state: State) -> float:
        """The cut-off."""
        return state.cutoff

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """One step, at all lengths."""
        return proposal(spectrum, [0.0], [state.cutoff], self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The length of the lowest loss."""
        assert probed is not None
        best = lowest(probed.losses, loss)
        length = candidates.lengths[best.length] if best else 0.0
        cutoff = state.cutoff
        if length >= LONG:
            cutoff *= self.factor
        elif length <= SHORT:
            left = float(spectrum.decrease(candidates.coordinates[0]))
            stagnates = left < self.stagnation * loss
            cutoff = cutoff * self.factor if stagnates else cutoff / self.factor
        return best, replace(state, cutoff=min(max(cutoff, state.floor), 0.5))


make = Continuation
