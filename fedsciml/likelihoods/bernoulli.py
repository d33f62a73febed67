"""Yes or no: the predictor is the logit."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fedsciml.likelihoods._base import Likelihood, floored, single
from fedsciml.likelihoods._classes import Reliability, reliability, scores


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """y is 1 with probability q = 1 / (1 + exp(-z)), else 0 (logistic regression).

    l = -y log q - (1 - y) log(1 - q),    dl/dz = q - y,    H = q (1 - q)
    """

    exact: ClassVar[bool] = True

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """-log of the probability of y, shape [n]."""
        assert y is not None
        # Not softplus(z) - z y: torch's leaves out exp(-20) where z is above 20.
        return -logsigmoid((2 * y - 1) * z).sum(0)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """q - y."""
        assert y is not None
        return torch.sigmoid(z) - y

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """q (1 - q)."""
        return floored(torch.sigmoid(z) * torch.sigmoid(-z))

    def metrics(self, z: Tensor, y: Tensor | None) -> dict[str, float]:
        """Deviance, accuracy, and expected calibration error."""
        assert y is not None
        right = (z[0] > 0) == (y > 0.5)
        told = torch.sigmoid(z[0].abs())
        return super().metrics(z, y) | scores(told, right)

    def classes(self, y: Tensor | None) -> Tensor:
        """Rows of each class, up to the largest there is."""
        assert y is not None
        return torch.bincount(y.long())

    def confusion(self, z: Tensor, y: Tensor) -> Tensor:
        """Rows of class i, 0 or 1, that are taken for class j, shape [2, 2]."""
        return torch.bincount(2 * y.long() + (z[0] > 0), minlength=4).view(2, 2)

    def reliability(self, z: Tensor, y: Tensor) -> Reliability:
        """Probabilities of the choices, and how many of them are right."""
        return reliability(torch.sigmoid(z[0].abs()), (z[0] > 0) == (y > 0.5))

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """Observations other than 0 and 1."""
        if told := super().wrong(z, y) or single(z, y, "Bernoulli"):
            return told
        assert y is not None
        if not bool(((y == 0) | (y == 1)).all()):
            return "Bernoulli takes targets 0 and 1, but there are others"
        return None
