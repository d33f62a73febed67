"""Squares: the residual is as it is returned."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._base import Likelihood


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """l = |z|^2 / 2, of a residual z in any unit: the default.

    Its scale is the term's weight.
    """

    observes: ClassVar[bool] = False
    bounded: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """|z|^2 / 2, shape [n]."""
        return z.square().sum(0) / 2

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """z."""
        return z

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """1."""
        return torch.ones_like(z)

    def transposed_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """v."""
        return v

    def inverse_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """v."""
        return v
