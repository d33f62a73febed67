r"""Damped and truncated least squares on merged sketches.

    D = argmin 1/2 |B D - c|^2 + mu/2 |D|^2,    or with singular values of B below a
                                                relative cut-off left out.

One thin QR of B^T and one small SVD, B = W diag(s) V^T, serve every damping and cut-off:

    D = V diag(s / (s^2 + mu)) W^T c.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.sketch import Sketch, compress


class Spectrum(NamedTuple):
    """A least-squares problem in its own basis.

    Attributes:
        s: Singular values of B, shape [k], descending.
        c: Target in the left basis, W^T c, shape [k].
        basis: Right singular vectors, V^T, shape [k, p].
    """

    s: Tensor
    c: Tensor
    basis: Tensor

    def step(self, damping: float = 0.0, cutoff: float = 0.0) -> Tensor:
        """The step D, shape [p].

        Args:
            damping: mu >= 0, absolute, in units of s^2.
            cutoff: Singular values not above ``cutoff * s[0]`` are left out.
        """
        return self.coefficients(damping, cutoff) @ self.basis

    def coefficients(self, damping: float = 0.0, cutoff: float = 0.0) -> Tensor:
        """The step's coordinates in the basis, V^T D, shape [k]."""
        keep = self.s > cutoff * self.s[:1]
        y = self.s * self.c / (self.s**2 + damping)
        return torch.where(keep, y, torch.zeros_like(y))

    def decrease(self, coefficients: Tensor) -> float:
        """Decrease of 1/2 |B D - c|^2 that a step of these coordinates brings."""
        fitted = self.s * coefficients
        return float(fitted @ (self.c - fitted / 2))


def spectrum(sketch: Sketch) -> Spectrum:
    """Bring a merged sketch into its own basis."""
    small = compress(sketch)
    s = small.singular_values
    safe = torch.where(s > 0, s, torch.ones_like(s))
    return Spectrum(s, small.target, small.factor / safe.unsqueeze(-1))
