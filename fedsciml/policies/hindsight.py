r"""Levenberg-Marquardt without probes: a step is judged in the next round, by its loss.

Every answer at a candidate is one more release of the clients' data, so under
differential privacy nothing is probed. The loss where the next round starts tells
whether the last step was worth its model: with rho = actual / predicted decrease the
damping becomes mu / 4 where rho > 3/4, 4 mu where rho < 1/4, and stays between
(Marquardt, J. SIAM 11, 1963; Fletcher, AERE-R 6799, 1971). A step is never taken back.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
    Candidates,
    Choice,
    Probed,
    check_fractions,
    proposal,
)

FACTOR = 4.0
"""By which the damping changes."""

GOOD, POOR = 0.75, 0.25
"""Bounds of rho."""

HIGHEST = 1e10
"""Bound of mu / s_1^2."""


@dataclass(frozen=True)
class State:
    """The damping, and what the last step promised.

    Attributes:
        mu: Damping of the last step, absolute; 0 before the first.
        loss: Where the last step started; infinite if not known.
        predicted: By how much it should have fallen.
        reach: Relative singular value that sketches keep in the round.
    """

    mu: float
    loss: float
    predicted: float
    reach: float


@dataclass(frozen=True)
class Hindsight:
    """Steps of one length, with a damping that follows the losses.

    Args:
        damping: mu of the first round, relative to s_1^2.
        floor: Relative sqrt(mu) of the least damping.
        length: Fraction of the full step, in (0, 1].
    """

    damping: float = 1e-2
    floor: float = 1e-4
    length: float = 1.0
    probes: ClassVar[bool] = False
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "floor")
        if not (0 < self.damping < inf and 0 < self.length <= 1):
            raise ValueError(
                "Hindsight needs a positive damping and a length in (0, 1], got "
                f"{self.damping} and {self.length}."
            )

    def start(self, eps: float) -> State:
        """mu is not known before the first sketch, as it is relative to s_1^2."""
        return State(0.0, inf, 0.0, self._reach(self.damping))

    def renewed(self, state: State, eps: float) -> State:
        """With the damping, without the loss."""
        return replace(state, loss=inf)

    def reach(self, state: State) -> float:
        """``MARGIN`` times the least relative sqrt(mu), at most a tenth."""
        return state.reach

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Steps with less damping than the last, with the same and with more."""
        top = spectrum.top**2
        mu, least = state.mu or self.damping * top, self.floor**2 * top
        dampings = [
            min(max(factor * mu, least), HIGHEST * top)
            for factor in (1 / FACTOR, 1.0, FACTOR)
        ]
        return proposal(spectrum, dampings, [0.0] * 3, [self.length])

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The one that the loss speaks for."""
        which = 1
        if state.loss < inf:
            fell = state.loss - loss
            which = 0 if fell > GOOD * state.predicted else 1
            which = 2 if fell < POOR * state.predicted else which
        step = self.length * candidates.coordinates[which]
        mu, top = candidates.dampings[which], spectrum.top**2
        predicted = max(float(spectrum.decrease(step)), 0.0)
        reach = self._reach(mu / top if top else self.damping)
        return Choice(which, 0), State(mu, loss, predicted, reach)

    def _reach(self, relative: float) -> float:
        """From a damping relative to s_1^2, which may be a factor less next time."""
        return min(0.1, MARGIN * max(self.floor, (relative / FACTOR) ** 0.5))


make = Hindsight
