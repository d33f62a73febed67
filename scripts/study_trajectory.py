r"""How far FIPA's trajectory is from centralised Gauss-Newton's, and what decides it.

Both start from theta_0 and take theta += t D with the same fixed damping mu and length
t, without a look at the loss: an undamped trajectory is chaotic, this one is a smooth
map. After every round the distance of theta, of the function on the test points, both
relative, and both losses; less than all rounds where FIPA diverged. Swept, one at a
time:

rank           singular vectors that every client sends
tau            epochs of local training. `linearised`: of 1/2 |B D - c|^2 from D = 0,
               which leads to the exact step; `true`: of the client's own loss, whose
               minimum is elsewhere. SGD with the step 1 / s_1^2, Adam with 1e-3
clients        strips of equal width
heterogeneity  four clients, from strips to interleaved pieces

    python scripts/study_trajectory.py            # about 8 minutes: what is missing
    python scripts/study_trajectory.py --problems sine4 --sweeps rank
"""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import _common  # before torch, see there
import torch
from _common import Entry
from torch import Tensor

import problems
from fedsciml.collocation import heterogeneity
from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.ranks import AboveCutoff, Schedule
from fedsciml.linalg.ranks import Fixed as Rank
from fedsciml.methods import Local, Method, Parts, conclude, train
from fedsciml.methods.fedavg import FedAvg
from fedsciml.methods.fipa import Fipa, Memory, Opening, Sketched
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem
from fedsciml.residual import System

RECORD = Path(__file__).parents[1] / "figures" / "data" / "trajectory.json"
KEY = ("problem", "sweep", "value", "kind")
DAMPING = 1e-3
"""mu, relative to the largest eigenvalue of J^T J at the start."""

LENGTH = 0.5
ROUNDS = 30
PROBLEMS = ("allen_cahn", "sine4")
FULL = "full rank"
LOW = 5
"""Rank that truncates, in the sweeps of clients and heterogeneity."""

POINTS = {"poisson2d": 0.25}
"""Factor of the points, for time."""

RANKS = {"poisson2d": (10, 20, 40, 80, 160)}
"""Others take 2, 5, ..., 40."""

