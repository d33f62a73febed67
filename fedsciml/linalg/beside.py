r"""What a solve has beside the sketches: a prior, and a gradient that is known exactly.

Merged sketches say B D ~ c, B = W diag(s) V^T, and so that the gradient is -B^T c. A
prior lambda/2 |theta|^2 adds lambda (theta + D) to the gradient everywhere, and lambda
to every squared singular value. A gradient g that the clients sent corrects what
truncated sketches say of it, also outside of their span, where nothing but a bound of
the curvature is known. The whole model of the loss then is, with z = V D and the one
direction e outside of the span along which it is known to fall,

    a . z + |diag(s^2 + lambda)^(1/2) z|^2 / 2  +  b d + (lambda + h) d^2 / 2,

    a = V g + lambda V theta,    b e = (I - V^T V) (g + lambda theta),

or -diag(s) c for V g where g is not known. It is again a problem B' D ~ c', with one
direction more, so that damping and step policies need not know of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum


@dataclass(frozen=True, eq=False)
class Beside:
    """A problem B D ~ c with what is beside it; equal to itself alone.

    Attributes:
        inner: B D ~ c, of the sketches.
        whole: The same with prior and gradient, one direction longer where the step
            leaves the span.
        prior: lambda.
        theta: Where it is, shape [p].
        missed: What the sketches miss of V g, shape [k].
    """

    inner: Spectrum
    whole: Spectrum
    prior: float
    theta: Tensor
    missed: Tensor

    @property
    def outward(self) -> bool:
        """Whether the step has one direction outside of the span."""
        return len(self.whole.s) > len(self.inner.s)

    def targets(self, targets: Tensor, coordinates: Tensor) -> Tensor:
        """c' at theta + D, from c there.

        Along the direction outside of the span the gradient is taken to be linear.

        Args:
            targets: c(theta + D) in the basis of ``inner``, shape [..., k].
            coordinates: Of D in the basis of ``whole``, shape [..., k'].
        """
        s, k = self.whole.s, len(self.inner.s)
        at = self.inner.basis @ self.theta + coordinates[..., :k]
        slope = self.missed - self.inner.s * targets + self.prior * at
        inside = _divided(-slope, s[:k])
        beyond = self.whole.c[k:] - s[k:] * coordinates[..., k:]
        return torch.cat([inside, beyond], -1)

    def penalty(self, step: Tensor) -> Tensor:
        """lambda/2 |theta + D|^2 for D [..., p], shape [...]."""
        return self.prior / 2 * (self.theta + step).square().sum(-1)


def beside(
    inner: Spectrum,
    theta: Tensor,
    prior: float,
    gradient: Tensor | None = None,
    curvature: float = 0.0,
) -> Beside:
    """The problem with a prior, and with the gradient where it is known.

    Args:
        inner: B D ~ c at theta.
        theta: Shape [p].
        prior: lambda, at least 0.
        gradient: g of the clients' losses, shape [p]; None for -B^T c.
        curvature: h, that of the losses outside of the span, at most.
    """
    basis, known = inner.basis, -inner.s * inner.c
    missed = torch.zeros_like(known) if gradient is None else basis @ gradient - known
    s = (inner.s.square() + prior).sqrt()
    away = prior * theta if gradient is None else gradient + prior * theta
    c, size = (
        _divided(-(known + missed + prior * (basis @ theta)), s),
        float(away.norm()),
    )
    for _ in range(2):  # once more for what rounding left
        away = away - (basis @ away) @ basis
    length, beyond = float(away.norm()), (prior + curvature) ** 0.5
    whole = inner._replace(s=s, c=c)
    if beyond > 0 and length > 100 * torch.finfo(s.dtype).eps * size:
        whole = whole._replace(
            s=torch.cat([s, s.new_tensor([beyond])]),
            c=torch.cat([c, c.new_tensor([-length / beyond])]),
            basis=torch.cat([basis, (away / length)[None]]),
        )
    return Beside(inner, whole, prior, theta, missed)


def _divided(values: Tensor, s: Tensor) -> Tensor:
    """values / s, 0 where s is."""
    return torch.where(s > 0, values / torch.where(s > 0, s, 1.0), 0.0)
