"""Beside JAX: residual with Jacobian, and a round beside Levenberg-Marquardt.

JAX is in an environment of its own and runs in a process of its own; both programs are
timed in turn, on the same core, with one thread each, in CPU seconds. JAX has what was
best for it, see ``_jax_peer``, and huge pages for its arrays.

1. Residual with Jacobian: 900 rows of a 2-D Laplacian, p = 1185; and poisson2d as it
   is published, 5200 rows, p = 2241. The numbers of both agree to 1e-13.
2. A round of FIPA with 2 clients on poisson2d, in the settled phase, from round 11 on:
   by default options, and with own sketches. Beside it a step of Levenberg-Marquardt,
   one compiled call: residual, Jacobian, step, and the loss there; by Cholesky of
   J^T J + mu, and by QR of [J; sqrt(mu)]. A round probes some twenty points, the step
   is judged at one.

Three starts, some minutes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

import torch
from torch import Generator, Tensor

from experiments import _peer
from experiments._experiment import Experiment
from experiments._peer import Part, Peer, one_core
from experiments._record import Entry, grouped, select, short
from experiments._rounds import Rounds
from experiments._table import Cell, Table, time_of
from experiments.speed import laplacian_problem
from fedsciml import MLP, methods, problems
from fedsciml.problem import Problem
from fedsciml.residual import System

OURS = "fedsciml"
ROUNDS = {"fedsciml, a round": {}, "fedsciml, a round, own sketches": {"basis": "own"}}
"""Options of FIPA."""

WARM = 10
"""Rounds before those that are timed."""

CLOSE, STEP_CLOSE = 1e-13, 1e-9
"""Relative differences of residuals and Jacobians; of damped steps, whose condition is
1e3, its square of a gramian, and of the losses there."""

DAMPING = 1e-6
"""mu, relative to |J|_F^2."""

CASES = {
    "laplacian": "Residual with Jacobian, 2-D Laplacian, 900 rows, p = 1185, CPU time:",
    "poisson2d": "Residual with Jacobian, poisson2d, 5200 rows, p = 2241, CPU time:",
    "round": "A settled round, poisson2d, 5200 rows, p = 2241, CPU time:",
}
"""What is compared, and the caption of its table."""


def parts(problem: Problem, signs: tuple[float, ...]) -> list[Part]:
    """The rows of all clients, for JAX; a sign of the Laplacian for each term."""
    found = []
    for sign, rows in zip(signs, problem.pooled().rows, strict=True):
        target = rows.target
        if target is None:
            target = rows.points.new_zeros(len(rows.points))
        found.append(Part(sign, rows.weight, rows.points, target))
    return found


def jacobians(
    problem: Problem, signs: tuple[float, ...], start: int, turns: int
) -> list[Entry]:
    """Seconds of each way to residual and Jacobian.

    Raises:
        RuntimeError: If JAX finds other numbers.
    """
    network = problem.network
    assert isinstance(network, MLP)
    theta = network.init(Generator().manual_seed(start), torch.float64)
    system = System(problem, problem.pooled())

    def ours() -> tuple[Tensor, Tensor]:
        linear = system.linearise(theta)
        return linear.residual, linear.jacobian()

    buffer = ours()[1]

    def own(into: Tensor | None) -> float:
        begin = time.process_time()
        system.linearise(theta).jacobian(into)
        return time.process_time() - begin

    with one_core(), Peer(network.widths, parts(problem, signs)) as peer:
        calls: dict[str, Callable[[], float]] = {
            OURS: partial(own, None),
            f"{OURS}, into the same memory": partial(own, buffer),
        }
        differences = {}
        for way in peer.ways:
            name = f"JAX, {way}"
            far = max(map(_difference, peer.found(way, theta), ours()))
            if not far < CLOSE:
                raise RuntimeError(f"{name} differs from fedsciml by {far:.1e}.")
            differences[name] = far
            calls[name] = partial(peer.seconds, way, theta)
        seconds = in_turn(calls, turns)
    return entries(problem, seconds, differences)


def rounds(
    problem: Problem, signs: tuple[float, ...], start: int, turns: int
) -> list[Entry]:
    """Seconds of a settled round, beside steps of Levenberg-Marquardt."""
    network, cpu = problem.network, torch.device("cpu")
    assert isinstance(network, MLP)
    theta = network.init(Generator().manual_seed(start), torch.float64)
    with one_core(), Peer(network.widths, parts(problem, signs)) as peer:
        mu, differences = damped(problem, peer, theta)
        calls: dict[str, Callable[[], float]] = {}
        runs = {}
        for name, options in ROUNDS.items():
            method = methods.load("fipa", **options).bound(problem)
            run = runs[name] = Rounds(problem, method, cpu, theta, time.process_time)
            run.several(WARM)
            calls[name] = partial(one, run)
        settled = next(iter(runs.values())).theta
        for way in peer.steps:
            calls[step_name(way)] = partial(peer.seconds, way, settled, mu)
        seconds = in_turn(calls, turns)
    return entries(problem, seconds, differences)


def step_name(way: str) -> str:
    """Of a step of JAX."""
    return f"JAX, Levenberg-Marquardt, {way}"


def one(run: Rounds) -> float:
    """Seconds of one more round."""
    return float(run.one()[0]["total"])


def damped(
    problem: Problem, peer: Peer, theta: Tensor
) -> tuple[float, dict[str, float]]:
    """mu of JAX's steps, and how far these are from this library's numbers.

    Raises:
        RuntimeError: If a step or the loss there is another.
    """
    system = System(problem, problem.pooled())
    linear = system.linearise(theta)
    jacobian, r = linear.jacobian(), linear.residual
    mu = DAMPING * float(jacobian.square().sum())
    root = mu**0.5 * torch.eye(system.size, dtype=torch.float64)
    right = torch.cat([-r, r.new_zeros(system.size)])
    step = torch.linalg.lstsq(torch.cat([jacobian, root]), right[:, None]).solution
    differences = {}
    for way in peer.steps:
        name = step_name(way)
        found, loss = peer.found(way, theta, mu)
        ours = torch.tensor(system.loss(theta + found), dtype=torch.float64)
        far = max(_difference(found, step[:, 0]), _difference(loss, ours))
        if not far < STEP_CLOSE:
            raise RuntimeError(f"{name}: the step differs by {far:.1e}.")
        differences[name] = far
    return mu, differences


def in_turn(
    calls: Mapping[str, Callable[[], float]], turns: int
) -> dict[str, list[float]]:
    """Seconds of each call, one after the other, again and again."""
    seconds = {name: [call()] for name, call in calls.items()}
    for _ in range(turns - 1):
        for name, call in calls.items():
            seconds[name].append(call())
    return seconds


def entries(
    problem: Problem,
    seconds: Mapping[str, list[float]],
    differences: Mapping[str, float],
) -> list[Entry]:
    """One for each way."""
    sizes = {"parameters": problem.network.size, "rows": problem.pooled().points}
    return [
        {
            **sizes,
            "way": name,
            "seconds": short(min(times)),
            "median": short(median(times)),
            "difference": differences.get(name),
        }
        for name, times in seconds.items()
    ]


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def check(what: str, start: int) -> None:
    """Raise ValueError if this is not measured, or there is no JAX."""
    if what not in CASES:
        raise ValueError(f"Measured is one of {', '.join(CASES)}, not '{what}'.")
    _peer.check()


def measure(what: str, start: int) -> list[Entry]:
    """An entry for each way."""
    _peer.check()
    if what == "laplacian":
        return jacobians(laplacian_problem(900), (1.0,), start, 50)
    measured = jacobians if what == "poisson2d" else rounds
    turns = 15 if what == "poisson2d" else 5
    return measured(problems.load("poisson2d"), (-1.0, 0.0), start, turns)


def tables(found: Sequence[Entry]) -> list[Table]:
    """One for each comparison: the least over all starts, and the median of medians."""
    made = []
    for what, caption in CASES.items():
        lines: list[list[Cell]] = []
        ways = grouped(select(found, what=what), "way")
        if not ways:
            continue
        least = {
            way: min(e["seconds"] for e in several) for way, several in ways.items()
        }
        middle = {
            way: median(e["median"] for e in several) for way, several in ways.items()
        }
        first = min(seconds for way, seconds in least.items() if way.startswith(OURS))
        for way in sorted(least, key=lambda way: least[way]):
            lines.append(
                [
                    way,
                    time_of(least[way]),
                    time_of(middle[way]),
                    f"{least[way] / first:.3g}",
                    len(ways[way]),
                ]
            )
        heads = ["way", "least", "median", "times ours", "starts"]
        made.append(
            Table(f"peer {what}", caption, heads, lines, page="docs/results.md")
        )
    return made


EXPERIMENT = Experiment(
    "peer",
    __doc__,
    ("what", "start"),
    [(what, start) for what in CASES for start in range(3)],
    measure,
    tables,
    page="docs/results.md",
    check=check,
)
