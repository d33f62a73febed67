"""What policies whose damping and cut-off are the same in every round share."""

from collections.abc import Sequence

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import Candidates, proposal


class OneStep:
    """Base of policies whose damping and cut-off are the same in every round.

    Attributes:
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
    """

    damping: float
    cutoff: float

    def __post_init__(self) -> None:
        if not 0 <= self.damping < float("inf"):
            raise ValueError(f"The damping must be at least 0, got {self.damping}.")
        if not 0 <= self.cutoff < 1:
            raise ValueError(
                f"The relative cut-off must be in [0, 1), got {self.cutoff}; try 1e-10."
            )

    def reach(self, state: object) -> float:
        """The cut-off."""
        return self.cutoff

    def _at(self, lengths: Sequence[float], spectrum: Spectrum) -> Candidates:
        return proposal(spectrum, [self.damping], [self.cutoff], lengths)
