r"""What a likelihood is: half a deviance, its slope, and a root of its curvature.

A row has predictors z [q] and, mostly, an observation y. The loss of a row is half its
deviance l(z, y) >= 0, and H = S S^T stands for its curvature by z: Fisher's
information, or the weights of iterated least squares. Gauss-Newton's rows are then

    J = S^T dz/dtheta,    r = S^+ dl/dz    (the Pearson residual),

so that J^T r is the gradient of the loss, exactly, and J^T J the generalised
Gauss-Newton matrix (Schraudolph, Neural Computation 14, 2002). With l = z^2 / 2 both
are what they are for squares. Predictors come as [q, n], all n rows at once.
"""

from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._classes import Reliability


class Likelihood:
    """Base of all likelihoods: frozen dataclasses of numbers.

    Where H is diagonal, a subclass gives ``half_deviance``, ``score`` and
    ``information`` alone.

    Attributes:
        observes: Whether it reads the term's target; if not, the predictor is itself
            the difference of prediction and observation.
        bounded: Whether |r|^2 <= 2 l of every row.
        exact: Whether H is the curvature of l, so that r changes by S^T dz where z
            changes by a little dz, S held fixed.
    """

    observes: ClassVar[bool] = True
    bounded: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """l, half the deviance of each row, at least 0, shape [n].

        Args:
            z: Predictors, shape [q, n].
            y: Observations, shape [n] or [n, k]; None where it reads none.
        """
        raise NotImplementedError

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """dl/dz, shape [q, n]."""
        raise NotImplementedError

    def information(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The diagonal of H, positive, shape [q, n]."""
        raise NotImplementedError

    def transposed_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """S^T v, linear in v [q, n]; shape [q', n], q' residuals a row."""
        return self.information(z, y).sqrt() * v

    def inverse_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """S^+ v for v [q, n], as scores are; shape [q', n]."""
        return v / self.information(z, y).sqrt()

    def pearson(self, z: Tensor, y: Tensor | None) -> Tensor:
        """S^+ dl/dz, shape [q', n]."""
        return self.inverse_root(z, y, self.score(z, y))

    def metrics(self, z: Tensor, y: Tensor | None) -> dict[str, float]:
        """How good predictors are, by name: the mean deviance, and what it knows."""
        return {"deviance": 2 * float(self.half_deviance(z, y).mean())}

    def classes(self, y: Tensor | None) -> Tensor | None:
        """Rows of each class among observations, [C]; None without classes."""
        return None

    def confusion(self, z: Tensor, y: Tensor) -> Tensor | None:
        """Rows of class i that are taken for class j, [C, C]; None without classes."""
        return None

    def reliability(self, z: Tensor, y: Tensor) -> Reliability | None:
        """Probabilities of choices, and how many are right; None without classes."""
        return None

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """What cannot be in predictors [q, n] and observations; None if all can.

        It tells no observation: the words may leave the site that holds them.
        """
        if self.observes and y is None:
            return (
                f"{type(self).__name__} compares what the residual returns with the "
                "term's target, which is missing; give Term(target=...)"
            )
        return None


def floored(information: Tensor) -> Tensor:
    """Information without units, no smaller than a rounding unit.

    A row whose information vanishes to rounding keeps a finite residual; its gradient
    stays exact, as S and S^+ are of the same H.
    """
    return information + torch.finfo(information.dtype).eps


def single(z: Tensor, y: Tensor | None, name: str) -> str | None:
    """What is wrong where one predictor has one observation; None if nothing is."""
    if len(z) != 1:
        return f"{name} takes one predictor a row, but the residual returns {len(z)}"
    assert y is not None
    if y.ndim != 1:
        return f"{name} takes one observation a row, but the target has {y.shape[1]}"
    return None
