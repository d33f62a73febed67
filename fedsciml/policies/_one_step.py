"""What policies with one damping and cut-off throughout share."""

from collections.abc import Mapping, Sequence

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import Candidates, PolicyState, Value, proposal


class OneStep:
    """One damping and cut-off throughout."""

    damping: float
    cutoff: float

    def __post_init__(self) -> None:
        if not 0 <= self.damping < float("inf"):
            raise ValueError(f"The damping must be at least 0, got {self.damping}.")
        if not 0 <= self.cutoff < 1:
            raise ValueError(
                f"The relative cut-off must be in [0, 1), got {self.cutoff}; try 1e-10."
            )

    def start(self, eps: float) -> PolicyState:
        """Nothing."""
        del eps
        return {}

    def reach(self, state: Mapping[str, Value]) -> float:
        """The cut-off."""
        del state
        return self.cutoff

    def _at(self, lengths: Sequence[float], spectrum: Spectrum) -> Candidates:
        return proposal(spectrum, [self.damping], [self.cutoff], lengths)
