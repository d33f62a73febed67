"""The least damping whose actual decrease is a fraction of the predicted one.

The rule of DSGNAR (arXiv 2607.02194), here over a whole ladder of dampings at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
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
class Gain:
    """Full damped steps with sqrt(mu) = s_1 10^(-i/2), i = 0, 1, ... down to the floor.

    Args:
        fraction: Of the predicted decrease, in (0, 1); 0.075 is the published one.
        floor: Relative sqrt(mu) of the least damping.
    """

    fraction: float = 0.075
    floor: float = 1e-11
    probes: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fractions(self, "fraction", "floor")

    def start(self, eps: float) -> PolicyState:
        """The floor of the arithmetic."""
        return {"floor": resolved(self.floor, eps)}

    def reach(self, state: Mapping[str, Value]) -> float:
        """``MARGIN`` times the floor."""
        return MARGIN * float(state["floor"])

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The whole ladder, the most damped first."""
        ladder = [10.0 ** (-i / 2) for i in range(64)]
        floor = 0.99 * state["floor"]
        dampings = [(x * spectrum.top) ** 2 for x in ladder if x >= floor]
        return proposal(spectrum, dampings, [0.0] * len(dampings), [1.0])

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """The last that keeps the promise; else the lowest loss."""
        assert probed is not None
        predicted = spectrum.decrease(candidates.coordinates)
        gains = loss - probed.losses[:, 0]
        kept = ((gains > 0) & (gains >= self.fraction * predicted)).nonzero()
        if len(kept):
            return Choice(int(kept[-1]), 0), dict(state)
        return lowest(probed.losses, loss), dict(state)


make = Gain
