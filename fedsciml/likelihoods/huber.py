"""Residuals some of which are gross errors, by Huber's loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._base import Likelihood


@dataclass(frozen=True)
class Huber(Likelihood):
    """Squares within ``threshold`` scales, absolute values beyond (Huber 1964).

        l = u^2 / 2  where |u| <= k,  else  k |u| - k^2 / 2,     u = z / scale
        dl/dz = min(max(u, -k), k) / scale,    H = min(1, k / |u|) / scale^2

    z is a residual, prediction less observation. H are the weights of iterated
    reweighted least squares, by which the loss never rises; they are no curvature.

    Args:
        scale: Of the residuals that are no gross errors, in their unit; given, as it
            is not estimated.
        threshold: k, in scales; 1.345 is 95 % efficient where errors are normal.

    Raises:
        ValueError: If one of them is not positive.
    """

    scale: float = 1.0
    threshold: float = 1.345

    observes: ClassVar[bool] = False
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.threshold > 0):
            raise ValueError(
                "Huber needs a positive scale and threshold, got "
                f"{self.scale} and {self.threshold}."
            )

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Squares, and absolute values beyond the threshold, shape [n]."""
        size, k = z.abs() / self.scale, self.threshold
        inside = size.clamp(max=k)
        return (inside * (size - inside / 2)).sum(0)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The residual in scales, cut off at the threshold."""
        return (z / self.scale).clamp(-self.threshold, self.threshold) / self.scale

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The weights of iterated least squares."""
        size = (z / self.scale).abs()
        return torch.clamp(self.threshold / size, max=1.0) / self.scale**2
