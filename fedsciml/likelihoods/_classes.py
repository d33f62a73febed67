"""How well the probabilities of a classifier are calibrated."""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15
"""Of equal width, over the probability that a classifier gives to its choice: as in
Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv 1706.04599."""


class Reliability(NamedTuple):
    """What a classifier says of itself, and what is true, by bins; equal to itself.

    Attributes:
        told: Mean probability that it gives to its choices, shape [b].
        right: Part of them that is right, shape [b].
        rows: How many rows are in a bin, shape [b].
    """

    told: Tensor
    right: Tensor
    rows: Tensor

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


def reliability(told: Tensor, right: Tensor, bins: int = BINS) -> Reliability:
    """Rows by the probability of their choice; bins without rows are left out.

    Args:
        told: Probability given to the choice, shape [n].
        right: Whether it is right, shape [n].
        bins: How many.
    """
    which = (told * bins).long().clamp(0, bins - 1)
    count = torch.bincount(which, minlength=bins)
    some = count > 0
    sums = (
        torch.zeros(bins, dtype=told.dtype, device=told.device).index_add(0, which, x)
        for x in (told, right.to(told))
    )
    means = [(total / count.clamp(min=1))[some] for total in sums]
    return Reliability(means[0], means[1], count[some])


def scores(told: Tensor, right: Tensor) -> dict[str, float]:
    """Accuracy, and expected calibration error; arguments as of ``reliability``."""
    return {
        "accuracy": float(right.to(told).mean()),
        "calibration": calibration(told, right),
    }


def calibration(told: Tensor, right: Tensor) -> float:
    """Expected calibration error: mean of |told - right| over the bins, by rows."""
    found = reliability(told, right)
    off = (found.told - found.right).abs() * found.rows
    return float(off.sum() / found.rows.sum())