EPOCHS = {
    "sgd, linearised": (1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
    "adam, linearised": (1, 3, 10, 30, 100, 300, 1000),
    "sgd, true": (1, 3, 10, 30, 100),
    "adam, true": (1, 3, 10, 30, 100),
}
PARTITIONS = ("strips", *(f"pieces:{k}" for k in (2, 4, 8, 16, 32)))


@dataclass(frozen=True)
class Inexact(Fipa):
    """FIPA whose clients train from theta, afresh in every round.

    Args:
        training: Solver and epochs; the learning rate of sgd is 1 / s_1^2.
        linearised: Train on 1/2 |B D - c|^2 instead of the client's loss.
    """

    training: Local = field(default_factory=Local)
    linearised: bool = True

    @property
    def client(self) -> Parts:
        """As FIPA's, but for the sketch."""
        return {**super().client, Opening: self._aimed}

    def _aimed(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Sketched, Memory]:
        """The sketch, and B delta."""
        upload, memory = self._sketch(system, ask, memory)
        factor, target = upload.factor, upload.target
        training, share = self.training, system.shard.share
        if training.solver == "sgd":
            rate = share / float(factor[0] @ factor[0])
            training = replace(training, learning_rate=rate)
        if not self.linearised:
            delta, _, _ = train(system, ask.theta, training, None)
            aim = factor @ delta
        elif training.solver == "sgd":
            relative = factor.square().sum(1) * training.learning_rate / share
            aim = target * descended(relative, training.epochs)
        else:
            aim = factor @ adam(factor, target, share, training)
        return replace(upload, desired=aim), memory


def descended(relative: Tensor, epochs: int) -> Tensor:
    """What gradient descent has done of each direction: 1 - (1 - eta lambda)^tau.

    Args:
        relative: eta lambda in [0, 1] of each eigenvalue, any shape.
        epochs: tau.
    """
    return -torch.expm1(epochs * torch.log1p(-relative.clamp(max=1)))


def adam(factor: Tensor, target: Tensor, share: float, local: Local) -> Tensor:
    """Adam on 1/2 |B D - c|^2 / share from D = 0, shape [p]."""
    step = torch.zeros_like(factor[0])
    optimiser = torch.optim.Adam([step], local.learning_rate)
    for _ in range(local.epochs):
        step.grad = (factor @ step - target) @ factor / share
        optimiser.step()
    return step


def trajectory(
    problem: Problem, method: Method, rounds: int
) -> tuple[list[Tensor], list[float]]:
    """Where a method stands after each round from start 0, and the losses there.

    It ends early where the loss is no longer finite.
    """
    clients = InProcess().connect(problem, method)
    whole = System(problem, problem.pooled())
    state = method.start(started(problem), 0)
    points: list[Tensor] = []
    losses: list[float] = []
    for _ in range(rounds):
        state, _ = conclude(method.round(state), clients.exchange)
        loss = whole.loss(state.point)
        if not math.isfinite(loss):
            break
        points.append(state.point)
        losses.append(loss)
    return points, losses


def started(problem: Problem) -> Tensor:
    """theta of start 0, shape [p]."""
    return problem.network.init(torch.Generator().manual_seed(0), torch.float64)


def policy(problem: Problem, length: float, damping: float) -> Fixed:
    """A step that is always the same, damped relative to s_1^2 at the start."""
    pooled = System(problem, problem.pooled())
    jacobian = pooled.linearise(started(problem)).jacobian()
    top = float(torch.linalg.matrix_norm(jacobian, 2))
    return Fixed(length, damping * top**2, 0.0)


def federated(steps: Fixed, sweep: str, value: float | str, kind: str) -> Method:
    """The method of an entry."""
    if kind.startswith("fedavg"):
        # The client's loss over its share, plus mu/2 |D|^2: the centralised step
        # where all clients have the same rows.
        local = Local("gauss_newton", 1, damping=0.0, proximal=steps.damping)
        return FedAvg(local, steps.length)
    if sweep == "tau":
        solver, _, loss = kind.partition(", ")
        local = Local("adam" if solver == "adam" else "sgd", int(value), 1e-3)
        return Inexact(steps, training=local, linearised=loss == "linearised")
    low = value if sweep == "rank" else kind.removeprefix("rank ")
    rank: Schedule = AboveCutoff() if low == FULL else Rank(int(low))
    return Fipa(steps, rank)


def relative(found: Iterable[Tensor], exact: Iterable[Tensor]) -> list[float]:
    """|a - b| / |b|, pair by pair, as far as ``found`` goes."""
    pairs = zip(found, exact, strict=False)
    return short(float((a - b).norm() / b.norm()) for a, b in pairs)


def short(values: Iterable[float]) -> list[float]:
    """The values with four digits."""
    return [_common.short(value) for value in values]


def functions(problem: Problem, thetas: Iterable[Tensor]) -> Iterable[Tensor]:
    """u on the test points, for each theta."""
    assert problem.test_points is not None
    for theta in thetas:
        yield problem.network(theta, problem.test_points)


def measured(problem: str, sweep: str, value: float | str, kind: str) -> Entry:
    """Two trajectories and their distance, round by round."""
    options: dict[str, object] = {"points": POINTS.get(problem, 1.0)}
    if sweep == "clients":
        options["clients"] = value
    elif sweep == "heterogeneity":
        options |= {"clients": 4, "partition": value}
    made = problems.load(problem, **options)
    steps = policy(made, LENGTH, DAMPING)
    central = Fipa(steps, name="gauss_newton", pooled=True)
    exact, loss_gn = trajectory(made, central, ROUNDS)
    found, loss = trajectory(made, federated(steps, sweep, value, kind), ROUNDS)
    held = [torch.cat([rows.points for rows in s.rows]) for s in made.shards()]
    return {
        **dict(zip(KEY, (problem, sweep, value, kind), strict=True)),
        "points": options["points"],
        "heterogeneity": short([heterogeneity(held)])[0],
        "theta": relative(found, exact),
        "function": relative(functions(made, found), functions(made, exact)),
        "loss": short(loss),
        "loss_gn": short(loss_gn),
    }


def keys(problem: str) -> list[tuple[str, str, float | str, str]]:
    """The entries wanted of a problem."""
    ranks = RANKS.get(problem, (2, 5, 10, 15, 20, 40))
    wanted: list[tuple[str, float | str, str]]
    wanted = [("rank", rank, "exact steps") for rank in (*ranks, FULL)]
    if problem in PROBLEMS:
        for kind, epochs in EPOCHS.items():
            wanted += [("tau", tau, kind) for tau in epochs]
        kinds = (FULL, f"rank {LOW}", "fedavg, exact steps")
        for kind in kinds:
            wanted += [("heterogeneity", word, kind) for word in PARTITIONS]
        for kind in kinds[:2]:
            wanted += [("clients", 2**m, kind) for m in range(1, 7)]
    return [(problem, *rest) for rest in wanted]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = (*PROBLEMS, *POINTS)
    parser.add_argument("--problems", nargs="+", choices=usual, default=usual)
    sweeps = ("rank", "tau", "clients", "heterogeneity")
    parser.add_argument("--sweeps", nargs="+", choices=sweeps, default=sweeps)
    parser.add_argument("--jobs", type=int, default=1, help="side by side; default 1")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    wanted = [k for name in todo.problems for k in keys(name) if k[1] in todo.sweeps]
    entries = _common.completed(
        todo.out, KEY, wanted, measured, todo.jobs, 1, todo.fresh
    )
    print(f"{todo.out}: {len(entries)} entries; draw it by make figures.")


if __name__ == "__main__":
    main()
