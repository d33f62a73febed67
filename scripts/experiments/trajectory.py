r"""How far FIPA's trajectory is from centralised Gauss-Newton's, and what decides it.

Both start from theta_0 and take theta += t D with the same fixed damping mu and length
t, without a look at the loss: an undamped trajectory is chaotic, this one is a smooth
map. After every round the distance of theta, of the function on the test points, both
relative, and both losses; less than all rounds where FIPA diverged. Swept, one at a
time, about eight minutes:

rank           singular vectors that every client sends
tau            epochs of local training. `linearised`: of 1/2 |B D - c|^2 from D = 0,
               which leads to the exact step; `true`: of the client's own loss, whose
               minimum is elsewhere. SGD with the step 1 / s_1^2, Adam with 1e-3
clients        strips of equal width
heterogeneity  four clients, from strips to interleaved pieces
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf, isfinite

import torch
from torch import Tensor

from experiments._drawing import Drawing, chosen
from experiments._experiment import Case, Experiment
from experiments._record import Entry, grouped, select
from experiments._trajectories import KEY, LEAST, descended, policy, short, trajectory
from experiments._words import title
from fedsciml import plot, problems
from fedsciml.collocation import heterogeneity
from fedsciml.linalg.ranks import AboveCutoff, Schedule
from fedsciml.linalg.ranks import Fixed as Rank
from fedsciml.methods import Local, Method, Parts, train
from fedsciml.methods._fipa import Fipa, Memory, Opening, Sketched
from fedsciml.methods.fedavg import FedAvg
from fedsciml.plot import Curve, Panel
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem
from fedsciml.residual import System

DAMPING = 1e-3
"""mu, relative to the largest eigenvalue of J^T J at the start."""

ROUNDS = 30
FULL = "full rank"
LOW = 5
"""Rank that truncates, in the sweeps of clients and heterogeneity."""

POINTS = {"poisson2d": 0.25}
"""Factor of the points, for time."""

RANKS = {
    "allen_cahn": (2, 5, 10, 15, 20, 40),
    "sine4": (2, 5, 10, 15, 20, 40),
    "poisson2d": (10, 20, 40, 80, 160),
}
EPOCHS = {
    "sgd, linearised": (1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
    "adam, linearised": (1, 3, 10, 30, 100, 300, 1000),
    "sgd, true": (1, 3, 10, 30, 100),
    "adam, true": (1, 3, 10, 30, 100),
}
PARTITIONS = ("strips", *(f"pieces:{k}" for k in (2, 4, 8, 16, 32)))
KINDS = (FULL, f"rank {LOW}", "fedavg, exact steps")
SWEEPS = [
    *(("tau", tau, kind) for kind, epochs in EPOCHS.items() for tau in epochs),
    *(("heterogeneity", word, kind) for kind in KINDS for word in PARTITIONS),
    *(("clients", 2**m, kind) for kind in KINDS[:2] for m in range(1, 7)),
]
CASES: list[Case] = [
    *(
        (problem, "rank", rank, "exact steps")
        for problem, ranks in RANKS.items()
        for rank in (*ranks, FULL)
    ),
    *((problem, *of) for problem in ("allen_cahn", "sine4") for of in SWEEPS),
]
WORDS = {"clients": "clients", "heterogeneity": "heterogeneity", "tau": "local epochs"}
GAP = "relative gap in function values"
LABELS = {
    "adam, linearised": "Adam, linear model",
    "adam, true": "Adam, network",
    "sgd, linearised": "descent, linear model",
    "sgd, true": "descent, network",
    "fedavg, exact steps": "mean of exact steps",
}
"""Of kinds of local steps."""


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
        answer, memory = self._sketch(system, ask, memory)
        factor, target = answer.factor, answer.target
        training, share = self.training, system.shard.share
        if training.solver == "sgd":
            rate = share / float(factor[0] @ factor[0])
            training = replace(training, learning_rate=rate)
        if not self.linearised:
            desired = factor @ train(system, ask.theta, training, None)[0]
        elif training.solver == "sgd":
            relative = factor.square().sum(1) * training.learning_rate / share
            desired = target * descended(relative, training.epochs)
        else:
            desired = factor @ adam(factor, target, share, training)
        return replace(answer, desired=desired), memory


def adam(factor: Tensor, target: Tensor, share: float, local: Local) -> Tensor:
    """Adam on 1/2 |B D - c|^2 / share from D = 0, shape [p]."""
    step = torch.zeros_like(factor[0])
    optimiser = torch.optim.Adam([step], local.learning_rate)
    for _ in range(local.epochs):
        step.grad = (factor @ step - target) @ factor / share
        optimiser.step()
    return step


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


def functions(problem: Problem, thetas: Iterable[Tensor]) -> Iterable[Tensor]:
    """u on the test points, for each theta."""
    assert problem.test_points is not None
    for theta in thetas:
        yield problem.network(theta, problem.test_points)


def measure(problem: str, sweep: str, value: float | str, kind: str) -> Entry:
    """Two trajectories and their distance, round by round."""
    options: dict[str, object] = {"points": POINTS.get(problem, 1.0)}
    if sweep == "clients":
        options["clients"] = value
    elif sweep == "heterogeneity":
        options |= {"clients": 4, "partition": value}
    made = problems.load(problem, **options)
    steps = policy(made, DAMPING)
    central = Fipa(steps, name="gauss_newton", pooled=True)
    exact, loss_gn = trajectory(made, central, ROUNDS)
    found, loss = trajectory(made, federated(steps, sweep, value, kind), ROUNDS)
    held = [torch.cat([rows.points for rows in s.rows]) for s in made.shards()]
    return {
        "points": options["points"],
        "heterogeneity": short([heterogeneity(held)])[0],
        "theta": relative(found, exact),
        "function": relative(functions(made, found), functions(made, exact)),
        "loss": short(loss),
        "loss_gn": short(loss_gn),
    }


def gaps(entries: Sequence[Entry]) -> plot.Figure:
    """How far from the centralised trajectory, by round and by rank."""
    ranks = chosen(entries, sweep="rank")
    names = sorted({e["problem"] for e in ranks})
    parts = [by_round(select(ranks, problem=name)) for name in swept(entries)]
    ends = against(ranks, "problem", names)
    room = (1.5, 1e4)
    parts.append(Panel("all problems, last round", "rank", GAP, ends, xlim=room))
    return plot.panels(parts, 3, height=2.2)


def clients(entries: Sequence[Entry]) -> plot.Figure:
    """The last gap against the number of clients and their heterogeneity."""
    return by_sweep(entries, ("clients", "heterogeneity"))


def epochs(entries: Sequence[Entry]) -> plot.Figure:
    """The last gap against local epochs."""
    return by_sweep(entries, ("tau",))


def by_sweep(entries: Sequence[Entry], sweeps: tuple[str, ...]) -> plot.Figure:
    """The last gap against the values of sweeps: a row per problem, or one."""
    found = chosen(entries, sweep=sweeps)
    kinds = sorted({e["kind"] for e in found})
    parts = []
    for problem, sweep in product(swept(entries), sweeps):
        runs = select(found, problem=problem, sweep=sweep)
        if runs:
            curves = against(runs, "kind", kinds)
            parts.append(Panel(title(problem), WORDS[sweep], GAP, curves))
    return plot.panels(parts, 2, height=2.2, legend="below")


def swept(entries: Sequence[Entry]) -> list[str]:
    """Problems of which more than the rank was varied."""
    return list(grouped(select(entries, sweep=tuple(WORDS)), "problem"))


def by_round(entries: Sequence[Entry]) -> Panel:
    """The gap after each round, for all ranks tried on a problem."""
    curves = []
    for k, e in enumerate(sorted(entries, key=size)):
        label = e["value"] if size(e) == inf else f"rank {e['value']}"
        gap = [max(value, LEAST) for value in e["function"]]
        curves.append(Curve(label, range(1, len(gap) + 1), gap, k, k))
    problem = title(entries[0]["problem"]) if entries else ""
    room = (0, 1.7 * max((len(curve.x) for curve in curves), default=1))
    return Panel(problem, "round", GAP, curves, xscale="linear", xlim=room)


def size(entry: Entry) -> float:
    """The value of a sweep as a number; a word is beyond all numbers."""
    value = entry.get("heterogeneity") if entry["sweep"] == "heterogeneity" else None
    value = entry["value"] if value is None else value
    return float(value) if isinstance(value, int | float) else inf


def against(entries: Sequence[Entry], key: str, labels: Sequence[str]) -> list[Curve]:
    """The last gap by the value of the sweep; where that is a word, a level.

    Trajectories that ran away before have none.

    Args:
        entries: Of a sweep.
        key: The field that tells the curves apart.
        labels: Its values in all the panels; each has one look.
    """
    curves = []
    width = sorted(x for e in entries if isfinite(x := size(e)))
    rounds = max(len(e["function"]) for e in entries)
    for label, runs in grouped(entries, key).items():
        number = labels.index(label)
        ended = [e for e in runs if len(e["function"]) == rounds]
        last = sorted((size(e), max(e["function"][-1], LEAST)) for e in ended)
        found = [(x, y) for x, y in last if isfinite(x)]
        at, gap = [x for x, _ in found], [y for _, y in found]
        words = LABELS.get(label, label) if key == "kind" else title(label)
        curves.append(Curve(words, at, gap, number, number, number + 1))
        for _, y in last[len(found) :]:
            curves.append(Curve("", [width[0], width[-1]], [y] * 2, number, 3))
    return curves


EXPERIMENT = Experiment(
    "trajectory",
    __doc__,
    KEY,
    CASES,
    measure,
    drawings={
        "trajectory-gap": Drawing(
            gaps,
            "How far what FIPA trains is from the function of centralised "
            "Gauss-Newton, by round and at the end, by rank.",
        ),
        "trajectory-clients": Drawing(
            clients, "The same at the end, against clients and their heterogeneity."
        ),
        "trajectory-epochs": Drawing(
            epochs, "The same at the end, against the local epochs of inexact steps."
        ),
    },
)
