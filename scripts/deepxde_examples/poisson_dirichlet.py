"""Poisson equation -u'' = pi^2 sin(pi x) on (-1, 1), u(-1) = u(1) = 0.

Exact solution sin(pi x).
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor


def pde(x: Tensor, y: Tensor) -> Tensor:
    """-u'' - f."""
    return -dde.grad.hessian(y, x) - np.pi**2 * torch.sin(np.pi * x)


def solution(x: np.ndarray) -> np.ndarray:
    """sin(pi x)."""
    return np.sin(np.pi * x)


geom = dde.geometry.Interval(-1, 1)
bc = dde.icbc.DirichletBC(geom, lambda x: 0, lambda x, on_boundary: on_boundary)
data = dde.data.PDE(geom, pde, bc, 60, 2, solution=solution, num_test=200)
net = dde.nn.FNN([1, 30, 30, 30, 1], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"])
    model.train(iterations=10000)
