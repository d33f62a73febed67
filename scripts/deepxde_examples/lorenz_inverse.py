"""Unknown coefficients of the Lorenz system from 25 points of a trajectory.

x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z on t in (0, 3) from
(-8, 7, 27), with sigma = 10, rho = 15, beta = 8/3. Trajectory by SciPy's DOP853.
"""

import deepxde as dde
import numpy as np
from scipy.integrate import solve_ivp
from torch import Tensor

sigma, rho, beta = (dde.Variable(1.0) for _ in range(3))
truth = {"sigma": 10.0, "rho": 15.0, "beta": 8 / 3}


def ode(t: Tensor, w: Tensor) -> list[Tensor]:
    """The three equations."""
    x, y, z = w[:, 0:1], w[:, 1:2], w[:, 2:3]
    return [
        dde.grad.jacobian(w, t, i=0) - sigma * (y - x),
        dde.grad.jacobian(w, t, i=1) - x * (rho - z) + y,
        dde.grad.jacobian(w, t, i=2) - x * y + beta * z,
    ]


def lorenz(t: float, w: np.ndarray) -> list[float]:
    """The right-hand side with the true coefficients."""
    x, y, z = w
    return [10 * (y - x), x * (15 - z) - y, x * y - 8 / 3 * z]


trajectory = solve_ivp(
    lorenz, (0, 3), [-8, 7, 27], "DOP853", dense_output=True, rtol=1e-12, atol=1e-12
).sol


def solution(t: np.ndarray) -> np.ndarray:
    """x, y, z at times [n, 1]."""
    return trajectory(t[:, 0]).T


def at_start(t: np.ndarray, on_initial: bool) -> bool:
    """t = 0."""
    return on_initial


geom = dde.geometry.TimeDomain(0, 3)
initial = [
    dde.icbc.IC(geom, lambda t: -8, at_start, component=0),
    dde.icbc.IC(geom, lambda t: 7, at_start, component=1),
    dde.icbc.IC(geom, lambda t: 27, at_start, component=2),
]
times = np.linspace(0, 3, 25)[:, None]
observed = [
    dde.icbc.PointSetBC(times, solution(times)[:, i : i + 1], component=i)
    for i in range(3)
]
data = dde.data.PDE(
    geom,
    ode,
    initial + observed,
    num_domain=400,
    num_boundary=2,
    anchors=times,
    solution=solution,
    num_test=500,
)
net = dde.nn.FNN([1, 30, 30, 30, 3], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    variables = [sigma, rho, beta]
    model.compile("adam", lr=1e-3, external_trainable_variables=variables)
    model.train(iterations=60000)
