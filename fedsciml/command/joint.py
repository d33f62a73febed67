"""Is FIPA's step with personal parameters eliminated that of all parameters together?

At the start and after some rounds, where clients have f of their own: a round of the
federation with exact local steps, nothing truncated, a fixed mu_s and mu_f = mu_s,
relative to the largest eigenvalue of J_s^T J_s. The independent computation is the
least-squares problem of all clients' rows by (theta_s, f_1, ..., f_S),

    [J; diag(sqrt mu)] (D, d_1, ..., d_S) ~ [-r; 0],

by Householder QR. What is compared is the move of theta_s and of all f.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsciml import methods, problems
from fedsciml.command.verification import (
    DAMPINGS,
    EPS,
    PROMISED,
    ROUNDS,
    SAFETY,
    TOLERANCE,
    Check,
    damped,
    relative,
)
from fedsciml.federation import run
from fedsciml.federation.inprocess import LocalClients
from fedsciml.linalg.ranks import Fixed as FixedRank
from fedsciml.methods import conclude
from fedsciml.methods._fipa import Fipa
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem
from fedsciml.residual import System, Together
from fedsciml.wrappers.personal import Memory, Personal, State, Way


def joint(name: str) -> list[Check]:
    """All checks of a problem."""
    found = list[Check]()
    for rounds in ROUNDS:
        problem = problems.load(name)
        theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
        assert problem.personal is not None
        values = problem.personal.values.expand(problem.clients, -1)
        if rounds:
            reached = run(problem, methods.load("fipa"), rounds, progress=False)
            theta = reached.theta
            values = torch.stack([reached.personal[m] for m in range(problem.clients)])
        found += compared(f"{name}, round {rounds}", problem, theta, values)
    return found


def compared(
    place: str, problem: Problem, theta: Tensor, values: Tensor
) -> Sequence[Check]:
    """A round against the joint step, at theta [p_s] and f [S, p_f]."""
    whole = Together(System(problem, problem.pooled()))
    linear = whole.linearise(whole.joined(theta, values))
    j, r = linear.jacobian(), linear.residual
    top, found = float(torch.linalg.matrix_norm(j[:, : len(theta)], 2)), []
    length = float(torch.cat([theta, values.flatten()]).norm())
    widest = float(torch.linalg.matrix_norm(j, 2))
    levels = [damping for damping in DAMPINGS if damping >= PROMISED]
    mus = [level * top**2 for level in levels]
    for level, mu, exact in zip(levels, mus, damped(j, r, mus), strict=True):
        step = whole.joined(*taken(problem, theta, values, mu))
        condition = widest / mu**0.5
        angle = float((j @ exact + r).norm() / exact.norm()) / top
        moved = length / float(exact.norm())  # a move is a difference of parameters
        bound = SAFETY * EPS * (condition + condition**2 * angle + moved)
        if bound < 1:  # else the step is rounding: the run has converged
            gap, limit = relative(step, exact), max(TOLERANCE, bound)
            found.append(Check(place, f"fipa, mu = {level:g}", gap, limit))
    return found


def taken(
    problem: Problem, theta: Tensor, values: Tensor, mu: float
) -> tuple[Tensor, Tensor]:
    """How far a round of the federation moves theta [p_s] and all f [S, p_f]."""
    inner = Fipa(Fixed(1.0, mu, 0.0), FixedRank(len(theta)), sketch="svd")
    method = Personal(inner)
    clients = LocalClients(problem, method.bound(problem))
    clients.memories = {
        m: Memory(values[m : m + 1], values[m : m + 1]) for m in clients.memories
    }
    state = State(theta, inner.start(theta, 0), Way(0, 0.0, 1, 0), mu)
    after, _ = conclude(method.round(state), clients.exchange)
    own = []
    for m, system in enumerate(clients.systems):
        memory = clients.memories[m]
        assert isinstance(memory, Memory)
        own.append(method.own(system, after, memory))
    return after.theta - theta, torch.cat(own) - values
