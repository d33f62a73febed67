"""Poisson equation -Lap u = 2 pi^2 sin(pi x) sin(pi y) on an L-shape, u = 0 around it.

The square (-1, 1)^2 without its quarter x > 0, y < 0. Exact solution
sin(pi x) sin(pi y), which vanishes on all six sides.
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor


def pde(x: Tensor, y: Tensor) -> Tensor:
    """-Lap u - f."""
    laplacian = dde.grad.hessian(y, x, i=0, j=0) + dde.grad.hessian(y, x, i=1, j=1)
    source = torch.sin(np.pi * x[:, 0:1]) * torch.sin(np.pi * x[:, 1:2])
    return -laplacian - 2 * np.pi**2 * source


def solution(x: np.ndarray) -> np.ndarray:
    """sin(pi x) sin(pi y)."""
    return np.sin(np.pi * x[:, 0:1]) * np.sin(np.pi * x[:, 1:2])


# What is cut away sticks out, so that none of the square's own sides stays boundary.
geom = dde.geometry.Rectangle([-1, -1], [1, 1]) - dde.geometry.Rectangle(
    [0, -2], [2, 0]
)
bc = dde.icbc.DirichletBC(geom, lambda x: 0, lambda x, on_boundary: on_boundary)
data = dde.data.PDE(geom, pde, bc, 1200, 240, solution=solution, num_test=1000)
net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot uniform")
loss_weights = [1, 100]

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, loss_weights=loss_weights)
    model.train(iterations=20000)
