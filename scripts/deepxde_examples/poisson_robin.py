"""Poisson equation u'' = exp(x) on (-1, 1), -u'(-1) = -exp(-1), u'(1) = u(1).

Neumann's condition on the left, Robin's on the right. Exact solution exp(x).
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u'' - exp(x)."""
    return dde.grad.hessian(y, x) - torch.exp(x)


def left(x: np.ndarray, on_boundary: bool) -> bool:
    """x = -1."""
    return on_boundary and dde.utils.isclose(x[0], -1)


def right(x: np.ndarray, on_boundary: bool) -> bool:
    """x = 1."""
    return on_boundary and dde.utils.isclose(x[0], 1)


geom = dde.geometry.Interval(-1, 1)
neumann = dde.icbc.NeumannBC(geom, lambda x: -np.exp(-1), left)
robin = dde.icbc.RobinBC(geom, lambda x, y: y, right)
data = dde.data.PDE(
    geom, pde, [neumann, robin], 40, 2, solution=lambda x: np.exp(x), num_test=200
)
net = dde.nn.FNN([1, 20, 20, 20, 1], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"])
    model.train(iterations=10000)
