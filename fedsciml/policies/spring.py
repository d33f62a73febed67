"""SPRING: momentum in the directions that the sketch does not determine.

Goldshlager, Abrahamsen, Lin (arXiv 2401.10190): the damped step nearest to eta times
the last step phi,

    D = argmin |B D - c|^2 + mu |D - eta phi|^2 = eta phi + A (c - eta B phi),

which equals eta phi in the directions that B maps to zero.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    HALVINGS,
    MARGIN,
    Candidates,
    Choice,
    LossFree,
    Probed,
    check_fractions,
    lowest,
)


@dataclass(frozen=True, eq=False)
class State:
    """The step of the round before. Compared by identity.

    Attributes:
        phi: The full step, shape [p]; None before the first, and if none was taken.
    """

    phi: Tensor | None = None


@dataclass(frozen=True)
class Spring(LossFree[State]):
    """The same damping in every round, momentum, and the length of the lowest loss.

    Args:
        damping: mu, relative to s_1^2.
        momentum: eta in [0, 1).
        lengths: Fractions of the full step.
    """

    damping: float = 1e-10
    momentum: float = 0.5
    lengths: tuple[float, ...] = HALVINGS
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "damping")
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"Spring's momentum must be in [0, 1), got {self.momentum}; try 0.5."
            )

    def start(self, eps: float) -> State:
        """No step yet."""
        return State(None)

    def reach(self, state: State) -> float:
        """``MARGIN`` times the relative sqrt(mu)."""
        return float(MARGIN * self.damping**0.5)

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """One step, at all lengths."""
        s, c, basis = spectrum.s, spectrum.c, spectrum.basis
        mu = self.damping * spectrum.top**2
        last = basis.new_zeros(basis.shape[1]) if state.phi is None else state.phi
        seen = self.momentum * (basis @ last)
        step = seen + spectrum.inverse(mu) * (c - s * seen)
        beyond = self.momentum * last - seen @ basis
        lengths = list(self.lengths)
        return Candidates(step[None], [mu], [0.0], lengths, beyond[None])

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """The length of the lowest loss; without one, the momentum is dropped."""
        assert probed is not None
        best = lowest(probed.losses, loss)
        if best is None:
            return None, State(None)
        return best, State(candidates.steps(spectrum.basis)[0])


make = Spring
