r"""Levenberg-Marquardt without probes: a step is judged in the next round, by its loss.

Every answer at a candidate is one more release of the clients' data, so under
differential privacy nothing is probed. The loss where the next round starts tells
whether the last step was worth its model: with rho = actual / predicted decrease the
damping becomes mu / 4 where rho > 1/2, 4 mu where rho < 1/4, and stays between
(Marquardt, J. SIAM 11, 1963; Fletcher, AERE-R 6799, 1971). Where the loss rose
threefold the step is taken back, and that of 16 mu goes from where it started. Less is
tolerated: on the way down from a plateau a Gauss-Newton step often leads up first.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

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

GOOD, POOR = 0.5, 0.25
"""Bounds of rho."""

ROSE = 3.0
"""Factor by which the loss must rise for a step to be taken back."""

HIGHEST = 0.1
"""Bound of mu / s_1^2, or the first one. Steps damped more promise so little that noise
decides whether they kept it: without this bound two of five starts of sine4 at epsilon
2 stayed where they were."""


@dataclass(frozen=True, eq=False)
class State:
    """The damping, and what the last step promised.

    Attributes:
        mu: Damping of the last step, absolute; 0 before the first.
        loss: Where the last step started; infinite if not known.
        predicted: By how much it should have fallen.
        reach: Relative singular value that sketches keep in the round.
        instead: From where it led to where a shorter one leads, shape [p]; None where
            there is none.
        less: What that one promised.
    """

    mu: float
    loss: float
    predicted: float
    reach: float
    instead: Tensor | None = None
    less: float = 0.0


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
        return State(0.0, inf, 0.0, self._margin(self.damping**0.5))

    def renewed(self, state: State, eps: float) -> State:
        """With the damping, without the loss."""
        return replace(state, loss=inf, instead=None)

    def reach(self, state: State) -> float:
        """``MARGIN`` times the least relative sqrt(mu), at most a tenth."""
        return state.reach

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Steps with less damping than the last, the same and more; the way back."""
        top = spectrum.top**2
        mu, least = state.mu or self.damping * top, self.floor**2 * top
        most = max(HIGHEST, self.damping) * top
        factors = 1 / FACTOR, 1.0, FACTOR
        dampings = [min(max(factor * mu, least), most) for factor in factors]
        found = proposal(spectrum, dampings, [0.0] * 3, [self.length])
        if state.instead is None:
            return found
        nothing = torch.zeros_like(found.coordinates[:1])
        back = state.instead / self.length
        return Candidates(
            torch.cat([found.coordinates, nothing]),
            [*dampings, FACTOR**2 * mu],
            [0.0] * 4,
            [self.length],
            torch.cat([back.new_zeros(3, len(back)), back[None]]),
        )

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The one that the loss speaks for."""
        fell = state.loss - loss
        if state.instead is not None and loss > ROSE * state.loss:
            mu = candidates.dampings[-1]
            after = replace(state, mu=mu, predicted=state.less, instead=None)
            return Choice(3, 0), replace(after, reach=self._reach(spectrum, mu))
        which = 1
        if state.loss < inf:
            which = 0 if fell > GOOD * state.predicted else 1
            which = 2 if fell < POOR * state.predicted else which
        mu, step = candidates.dampings[which], candidates.coordinates[which]
        shorter = spectrum.inverse(FACTOR**2 * mu) * spectrum.c
        after = State(
            mu,
            loss,
            self._promised(spectrum, step),
            self._reach(spectrum, mu),
            self.length * (shorter - step) @ spectrum.basis,
            self._promised(spectrum, shorter),
        )
        return Choice(which, 0), after

    def _promised(self, spectrum: Spectrum, step: Tensor) -> float:
        return max(float(spectrum.decrease(self.length * step)), 0.0)

    def _reach(self, spectrum: Spectrum, mu: float) -> float:
        """For a damping that may be a factor less next time."""
        relative = mu**0.5 / spectrum.top if spectrum.top else self.damping**0.5
        return self._margin(relative)

    def _margin(self, relative: float) -> float:
        return min(0.1, MARGIN * max(self.floor, relative / FACTOR**0.5))


make = Hindsight
