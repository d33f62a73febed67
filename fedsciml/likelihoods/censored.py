r"""Measurements of which some are only known to lie below or above a limit."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.likelihoods._base import Likelihood, floored

HALF_LOG_2PI = math.log(2 * math.pi) / 2

ROOT_2_OVER_PI = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Censored(Likelihood):
    r"""Normal measurements, some of them beyond a limit of detection (Tobin 1958).

    A target is a pair, [n, 2]: the value, and 0 where it was measured; the limit, and
    -1 where the measurement is only known to lie below it, or 1 where above. With mean
    m and standard deviation s, and a = side (m - limit) / s,

        l = (value - m)^2 / (2 s^2)  or  -log Phi(a),
        H = 1 / s^2                  or  h(a) / s^2,   h = g (g + a),  g = phi / Phi.

    With ``scale`` given the predictor is m. With None there are two, in which the loss
    is convex (Olsen, Econometrica 46, 1978): d = m / s and c = 1 / s, for example the
    network and an unknown number; a measured value then has

        l = (c value - d)^2 / 2 - log(c resolution) + log(2 pi) / 2,

    minus the logarithm of the probability of a reading to within ``resolution``, which
    makes it positive. H is the curvature of l everywhere.

    Args:
        scale: s, in the unit of the values; None to fit it.
        resolution: Of a reading, in the same unit, well below s; where s is fitted.

    Raises:
        ValueError: If a number is not positive.
    """

    scale: float | None = 1.0
    resolution: float = 1e-3

    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.scale is None or self.scale > 0) or not self.resolution > 0:
            raise ValueError(
                "Censored needs a positive scale, or None to fit it, and a positive "
                f"resolution; got {self.scale} and {self.resolution}."
            )

    def half_deviance(self, z: Tensor, y: Tensor | None) -> Tensor:
        """-log of the probability of what is known, shape [n]; inf where c <= 0."""
        off, side, _ = self._read(z, y)
        beyond = -torch.special.log_ndtr(side * off)
        known = off.square() / 2
        if self.scale is None:
            known = known + HALF_LOG_2PI - (z[1] * self.resolution).log()
        return torch.where(side == 0, known, beyond).nan_to_num(torch.inf, torch.inf)

    def score(self, z: Tensor, y: Tensor | None) -> Tensor:
        """By m, or by d and c."""
        off, side, value = self._read(z, y)
        by_d = torch.where(side == 0, off, -side * _hazard(side * off))
        if self.scale is not None:
            return (by_d / self.scale).unsqueeze(0)
        by_c = -value * by_d - torch.where(side == 0, 1 / z[1], 0.0)
        return torch.stack([by_d, by_c])

    def transposed_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """S^T v, of the lower triangle S = [[t, 0], [-value t, 1 / c or 0]]."""
        t, side, value = self._roots(z, y)
        if self.scale is not None:
            return t * v / self.scale
        along = t * (v[0] - value * v[1])
        return torch.stack([along, torch.where(side == 0, v[1] / z[1], 0.0)])

    def inverse_root(self, z: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        """S^+ v, for v as scores are: of a limit, along (1, -limit)."""
        t, side, value = self._roots(z, y)
        if self.scale is not None:
            return v * self.scale / t
        rest = torch.where(side == 0, (v[1] + value * v[0]) * z[1], 0.0)
        return torch.stack([v[0] / t, rest])

    def wrong(self, z: Tensor, y: Tensor | None) -> str | None:
        """Targets that are no pairs, or sides other than -1, 0 and 1."""
        if told := super().wrong(z, y):
            return told
        assert y is not None
        wanted = 1 if self.scale is not None else 2
        if len(z) != wanted:
            return (
                f"Censored with scale {self.scale} takes {wanted} predictor(s) a row, "
                f"but the residual returns {len(z)}"
            )
        if y.ndim != 2 or y.shape[1] != 2:
            return (
                "Censored takes targets [n, 2], values and sides, but they have shape "
                f"{list(y.shape)}"
            )
        if not bool(((y[:, 1] == 0) | (y[:, 1].abs() == 1)).all()):
            return "Censored takes sides -1, 0 and 1, but there are others"
        return None

    def _read(self, z: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(m - value) / s, the side and the value of each row."""
        assert y is not None
        value, side = y.unbind(1)
        if self.scale is not None:
            return (z[0] - value) / self.scale, side, value
        return z[0] - z[1] * value, side, value

    def _roots(self, z: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """sqrt(h), 1 where it was measured; sides and values."""
        off, side, value = self._read(z, y)
        a = side * off
        hazard = _hazard(a)
        h = floored((hazard * (hazard + a)).clamp(min=0))
        return torch.where(side == 0, 1.0, h.sqrt()), side, value


def _hazard(a: Tensor) -> Tensor:
    """phi(a) / Phi(a), to rounding also where both vanish."""
    return ROOT_2_OVER_PI / torch.special.erfcx(-a / math.sqrt(2))
