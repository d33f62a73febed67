"""One damping, cut-off and length, and no probe: as published."""

from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import Candidates, Choice, LossFree, Probed
from fedsciml.policies._one_step import OneStep


@dataclass(frozen=True)
class Fixed(OneStep, LossFree[None]):
    """The same damping, cut-off and length in every round, not probed: as published.

    Args:
        length: Fraction of the full step, positive.
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
    """

    length: float = 0.5
    damping: float = 0.0
    cutoff: float = 1e-10
    probes: ClassVar[bool] = False
    kinds: ClassVar[tuple[type, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.length < float("inf"):
            raise ValueError(
                f"The length of a step must be positive, got {self.length}; try 0.5."
            )

    def start(self, eps: float) -> None:
        """No state."""

    def propose(self, spectrum: Spectrum, state: None) -> Candidates:
        """The one candidate."""
        return self._at([self.length], spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: None,
    ) -> tuple[Choice | None, None]:
        """The one candidate."""
        return Choice(0, 0), None


make = Fixed
