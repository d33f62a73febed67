r"""First layers made for waves: what a residual of many waves needs at the start.

A network with weights of about 1 is nearly linear over its box: at the start, the
Jacobian of its values has ten singular values or fewer above 1e-4 of the largest, and
of a residual with more waves than these it sees nothing. First-layer weights that are f
times larger see f times as many waves, and biases that spread the neurons' centres over
the box see them everywhere. But more directions also fit more between the points, so f
should be no larger than is needed.
"""

from math import inf
from typing import Literal

import torch
from torch import Generator, Tensor

from fedsciml.network.units import Corners

First = float | Literal["auto"]
"""A frequency, or that of ``FREQUENCIES`` that suits the problem."""

FREQUENCIES = (1.0, 2.0, 5.0, 10.0)
"""Of which "auto" takes one. With 10, helmholtz' 672 rows had 671 directions and were
fitted to 1e-27 with an error of 0.9; with 2 they had 150."""


def checked_first(first: object) -> First:
    """The frequency as a number, or "auto".

    Raises:
        ValueError: If it is neither.
    """
    if first == "auto":
        return "auto"
    number = isinstance(first, (int, float)) and not isinstance(first, bool)
    if number and 0 < float(first) < inf:  # type: ignore[arg-type]
        return float(first)  # type: ignore[arg-type]
    raise ValueError(
        f"The first layer's frequency is a positive number such as 3, or 'auto'; got "
        f"{first!r}."
    )


def centred(
    shape: tuple[int, int], frequency: float, box: Corners | None, generator: Generator
) -> list[Tensor]:
    """Weights, row by row, and biases of neurons with their centres in a box.

    With x = middle + h z, weights of z are N(0, f^2 / d), and each neuron is zero at a
    point that is uniform in the box.

    Args:
        shape: (out, d) of the weight.
        frequency: f.
        box: Corners; [-1, 1]^d for None.
        generator: Of both.
    """
    out, d = shape
    weight = torch.empty(out, d, dtype=torch.float64, device=generator.device)
    weight.normal_(0, frequency * d**-0.5, generator=generator)
    centre = torch.empty_like(weight).uniform_(-1, 1, generator=generator)
    bias = -(weight * centre).sum(1)
    if box is not None:
        lower, upper = (weight.new_tensor(corner) for corner in box)
        half = (upper - lower) / 2
        weight = weight / torch.where(half > 0, half, torch.ones_like(half))
        bias = bias - weight @ ((lower + upper) / 2)
    return [weight.flatten(), bias]
