"""Kovasznay flow: stationary Navier-Stokes, Re = 20, on (-0.5, 1) x (-0.5, 1.5).

u = 1 - exp(l x) cos(2 pi y), v = l / (2 pi) exp(l x) sin(2 pi y),
p = (1 - exp(2 l x)) / 2 with l = Re / 2 - sqrt(Re^2 / 4 + 4 pi^2) (Kovasznay 1948);
given on the boundary, the pressure on the right side alone.
"""

import deepxde as dde
import numpy as np
from torch import Tensor

Re = 20
nu = 1 / Re
decay = 1 / (2 * nu) - np.sqrt(1 / (4 * nu**2) + 4 * np.pi**2)


def pde(x: Tensor, w: Tensor) -> list[Tensor]:
    """Momentum along x and y, and the divergence."""
    u, v = w[:, 0:1], w[:, 1:2]
    (u_x, u_y), (v_x, v_y), (p_x, p_y) = (
        [dde.grad.jacobian(w, x, i=i, j=j) for j in range(2)] for i in range(3)
    )
    u_xx, u_yy = (dde.grad.hessian(w, x, component=0, i=j, j=j) for j in range(2))
    v_xx, v_yy = (dde.grad.hessian(w, x, component=1, i=j, j=j) for j in range(2))
    return [
        u * u_x + v * u_y + p_x - nu * (u_xx + u_yy),
        u * v_x + v * v_y + p_y - nu * (v_xx + v_yy),
        u_x + v_y,
    ]


def solution(x: np.ndarray) -> np.ndarray:
    """u, v, p."""
    e, y = np.exp(decay * x[:, 0:1]), 2 * np.pi * x[:, 1:2]
    return np.hstack(
        [1 - e * np.cos(y), decay / (2 * np.pi) * e * np.sin(y), (1 - e**2) / 2]
    )


def anywhere(x: np.ndarray, on_boundary: bool) -> bool:
    """The whole boundary."""
    return on_boundary


def outflow(x: np.ndarray, on_boundary: bool) -> bool:
    """x = 1."""
    return on_boundary and dde.utils.isclose(x[0], 1)


geom = dde.geometry.Rectangle([-0.5, -0.5], [1, 1.5])
bcs = [
    dde.icbc.DirichletBC(geom, lambda x: solution(x)[:, 0:1], anywhere, component=0),
    dde.icbc.DirichletBC(geom, lambda x: solution(x)[:, 1:2], anywhere, component=1),
    dde.icbc.DirichletBC(geom, lambda x: solution(x)[:, 2:3], outflow, component=2),
]
data = dde.data.PDE(geom, pde, bcs, 600, 160, solution=solution, num_test=1000)
net = dde.nn.FNN([2, 20, 20, 20, 3], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    model.train(iterations=30000)
    model.compile("L-BFGS")
    model.train()
