"""Trajectories from start 0, beside those of centralised Gauss-Newton."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from experiments import _record
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.inprocess import LocalClients as Clients
from fedsciml.methods import Method, conclude
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem
from fedsciml.residual import System

RECORD = "trajectory.json"
KEY = ("problem", "sweep", "value", "kind")
LENGTH = 0.5
LEAST = 1e-17
"""A gap of zero is drawn as this."""


def started(problem: Problem, seed: int = 0) -> Tensor:
    """theta of a start, shape [p]."""
    return problem.network.init(torch.Generator().manual_seed(seed), torch.float64)


def openings(
    problem: Problem, method: Method, seed: int = 0
) -> Iterator[tuple[Any, Clients]]:
    """The first ask of each round from a start on, and the clients, without end."""
    clients = InProcess().connect(problem, method)
    state = method.start(started(problem, seed), seed)
    while True:
        yield next(method.round(state)), clients
        state, _ = conclude(method.round(state), clients.exchange)


def policy(problem: Problem, damping: float) -> Fixed:
    """A step that is always the same, damped relative to s_1^2 at the start."""
    pooled = System(problem, problem.pooled())
    jacobian = pooled.linearise(started(problem)).jacobian()
    top = float(torch.linalg.matrix_norm(jacobian, 2))
    return Fixed(LENGTH, damping * top**2, 0.0)


def trajectory(
    problem: Problem, method: Method, rounds: int
) -> tuple[list[Tensor], list[float]]:
    """Where a method stands after each round from start 0, and the losses there.

    It ends early where the loss is no longer finite.
    """
    whole = System(problem, problem.pooled())
    points: list[Tensor] = []
    losses: list[float] = []
    for opening, _ in islice(openings(problem, method), 1, rounds + 1):
        loss = whole.loss(opening.theta)
        if not math.isfinite(loss):
            break
        points.append(opening.theta)
        losses.append(loss)
    return points, losses


def descended(relative: Tensor, epochs: int) -> Tensor:
    """What gradient descent has done of each direction: 1 - (1 - eta lambda)^tau.

    Args:
        relative: eta lambda in [0, 1] of each eigenvalue, any shape.
        epochs: tau.
    """
    return -torch.expm1(epochs * torch.log1p(-relative.clamp(max=1)))


def short(values: Iterable[float]) -> list[float]:
    """The values with four digits."""
    return [_record.short(value) for value in values]
