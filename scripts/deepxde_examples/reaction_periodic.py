"""-u'' + u = (1 + pi^2) sin(pi x) on (-1, 1), u and u' periodic.

Exact solution sin(pi x).
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor


def pde(x: Tensor, y: Tensor) -> Tensor:
    """-u'' + u - f."""
    return -dde.grad.hessian(y, x) + y - (1 + np.pi**2) * torch.sin(np.pi * x)


def right(x: np.ndarray, on_boundary: bool) -> bool:
    """x = 1."""
    return on_boundary and dde.utils.isclose(x[0], 1)


geom = dde.geometry.Interval(-1, 1)
value = dde.icbc.PeriodicBC(geom, 0, right)
slope = dde.icbc.PeriodicBC(geom, 0, right, derivative_order=1)
data = dde.data.PDE(
    geom, pde, [value, slope], 60, 2, solution=lambda x: np.sin(np.pi * x), num_test=200
)
net = dde.nn.FNN([1, 30, 30, 30, 1], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"])
    model.train(iterations=10000)
