"""A trained network as a ``torch.nn.Module`` of its own."""

import torch
from torch import Tensor

from fedsciml.network.base import Network


class Solution(torch.nn.Module):
    """u(x) at theta: points [n, d] to values [n, c], both in the problem's own units.

    Features, units, hard constraints and transforms of the network are in it. It is
    differentiable by torch in points and parameters, and knows no mode of training.
    ``torch.export`` makes of it a program that needs torch alone, where the functions
    of the network are torch's:

        points, n = torch.rand(2, d, dtype=torch.float64), torch.export.Dim("n")
        program = torch.export.export(module, (points,), dynamic_shapes=({0: n},))
        torch.export.save(program, "u.pt2")
        torch.export.load("u.pt2").module()(points)

    Args:
        network: Whose theta it is.
        theta: Trained parameters, shape [p]; copied.
        inputs: Number of coordinates d; not checked if not given.

    Attributes:
        theta: All parameters in one, shape [p], the unknown numbers among them.
    """

    def __init__(
        self, network: Network, theta: Tensor, inputs: int | None = None
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.theta = torch.nn.Parameter(theta.detach().clone())
        # In a list: parameters of a module in the network are not the solution's.
        self._networks = [network]

    def forward(self, points: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], taken in the precision of theta.

        Raises:
            ValueError: If the points have another shape.
        """
        d = self.inputs
        if d is not None and (points.ndim != 2 or points.shape[1] != d):
            raise ValueError(
                f"The module takes points [n, {d}]; got shape {list(points.shape)}."
            )
        return self._networks[0](self.theta, points.to(self.theta))
