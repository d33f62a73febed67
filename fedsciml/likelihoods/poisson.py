"""Counts: the predictor is the logarithm of the expected count."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._base import Likelihood, floored, single


@dataclass(frozen=True)
class Poisson(Likelihood):
    """y is a count of mean m = exp(z): Poisson regression with logarithmic link.

        l = m - y + y log(y / m),    dl/dz = m - y,    H = m

    Exposures are part of the predictor: ``return u.value + row.log_exposure``.
    """

    exact: ClassVar[bool] = True

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m - y + y log(y / m), shape [n]."""
        assert y is not None
        # With d = log(m / y), as the terms of large counts cancel near their means.
        some = torch.where(y > 0, y, 1.0)
        d = z - some.log()
        each = torch.where(y > 0, some * (torch.expm1(d) - d), z.exp())
        return each.sum(0).clamp(min=0)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m - y."""
        assert y is not None
        return z.exp() - y

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m."""
        return floored(z.exp())

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """Negative counts."""
        if told := super().wrong(z, y) or single(z, y, "Poisson"):
            return told
        assert y is not None
        if bool((y < 0).any()):
            return "Poisson takes counts, 0 or more, but a target is negative"
        return None
