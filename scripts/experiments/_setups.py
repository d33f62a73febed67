"""Ordinary set-ups whose honest sites differ in size: other units, rows, numbers.

Most are DeepXDE models as users write them, in raw coordinates. ``SETUPS`` names each
with a function of the number of clients and a seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml import MLP, Problem, Term, collocation, methods, problems, run
from fedsciml import deepxde as federated
from fedsciml.deepxde import deepxde
from fedsciml.network.jet import Jet
from fedsciml.problem import Row

Setup = Callable[[int, int], Problem]
Equation = Callable[[Tensor, Tensor], Tensor]

ALONE = 25
"""Rounds of the client that trains before the others."""


def second(x: Tensor, y: Tensor, i: int = 0) -> Tensor:
    """The second derivative in a direction."""
    found: Tensor = deepxde().grad.hessian(y, x, i=i, j=i)
    return found


def model(
    geometry: Any,  # noqa: ANN401
    pde: Equation,
    conditions: Sequence[Any],
    clients: int,
    seed: int,
    points: tuple[int, int] = (60, 2),
    weights: Sequence[float] | None = None,
) -> Problem:
    """A DeepXDE model with FNN 20-20; ``points`` inside and on the boundary."""
    dde = deepxde()
    dde.config.set_random_seed(seed)
    data = dde.data.PDE(geometry, pde, conditions, *points)
    net = dde.nn.FNN([geometry.dim, 20, 20, 1], "tanh", "Glorot normal")
    return federated.problem(data, net, weights, clients=clients)


def near(axis: int, value: float) -> Callable[[np.ndarray, bool], bool]:
    """Whether a point is where a coordinate has this value."""
    return lambda x, on: bool(on and np.isclose(x[axis], value))


def everywhere(x: np.ndarray, on: bool) -> bool:
    """The whole boundary."""
    del x
    return on


def dirichlet(
    geometry: Any,  # noqa: ANN401
    value: float | Callable[[np.ndarray], np.ndarray],
    where: Callable[[np.ndarray, bool], bool] = everywhere,
) -> Any:  # noqa: ANN401
    """u is given, by a number or as a function of the points."""
    given = value if callable(value) else lambda x: value
    return deepxde().icbc.DirichletBC(geometry, given, where)


def poisson(length: float, clients: int, seed: int) -> Problem:
    """u'' = 1 on [0, length], u = 0 at both ends."""
    line = deepxde().geometry.Interval(0, length)
    ends = [dirichlet(line, 0)]
    return model(line, lambda x, y: second(x, y) - 1, ends, clients, seed)


def oscillation(clients: int, seed: int) -> Problem:
    """u'' + u = 0 on [0, 10], u(0) = 0, u(10) = sin 10."""
    line = deepxde().geometry.Interval(0, 10)
    ends = [dirichlet(line, lambda x: np.sin(x))]
    return model(line, lambda x, y: second(x, y) + y, ends, clients, seed)


def beam(clients: int, seed: int) -> Problem:
    """1e-3 u'''' = 1e-3 on [0, 1], u = 0 and u' = 0 at both ends."""
    dde = deepxde()
    line = dde.geometry.Interval(0, 1)
    ends = [dirichlet(line, 0), dde.icbc.NeumannBC(line, lambda x: 0, everywhere)]

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return 1e-3 * second(x, second(x, y)) - 1e-3

    return model(line, pde, ends, clients, seed)


def plate(clients: int, seed: int) -> Problem:
    """Laplace on 10 x 1; u = 0 and 1 at the two ends, nothing at the sides."""
    strip = deepxde().geometry.Rectangle([0, 0], [10, 1])
    ends = [dirichlet(strip, 0, near(0, 0)), dirichlet(strip, 1, near(0, 10))]

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return second(x, y) + second(x, y, 1)

    return model(strip, pde, ends, clients, seed, (150, 60))


def darcy(sides: bool, clients: int, seed: int) -> Problem:
    """div(k grad p) = 0, k = 1e-3; p at inlet and outlet, or p = 1 - x on all sides."""
    square = deepxde().geometry.Rectangle([0, 0], [1, 1])
    conditions = (
        [dirichlet(square, lambda x: 1 - x[:, :1])]
        if sides
        else [dirichlet(square, 1, near(0, 0)), dirichlet(square, 0, near(0, 1))]
    )

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return 1e-3 * (second(x, y) + second(x, y, 1))

    return model(square, pde, conditions, clients, seed, (150, 60))


def decay(value: float, weight: float, clients: int, seed: int) -> Problem:
    """y' = -y on [0, 10], y(0) given with a weight."""
    dde = deepxde()
    time = dde.geometry.TimeDomain(0, 10)
    start = dde.icbc.IC(time, lambda x: value, lambda x, on: on)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = dde.grad.jacobian(y, x) + y
        return found

    return model(time, pde, [start], clients, seed, weights=[1, weight])


def hot(clients: int, seed: int) -> Problem:
    """u_t = u_xx on (0, 1)^2, u = 100 K at one end, 0 K at the other and at t = 0."""
    dde = deepxde()
    square = dde.geometry.Rectangle([0, 0], [1, 1])
    conditions = [
        dirichlet(square, 100, near(0, 0)),
        dirichlet(square, 0, near(0, 1)),
        dirichlet(square, 0, near(1, 0)),
    ]

    def pde(x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = dde.grad.jacobian(y, x, i=0, j=1) - second(x, y)
        return found

    return model(square, pde, conditions, clients, seed, (150, 60))


def materials(clients: int, seed: int) -> Problem:
    """k u'' = -1 on [0, 1], u = 0 at both ends; k = 1.38 below 1/2, 400 above."""
    line = deepxde().geometry.Interval(0, 1)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x < 0.5, 1.38, 400.0) * second(x, y) + 1

    return model(line, pde, [dirichlet(line, 0)], clients, seed)


def warm(clients: int, seed: int) -> Problem:
    """allen_cahn from a model that the first client has trained alone."""
    made = problems.load("allen_cahn", clients=clients)
    alone = run(made.alone(0), methods.load("fipa"), ALONE, seed, progress=False)
    return replace(made, network=replace(made.network, start=alone.theta))  # type: ignore[type-var]


def unequal(clients: int, seed: int) -> Problem:
    """sin 6x measured at 5 points by each client but the last, which has 5000."""
    random = Generator().manual_seed(seed)
    edges = [k / clients for k in range(clients + 1)]
    few = [
        edges[k] + collocation.uniform(5, [0], [1 / clients], random)
        for k in range(clients - 1)
    ]
    many = edges[-2] + collocation.uniform(5000, [0], [1 / clients], random)

    def given(u: Jet, row: Row) -> Tensor:
        return u.value - row.target

    term = Term(
        "data", given, torch.cat([*few, many]), lambda x: torch.sin(6 * x[:, 0])
    )
    return Problem("unequal", MLP((1, 8, 1)), [term], collocation.strips(edges))


SETUPS: dict[str, Setup] = {
    **{f"u'' = 1 on [0, {n}]": partial(poisson, n) for n in (5, 10, 30)},
    "u'' + u = 0 on [0, 10]": oscillation,
    "1e-3 u'''' = 1e-3": beam,
    "Laplace on 10 x 1": plate,
    "Darcy, inlet and outlet": partial(darcy, False),
    "Darcy, all sides": partial(darcy, True),
    "y' = -y": partial(decay, 1.0, 1.0),
    "y' = -y, y(0) weighted 1e6": partial(decay, 1.0, 1e6),
    "y' = -y, y(0) = 1000": partial(decay, 1000.0, 1.0),
    "heat from 100 K": hot,
    "materials of 1.38 and 400": materials,
    "allen_cahn, warm start": warm,
    "sites of 5 and 5000 points": unequal,
}
"""By name."""
