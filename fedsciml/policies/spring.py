"""Momentum where the data say nothing: SPRING.

Goldshlager, Abrahamsen, Lin (arXiv 2401.10190): the damped step nearest to a part of
the last one,

    D = argmin |B D - c|^2 + mu |D - eta phi|^2 = eta phi + A (c - eta B phi),

which keeps eta phi in the directions that B does not see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    HALVINGS,
    MARGIN,
    Candidates,
    Choice,
    PolicyState,
    Probed,
    Value,
    check_fractions,
    lowest,
)


@dataclass(frozen=True)
class Spring:
    """One damping throughout, momentum, and the length of the lowest loss.

    Args:
        damping: mu, relative to s_1^2.
        momentum: eta in [0, 1).
        lengths: Fractions of the full step.
    """

    damping: float = 1e-10
    momentum: float = 0.5
    lengths: tuple[float, ...] = HALVINGS
    probes: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fractions(self, "damping")
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"Spring's momentum must be in [0, 1), got {self.momentum}; try 0.5."
            )

    def start(self, eps: float) -> PolicyState:
        """No step yet."""
        del eps
        return {}

    def reach(self, state: Mapping[str, Value]) -> float:
        """``MARGIN`` times the relative sqrt(mu)."""
        del state
        return float(MARGIN * self.damping**0.5)

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The one step."""
        s, c, basis = spectrum.s, spectrum.c, spectrum.basis
        mu = self.damping * spectrum.top**2
        last = state.get("phi", basis.new_zeros(basis.shape[1]))
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
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """The length of the lowest loss; without one, the momentum is dropped."""
        assert probed is not None
        best = lowest(probed.losses, loss)
        if best is None:
            return None, {}
        return best, {"phi": candidates.steps(spectrum.basis)[0]}


make = Spring
