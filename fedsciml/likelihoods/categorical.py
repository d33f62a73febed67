"""Classes: the predictors are the C logits."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._base import Likelihood
from fedsciml.likelihoods._classes import Reliability, reliability, scores


@dataclass(frozen=True)
class Categorical(Likelihood):
    r"""y is class c with probability q_c, q = softmax(z), z [C].

        l = -log q_y,    dl/dz = q - e_y,    H = diag(q) - q q^T = S S^T,
        S = diag(sqrt q) - q sqrt(q)^T

    The columns of S are orthogonal to sqrt(q). Householder's reflection that takes
    sqrt(q) to -e_1 leaves them C - 1 entries, so that a row has C - 1 residuals.

    Targets are numbers of classes, 0 to C - 1.
    """

    exact: ClassVar[bool] = True

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """-log q_y, shape [n]."""
        return -_at(torch.log_softmax(z, 0), y)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """q - e_y."""
        assert y is not None
        q = torch.softmax(z, 0)
        one = torch.ones_like(q[:1])
        return q.scatter_add(0, y.long().unsqueeze(0), -one)

    def transposed_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """sqrt(q) (v - q . v), reflected, without its first entry; shape [C - 1, n]."""
        s = _root(z)
        return _reflected(s, s * (v - (s.square() * v).sum(0)))

    def inverse_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """v / sqrt(q), likewise, for v whose entries sum to 0 as those of scores do."""
        s = _root(z)
        x = v / s
        return _reflected(s, x - s * (s * x).sum(0))

    def metrics(self, z: Tensor, y: Tensor | None) -> dict[str, float]:
        """Deviance, accuracy, and expected calibration error."""
        assert y is not None
        told, choice = torch.softmax(z, 0).max(0)
        right = choice == y
        return super().metrics(z, y) | scores(told, right)

    def classes(self, y: Tensor | None) -> Tensor:
        """Rows of each class, up to the largest there is."""
        assert y is not None
        return torch.bincount(y.long())

    def confusion(self, z: Tensor, y: Tensor) -> Tensor:
        """Rows of class i that are taken for class j, shape [C, C]."""
        c = len(z)
        return torch.bincount(y.long() * c + z.argmax(0), minlength=c * c).view(c, c)

    def reliability(self, z: Tensor, y: Tensor) -> Reliability:
        """Probabilities of the choices, and how many of them are right."""
        told, choice = torch.softmax(z, 0).max(0)
        return reliability(told, choice == y)

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """Observations that are no number of a class."""
        if told := super().wrong(z, y):
            return told
        assert y is not None
        if len(z) < 2 or y.ndim != 1:
            return (
                "Categorical takes at least two predictors a row, the logits, as in "
                "return u.values, and the number of the class as target; the residual "
                f"returns {len(z)}, and the target has shape {list(y.shape)}"
            )
        whole = (y == y.round()) & (y >= 0) & (y < len(z))
        if not bool(whole.all()):
            return (
                f"Categorical takes targets 0 to {len(z) - 1}, as the residual returns "
                f"{len(z)} logits, but there are others. Number the classes from 0"
            )
        return None


def _at(values: Tensor, y: Tensor | None) -> Tensor:
    """The entry of each row's class, shape [n]."""
    assert y is not None
    return values.gather(0, y.long().unsqueeze(0)).squeeze(0)


def _root(z: Tensor) -> Tensor:
    """sqrt(q), shape [C, n]; no q is below a rounding unit."""
    eps = torch.finfo(z.dtype).eps
    return ((torch.softmax(z, 0) + eps) / (1 + len(z) * eps)).sqrt()


def _reflected(s: Tensor, x: Tensor) -> Tensor:
    """Householder's reflection of x that takes unit vectors s to -e_1, shape [C, n].

    The first entry is left out: it is 0 where x is orthogonal to s.
    """
    return x[1:] - s[1:] * ((s * x).sum(0) + x[0]) / (1 + s[0])
