"""Levenberg-Marquardt with Nielsen's damping, with or without geodesic acceleration.

Nielsen, Damping parameter in Marquardt's method (IMM-REP-1999-05, DTU): the gain
rho = actual / predicted decrease of an accepted step sets mu *= max(1/3,
1 - (2 rho - 1)^3); a refused one sets mu *= nu, nu *= 2. The steps that the method
would try one after the other are probed together.

Acceleration (Transtrum, Sethna, arXiv 1201.5885): the step D + a / 2 follows the
geodesic, a = -A U^T r''[D, D], where A is the pseudo-inverse that gave D = A c. The
second directional derivative comes from a probe at a tenth of the step. The step is
taken only if |a| <= 0.75 |D|.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
    Candidates,
    Choice,
    LossFree,
    Probed,
    check_candidates,
    check_fractions,
    proposal,
    resolved,
)

NEAR = 0.1
"""Fraction of the step at which the second derivative is measured."""

STRAIGHT = 0.75
"""Largest |a| / |D|; in Transtrum and Sethna's notation 2 |da| / |dv| with da = a/2."""

HIGHEST = 1e20
"""Bound of mu / s_1^2 and of nu, against overflow where no step lowers the loss."""


@dataclass(frozen=True)
class State:
    """The damping and how it grows.

    Attributes:
        mu: Damping to be tried first, absolute; 0 before the first round.
        nu: Factor by which mu grows after a refused step.
        reach: Relative singular value that sketches keep in the round.
        floor: Relative sqrt(mu) of the least damping in this arithmetic.
    """

    mu: float
    nu: float
    reach: float
    floor: float


@dataclass(frozen=True)
class LevenbergMarquardt(LossFree[State]):
    """Nielsen's rule for the damping, and steps of full length.

    Args:
        damping: mu of the first round, relative to s_1^2.
        tries: Dampings probed in a round.
        acceleration: Add the geodesic correction.
        floor: Relative sqrt(mu) of the least damping.
    """

    damping: float = 1e-3
    tries: int = 8
    acceleration: bool = False
    floor: float = 1e-11
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "floor")
        if not 0 < self.damping < inf or self.tries < 1:
            raise ValueError(
                "Levenberg-Marquardt needs a positive damping and at least 1 try, got "
                f"{self.damping} and {self.tries}."
            )
        check_candidates(self.tries * (2 if self.acceleration else 1))

    def start(self, eps: float) -> State:
        """mu is not known before the first sketch, as it is relative to s_1^2."""
        reach = min(0.1, MARGIN * self.damping**0.5)
        return State(mu=0.0, nu=2.0, reach=reach, floor=resolved(self.floor, eps))

    def reach(self, state: State) -> float:
        """``MARGIN`` times the relative sqrt(mu), at most a tenth."""
        return state.reach

    def _dampings(self, spectrum: Spectrum, state: State) -> list[float]:
        mu, nu = state.mu or self.damping * spectrum.top**2, state.nu
        dampings = []
        for _ in range(self.tries):
            dampings.append(mu)
            mu, nu = mu * nu, 2 * nu
        return dampings

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Steps with the dampings that would be tried in turn, the least first."""
        dampings = self._dampings(spectrum, state)
        lengths = [1.0, NEAR] if self.acceleration else [1.0]
        return proposal(spectrum, dampings, [0.0] * len(dampings), lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The first that lowers the loss and, if accelerated, has |a| small enough."""
        assert probed is not None
        nu = state.nu
        for i, mu in enumerate(candidates.dampings):
            step = candidates.coordinates[i]
            predicted = float(spectrum.decrease(step))
            gain = loss - float(probed.losses[i, 0])
            bend = self._bend(spectrum, mu, step, probed, i)
            straight = bend is None or bool(bend.norm() <= STRAIGHT * step.norm())
            if gain > 0 and predicted > 0 and straight:
                ratio = min(gain / predicted, 1.0)  # rounding may make it enormous
                mu *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
                correction = None if bend is None else bend / 2
                return Choice(i, 0, correction), self._next(spectrum, mu, 2.0, state)
            nu *= 2
        mu = candidates.dampings[-1] * nu / 2
        return None, self._next(spectrum, mu, nu, state)

    def _bend(
        self, spectrum: Spectrum, mu: float, step: Tensor, probed: Probed, number: int
    ) -> Tensor | None:
        """a = -A U^T r''[D, D]; c(theta + h D) = c - h B D - h^2/2 U^T r'' + O(h^3)."""
        if not self.acceleration:
            return None
        linear = spectrum.c - NEAR * spectrum.s * step
        second = 2 / NEAR**2 * (linear - probed.targets[number, 1])
        return -spectrum.inverse(mu) * second

    def _next(self, spectrum: Spectrum, mu: float, nu: float, state: State) -> State:
        square = spectrum.top**2
        mu = min(max(mu, state.floor**2 * square), HIGHEST * square)
        reach = min(0.1, MARGIN * (mu / square) ** 0.5) if square else state.reach
        return replace(state, mu=mu, nu=min(nu, HIGHEST), reach=reach)


make = LevenbergMarquardt
