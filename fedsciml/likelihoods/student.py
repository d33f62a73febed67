"""Residuals some of which are gross errors, by Student's t distribution."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedsciml.likelihoods._base import Likelihood


@dataclass(frozen=True)
class StudentT(Likelihood):
    """Student's t with ``freedom`` degrees of freedom (Lange, Little, Taylor 1989).

        l = (f + 1) / 2 log(1 + u^2 / f),    u = z / scale
        dl/dz = (f + 1) u / (f + u^2) / scale,    H = (f + 1) / (f + u^2) / scale^2

    z is a residual, prediction less observation. H are the weights of iterated
    reweighted least squares, by which the loss never rises; they are no curvature. The
    loss is not convex: gross errors weigh less the larger they are.

    Args:
        scale: Of the residuals that are no gross errors, in their unit; given, as it
            is not estimated.
        freedom: f; the smaller, the more is a gross error.

    Raises:
        ValueError: If one of them is not positive.
    """

    scale: float = 1.0
    freedom: float = 4.0

    observes: ClassVar[bool] = False
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.freedom > 0):
            raise ValueError(
                "StudentT needs a positive scale and freedom, got "
                f"{self.scale} and {self.freedom}."
            )

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """(f + 1) / 2 log(1 + u^2 / f), shape [n]."""
        u, f = z / self.scale, self.freedom
        return (f + 1) / 2 * (u.square() / f).log1p().sum(0)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The weighted residual."""
        return self.information(z, y) * z

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The weights of iterated least squares."""
        f, square = self.freedom, (z / self.scale).square()
        return (f + 1) / (f + square) / self.scale**2
