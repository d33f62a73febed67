r"""A solution whose derivatives by torch.autograd are read from a jet.

The values u [n, c] that ``field`` returns are on the autograd graph of the points
x [n, d]: the derivative of a channel along coordinate i is the channel one order up,

    d u_{i_1..i_k} / d x_i = u_{i_1..i_k i},

read from a jet that is known already, and again on the graph. So any nested
``torch.autograd.grad(u, x, create_graph=True)`` gives the derivatives of the solution,
of any order, without going through the network, and its result is on the graph of the
channels. This serves residuals that differentiate by themselves, as those written with
``deepxde.grad``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from fedsciml.network.jet import VALUE, Channel, Index

Read = Callable[[Channel], Tensor]
"""Gives a channel of the solution, shape [n, c]."""

Context = Any
"""Torch's record of a function's forward pass, for its backward pass."""

SCALES = (1.0, 1e-3, 1e3)
"""Scales of the random jets in ``needed``: a branch that only small or only large
derivatives take is taken by one of them."""

DRAWS = 64
"""Least number of random values of a channel at each scale: a branch that a share q of
the jets takes is missed with probability (1 - q)^DRAWS."""


def field(read: Read, x: Tensor) -> Tensor:
    """The values [n, c] as a function of the points x [n, d], a leaf of the graph."""
    values: Tensor = _Partial.apply(x, read(VALUE), read, ())
    return values


class _Partial(torch.autograd.Function):
    """A partial derivative of the solution: one channel, as a function of x."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, values: Tensor, read: Read, index: Index
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.read, ctx.index = read, index
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Context, bar: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slopes = []
        for i in range(x.shape[1]):
            index = tuple(sorted((*ctx.index, i)))
            slope = _Partial.apply(x, ctx.read((index,)), ctx.read, index)
            slopes.append((bar * slope).sum(-1))
        return torch.stack(slopes, dim=-1), bar, None, None


def _drawn(
    jet: dict[Channel, Tensor],
    points: Tensor,
    outputs: int,
    scale: float,
    generator: Generator,
    channel: Channel,
) -> Tensor:
    """A channel of a random jet, drawn when it is first read."""
    if channel not in jet:
        shape = (len(points), outputs)
        draw = scale * torch.randn(shape, generator=generator, device="cpu")
        jet[channel] = draw.to(points).requires_grad_()
    return jet[channel]


def needed(
    evaluate: Callable[[Read], Tensor], points: Tensor, outputs: int
) -> list[Channel]:
    """The channels on which a residual depends, found at random jets.

    Args:
        evaluate: Residuals [q, n] from the channels, by ``field``.
        points: Shape [n, d].
        outputs: Number c of outputs.

    Returns:
        The channels with respect to which the derivative of a residual is not exactly
        zero at one of the random jets. Autograd computes whole gradients, so more
        channels are read than matter.
    """
    found = dependence(evaluate, points, outputs)
    return sorted({VALUE, *found}, key=lambda channel: (len(channel[0]), channel))


def dependence(
    evaluate: Callable[[Read], Tensor], points: Tensor, outputs: int
) -> dict[Channel, Tensor]:
    """As ``needed``: of which outputs, booleans [c], each of the channels matters."""
    generator = Generator().manual_seed(0)
    found: dict[Channel, Tensor] = {}
    for scale in SCALES * max(1, DRAWS // max(1, len(points))):
        jet: dict[Channel, Tensor] = {}
        read = partial(_drawn, jet, points, outputs, scale, generator)
        residuals = evaluate(read)
        if not residuals.requires_grad:
            continue
        channels, leaves = zip(*jet.items(), strict=True)
        bars = torch.autograd.grad(residuals.sum(), leaves, allow_unused=True)
        for channel, bar in zip(channels, bars, strict=True):
            if bar is not None and bool((bar != 0).any()):
                matters = (bar != 0).any(0)
                found[channel] = matters | found.get(channel, matters)
    return found
