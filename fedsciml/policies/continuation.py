"""A cut-off that falls while steps are long and rises when they become short.

After a step of length >= 1/2 the cut-off falls, after one of length <= 1/32 (or none)
it rises; unless the model sees little left to gain at this cut-off: that is stagnation,
and it falls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    HALVINGS,
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

LONG, SHORT = 1 / 2, 1 / 32


@dataclass(frozen=True)
class Continuation:
    """Undamped steps at one cut-off a round, and the length of the lowest loss.

    Args:
        cutoff: Relative cut-off of the first round.
        factor: By which it falls, and rises, in (0, 1).
        stagnation: Fraction of the loss: if the model promises less, the cut-off falls.
        floor: The least cut-off.
        lengths: Fractions of the full step.
    """

    cutoff: float = 1e-3
    factor: float = 0.1
    stagnation: float = 0.1
    floor: float = 1e-12
    lengths: tuple[float, ...] = HALVINGS
    probes: ClassVar[bool] = True
    remembers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fractions(self, "cutoff", "factor", "floor")
        if not 0 <= self.stagnation < 1:
            raise ValueError(
                f"Continuation's stagnation must be in [0, 1), got {self.stagnation}."
            )

    def start(self, eps: float) -> PolicyState:
        """The first cut-off."""
        return {"cutoff": self.cutoff, "floor": resolved(self.floor, eps)}

    def reach(self, state: Mapping[str, Value]) -> float:
        """The cut-off."""
        return float(state["cutoff"])

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The one step."""
        return proposal(spectrum, [0.0], [state["cutoff"]], self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """The length of the lowest loss."""
        assert probed is not None
        best = lowest(probed.losses, loss)
        length = candidates.lengths[best.length] if best else 0.0
        cutoff = state["cutoff"]
        if length >= LONG:
            cutoff *= self.factor
        elif length <= SHORT:
            left = float(spectrum.decrease(candidates.coordinates[0]))
            stagnates = left < self.stagnation * loss
            cutoff = cutoff * self.factor if stagnates else cutoff / self.factor
        cutoff = min(max(cutoff, state["floor"]), 0.5)
        return best, {**state, "cutoff": cutoff}


make = Continuation
