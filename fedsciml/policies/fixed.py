"""One damping, cut-off and length, taken without a look: as published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import Candidates, Choice, PolicyState, Probed, Value
from fedsciml.policies._one_step import OneStep


@dataclass(frozen=True)
class Fixed(OneStep):
    """One damping, cut-off and length throughout, taken without a look: as published.

    Args:
        length: Fraction of the full step, positive.
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
    """

    length: float = 0.5
    damping: float = 0.0
    cutoff: float = 1e-10
    probes: ClassVar[bool] = False
    remembers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.length < float("inf"):
            raise ValueError(
                f"The length of a step must be positive, got {self.length}; try 0.5."
            )

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The one step."""
        del state
        return self._at([self.length], spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """That step."""
        del spectrum, loss, candidates, probed, state
        return Choice(0, 0), {}


make = Fixed
