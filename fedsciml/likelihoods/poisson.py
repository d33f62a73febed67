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

    Counts over unlike times or areas have targets [n, 2], count and exposure e > 0, and
    m = e exp(z): z is then the logarithm of the rate.
    """

    exact: ClassVar[bool] = True

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m - y + y log(y / m), shape [n]."""
        z, y = _with_exposure(z, y)
        # With d = log(m / y), as the terms of large counts cancel near their means.
        some = torch.where(y > 0, y, 1.0)
        d = z - some.log()
        each = torch.where(y > 0, some * (torch.expm1(d) - d), z.exp())
        return each.sum(0).clamp(min=0)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m - y."""
        z, y = _with_exposure(z, y)
        return z.exp() - y

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """m."""
        return floored(_with_exposure(z, y)[0].exp())

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """Negative counts, or exposures that are not positive."""
        if told := super().wrong(z, y):
            return told
        assert y is not None
        if y.ndim == 2 and y.shape[1] == 2:
            if not bool((y[:, 1] > 0).all()):
                return "Poisson takes positive exposures, but there are others"
            y = y[:, 0]
        if told := single(z, y, "Poisson"):
            return told
        if bool((y < 0).any()):
            return "Poisson takes counts, 0 or more, but a target is negative"
        return None


def _with_exposure(z: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logarithms of the means, and the counts."""
    assert y is not None
    if y.ndim == 1:
        return z, y
    return z + y[:, 1].log(), y[:, 0]
