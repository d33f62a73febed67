"""Helmholtz equation -Lap u - k^2 u = k^2 sin(k x) sin(k y) on (0, 1)^2, k = 4 pi.

u = 0 on the boundary, as a hard constraint. Exact solution sin(k x) sin(k y).
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor

k = 4 * np.pi


def pde(x: Tensor, y: Tensor) -> Tensor:
    """-Lap u - k^2 u - f."""
    laplacian = dde.grad.hessian(y, x, i=0, j=0) + dde.grad.hessian(y, x, i=1, j=1)
    f = k**2 * torch.sin(k * x[:, 0:1]) * torch.sin(k * x[:, 1:2])
    return -laplacian - k**2 * y - f


def solution(x: np.ndarray) -> np.ndarray:
    """sin(k x) sin(k y)."""
    return np.sin(k * x[:, 0:1]) * np.sin(k * x[:, 1:2])


def hard(x: Tensor, y: Tensor) -> Tensor:
    """x (1 - x) y (1 - y) N."""
    return y * (x * (1 - x)).prod(1, keepdim=True)


geom = dde.geometry.Rectangle([0, 0], [1, 1])
data = dde.data.PDE(geom, pde, [], 900, 0, solution=solution, num_test=1000)
net = dde.nn.FNN([2, 40, 40, 1], "sin", "Glorot uniform")
net.apply_output_transform(hard)

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"])
    model.train(iterations=20000)
