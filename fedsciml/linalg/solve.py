r"""Damped and truncated least squares on merged sketches.

    D = argmin 1/2 |B D - c|^2 + mu/2 |D|^2,    or with singular values of B below a
                                                relative cut-off left out.

One thin QR of B^T and one small SVD, B = W diag(s) V^T, serve every damping and
cut-off:

    D = V diag(s / (s^2 + mu)) W^T c.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.linalg.sketch import Sketch, decomposed


class Spectrum(NamedTuple):
    """A least-squares problem B D ~ c as the SVD of B; equal to itself alone.

    B = W diag(s) V^T.

    Attributes:
        s: Singular values, shape [k], descending.
        c: Target in the left basis, W^T c, shape [k].
        basis: V^T, shape [k, p].
        left: W, shape [rows of B, k].
    """

    s: Tensor
    c: Tensor
    basis: Tensor
    left: Tensor

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def top(self) -> float:
        """The largest singular value; 0 if there is none."""
        return float(self.s[0]) if len(self.s) else 0.0

    def inverse(self, damping: float = 0.0, cutoff: float = 0.0) -> Tensor:
        """Filtered reciprocals s / (s^2 + mu), zero for s <= cutoff * s[0], shape [k].

        Args:
            damping: mu >= 0, absolute, in units of s^2.
            cutoff: Relative cut-off of singular values.
        """
        keep = (self.s > cutoff * self.s[:1]) & (self.s > 0)
        # In this form nothing overflows where s^2 is too small for its type.
        s = torch.where(keep, self.s, torch.ones_like(self.s))
        return torch.where(keep, 1 / (s + damping / s), torch.zeros_like(s))

    def step(self, damping: float = 0.0, cutoff: float = 0.0) -> Tensor:
        """The step D, shape [p]; arguments as for ``inverse``."""
        return (self.inverse(damping, cutoff) * self.c) @ self.basis

    def decrease(self, coordinates: Tensor) -> Tensor:
        """Decrease of 1/2 |B D - c|^2 by the step D = coordinates [..., k] @ basis."""
        fitted = self.s * coordinates
        return (fitted * (self.c - fitted / 2)).sum(-1)


def spectrum(sketch: Sketch) -> Spectrum:
    """The SVD of the factor of a sketch, usually a merged one."""
    left, s, basis = decomposed(sketch.factor)
    return Spectrum(s, left.mT @ sketch.target, basis, left)
