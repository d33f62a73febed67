"""The lowest loss among a few dampings and lengths: for sketches of few rows."""

from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
    Candidates,
    Choice,
    LossFree,
    Probed,
    check_candidates,
    lowest,
    proposal,
)

MOST_DAMPED = -20.0
"""Level at which no step moves theta any more."""


@dataclass(frozen=True)
class State:
    """Where the damping stands: mu = s_1^2 10^-level."""

    level: float


@dataclass(frozen=True)
class Greedy(LossFree[State]):
    """Dampings around that of the last round, at some lengths: the lowest loss.

    Where sketches have few directions the rest of the step is the gradient's, and no
    target tells how good it is: the loss does. On least squares with all directions
    ``natural`` is far ahead, as the lowest loss of a round is short-sighted there. If
    no candidate lowers the loss, no step is made and the next round damps more.

    Args:
        first: Level of the first round, mu = 10^-first times the largest eigenvalue.
        sides: Dampings that are probed on either side of the last one.
        spacing: Decades of mu between them.
        lengths: Fractions of the full steps.
    """

    first: float = 1.0
    sides: int = 2
    spacing: float = 0.5
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25)
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        if self.sides < 0 or not self.spacing > 0 or not self.lengths:
            raise ValueError(
                "Greedy needs sides of at least 0, a positive spacing and some "
                f"lengths; got {self.sides}, {self.spacing} and {self.lengths}."
            )
        check_candidates((2 * self.sides + 1) * len(self.lengths))

    def start(self, eps: float) -> State:
        """Level ``first``."""
        return State(self.first)

    def _levels(self, state: State) -> list[float]:
        steps = range(-self.sides, self.sides + 1)
        return [state.level + self.spacing * i for i in steps]

    def reach(self, state: State) -> float:
        """``MARGIN`` times the least relative sqrt(mu), and no more."""
        return MARGIN * min(1.0, float(10 ** (-self._levels(state)[-1] / 2)))

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Damped steps, the most damped first."""
        top = spectrum.top**2
        dampings = [top * float(10**-level) for level in self._levels(state)]
        return proposal(spectrum, dampings, [0.0] * len(dampings), self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The candidate of the lowest loss, if it is lower."""
        assert probed is not None
        choice = lowest(probed.losses, loss)
        if choice is None:
            damped = state.level - 2 * self.sides * self.spacing
            return None, State(max(damped, MOST_DAMPED))
        return choice, State(self._levels(state)[choice.step])


make = Greedy
