r"""Weights of rows against steep gradients of the solution.

Where u is steep, as in a shock, so is the residual, and a few points there are all that
the loss tells of. Rows of a term with ``normalise="gradient"`` are multiplied by

    1 / (1 + c |grad u|),

|grad u| over all coordinates and outputs, in the units of the problem, at a theta that
stays the same within a round: so the loss of a round is a sum of squares as any other.
"""

import torch
from torch import Tensor

from fedsciml.network import Network

STEEP = 1.0
"""c, in units of a coordinate over one of u."""


@torch.enable_grad()
def gentle(network: Network, theta: Tensor, points: Tensor) -> Tensor:
    """1 / (1 + c |grad u|) at points [n, d] and theta [p], shape [n]."""
    x = points.detach().clone().requires_grad_()
    outputs = network(theta.detach(), x)
    total = torch.zeros_like(points[:, 0])
    for output in outputs.unbind(1):
        (slope,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
        total = total + slope.square().sum(1)
    return 1 / (1 + STEEP * total.sqrt())
