"""The least damping whose actual decrease is a fraction of the predicted one.

The rule of DSGNAR (arXiv 2607.02194), here for many dampings in a single probe.
"""

from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
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
    """The bound of the damping.

    Attributes:
        floor: Relative sqrt(mu) of the least damping in this arithmetic.
    """

    floor: float


@dataclass(frozen=True)
class Gain(LossFree[State]):
    """Full damped steps with sqrt(mu) = s_1 10^(-i/2), i = 0, 1, ... down to the floor.

    Args:
        fraction: Least ratio of actual to predicted decrease, in (0, 1); 0.075 is
            published.
        floor: Relative sqrt(mu) of the least damping.
    """

    fraction: float = 0.075
    floor: float = 1e-11
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "fraction", "floor")

    def start(self, eps: float) -> State:
        """The floor in this arithmetic."""
        return State(resolved(self.floor, eps))

    def reach(self, state: State) -> float:
        """``MARGIN`` times the floor."""
        return MARGIN * state.floor

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Steps with all dampings, the most damped first."""
        ladder = [10.0 ** (-i / 2) for i in range(64)]
        floor = 0.99 * state.floor
        dampings = [(x * spectrum.top) ** 2 for x in ladder if x >= floor]
        return proposal(spectrum, dampings, [0.0] * len(dampings), [1.0])

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The least damped with enough decrease; else that of the lowest loss."""
        assert probed is not None
        predicted = spectrum.decrease(candidates.coordinates)
        gains = loss - probed.losses[:, 0]
        kept = ((gains > 0) & (gains >= self.fraction * predicted)).nonzero()
        if len(kept):
            return Choice(int(kept[-1]), 0), state
        return lowest(probed.losses, loss), state


make = Gain
