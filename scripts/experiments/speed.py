"""Where the time goes, beside other ways to get a Jacobian.

All ways are timed in the same process, one after the other in turn; the second to
fourth time rounds of FIPA as ``run`` does them:

1. residual with Jacobian of a 2-D Laplacian: this library, three formulations in
   torch.func, and nested autograd row by row, as DeepXDE gets derivatives;
2. a round of FIPA, phase by phase, from the state after some warm-up rounds;
3. rounds with 2 and 8 clients beside a step of centralised Gauss-Newton by full SVD;
4. a wide network; wider ones, on a GPU, are in ``wide``.

On a busy machine the least of several timings says more than the median; both are
recorded, and the tables show the least. Minutes; with quick=true half a minute and
rougher, without what is 3-D or wide.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import mean, median

import torch
from torch import Generator, Tensor
from torch.func import grad_and_value, hessian, jvp, vmap

from experiments._experiment import Experiment
from experiments._record import ROOT, Entry, grouped
from experiments._rounds import PHASES, Clock, Rounds
from experiments._table import Cell, Table, time_of
from fedsciml import MLP, Problem, Term, methods, problems
from fedsciml.collocation import strips, uniform
from fedsciml.residual import System

PROBLEMS = ("poisson1d", "allen_cahn", "poisson2d", "poisson3d")
BUDGET = 5.0
"""Seconds after which a timing is not repeated any more."""


def laplacian_problem(rows: int) -> Problem:
    """Laplace's equation with a 2-32-32-1 network (p = 1185) and no boundary."""
    points = uniform(rows, [0.0, 0.0], [1.0, 1.0], Generator().manual_seed(0))
    # This weight of the term makes that of a row 1.
    term = Term("pde", lambda u, row: u.laplacian, points, weight=float(rows))
    return Problem(
        "laplacian", MLP((2, 32, 32, 1)), [term], strips([0, 1]), coordinates="xy"
    )


def formulations(
    network: MLP, x: Tensor
) -> dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Other ways to the Laplacian [n] at points [n, 2] and its Jacobian [n, p]."""

    def u(theta: Tensor, point: Tensor) -> Tensor:
        *hidden, (weight, bias) = network.layers(theta)
        for w, b in hidden:
            point = torch.tanh(w @ point + b)
        return (weight @ point + bias)[0]

    def trace_of_hessian(theta: Tensor, point: Tensor) -> Tensor:
        return hessian(u, argnums=1)(theta, point).trace()

    def nested_jvp(theta: Tensor, point: Tensor) -> Tensor:
        def second(direction: Tensor) -> Tensor:
            def first(y: Tensor) -> Tensor:
                return jvp(lambda z: u(theta, z), (y,), (direction,))[1]

            return jvp(first, (point,), (direction,))[1]

        return vmap(second)(torch.eye(2).to(point)).sum()

    def forward_laplacian(theta: Tensor, point: Tensor) -> Tensor:
        *hidden, (weight, _) = network.layers(theta)
        h, slopes, laplacian = point, torch.eye(2).to(point), torch.zeros_like(point)
        for w, b in hidden:
            h, slopes, laplacian = torch.tanh(w @ h + b), slopes @ w.mT, w @ laplacian
            f = 1 - h * h
            laplacian = f * laplacian - 2 * h * f * slopes.square().sum(0)
            slopes = f * slopes
        return (weight @ laplacian)[0]

    def per_point(
        residual: Callable[[Tensor, Tensor], Tensor],
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        both = vmap(grad_and_value(residual), in_dims=(None, 0))

        def rows(theta: Tensor) -> tuple[Tensor, Tensor]:
            jacobian, values = both(theta, x)
            return values, jacobian

        return rows

    return {
        "torch.func: trace of Hessian": per_point(trace_of_hessian),
        "torch.func: nested jvp": per_point(nested_jvp),
        "torch.func: forward Laplacian": per_point(forward_laplacian),
    }


def nested_autograd(network: MLP, x: Tensor, theta: Tensor, rows: int) -> Tensor:
    """The first rows of the Jacobian as DeepXDE's gradients would give them.

    One graph of nested reverse mode for all points, then a backward pass a row.
    """
    leaf = theta.detach().clone().requires_grad_()
    points = x.detach().clone().requires_grad_()

    def slope(values: Tensor) -> Tensor:
        return torch.autograd.grad(values.sum(), points, create_graph=True)[0]

    first = slope(network(leaf, points))
    laplacian = slope(first[:, 0])[:, 0] + slope(first[:, 1])[:, 1]
    return torch.stack(
        [
            torch.autograd.grad(laplacian[i], leaf, retain_graph=True)[0]
            for i in range(rows)
        ]
    )


def jacobians(device: torch.device, quick: bool) -> list[Entry]:
    """Table 1."""
    problem, clock = laplacian_problem(900), Clock(device)
    network = problem.network
    assert isinstance(network, MLP)
    system = System(problem, problem.pooled(), device)
    x = system.shard.rows[0].points.to(device)
    theta = network.init(Generator().manual_seed(0)).to(device)

    def ours(theta: Tensor) -> tuple[Tensor, Tensor]:
        linear = system.linearise(theta)
        return linear.residual, linear.jacobian()

    ways = {"fedsciml": ours, **formulations(network, x)}
    expected = ours(theta)
    differences: dict[str, float] = {}
    for name, way in ways.items():
        pairs = zip(way(theta), expected, strict=True)
        differences[name] = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(15 if quick else 50):
        for name, way in ways.items():
            begin = clock()
            way(theta)
            seconds[name].append(clock() - begin)
    rows = 91 if quick else len(x)
    times = []
    for count in (1, rows):
        begin = clock()
        jacobian = nested_autograd(network, x, theta, count)
        times.append(clock() - begin)
    each = (times[1] - times[0]) / (rows - 1)
    found = {"nested autograd, one graph": (times[0] + each * (len(x) - 1), jacobian)}
    begin = clock()
    single = [nested_autograd(network, point, theta, 1) for point in x[:rows].split(1)]
    each = (clock() - begin) / rows
    found["nested autograd, a graph a row"] = (each * len(x), torch.cat(single))
    wanted = expected[1][:rows]
    for name, (duration, jacobian) in found.items():
        seconds[name] = [duration]
        differences[name] = float((jacobian - wanted).norm() / wanted.norm())
    for name, value in differences.items():
        if not value < 1e-13:
            raise RuntimeError(f"{name} differs from fedsciml by {value:.1e}.")
    best = min(seconds["fedsciml"])
    return [
        {
            "way": name,
            "seconds": min(times),
            "median": median(times),
            "ratio": min(times) / best,
            "difference": differences[name],
            "rows_timed": rows if name in found else len(x),
        }
        for name, times in seconds.items()
    ]


def summary(name: str, rounds: Rounds, warm: int, most: int) -> Entry:
    """Timings of ``most`` rounds after ``warm`` rounds: mean of each phase."""
    rounds.several(warm)
    lines, info = rounds.several(most)
    systems = rounds.clients.systems
    return {
        "problem": name,
        "clients": len(systems),
        "parameters": len(rounds.theta),
        "rows": sum(len(system.residual(rounds.theta)) for system in systems),
        "ranks": info.ranks,
        "loss": info.loss,
        "warm_rounds": warm,
        "rounds": len(lines),
        **{p: mean(line.get(p, 0.0) for line in lines) for p in PHASES},
        **_totals(lines),
    }


def _totals(lines: Sequence[Entry]) -> Entry:
    times = [line["total"] for line in lines]
    return {"mean": mean(times), "median": median(times), "seconds": min(times)}


def compared(name: str, device: torch.device, warm: int, most: int) -> list[Entry]:
    """Rounds of 2 and of 8 clients, and a centralised step where the 2 end."""
    fipa = methods.load("fipa")
    two, eight = (Rounds(problems.load(name, clients=m), fipa, device) for m in (2, 8))
    entries = [summary(name, rounds, warm, most) for rounds in (two, eight)]
    method = methods.load("gauss_newton")
    lines, _ = Rounds(two.problem, method, device, two.theta).several(4, BUDGET)
    step = {"problem": name, "clients": 1, **_totals(lines), "rounds": len(lines)}
    return [*entries, step]


def wide(width: int, device: torch.device) -> Entry:
    """Rounds on poisson2d with three wide hidden layers."""
    problem = problems.load("poisson2d", width=width)
    rounds = Rounds(problem, methods.load("fipa"), device)
    return summary(f"poisson2d, width {width}, range", rounds, 3, 3)


def import_seconds() -> float:
    """What ``import fedsciml`` takes when torch is there already: least of 5."""
    code = (
        "import torch, time; begin = time.perf_counter(); import fedsciml; "
        "print(time.perf_counter() - begin)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environ,
            check=True,
            capture_output=True,
            text=True,
        )
        for _ in range(5)
    ]
    return min(float(run.stdout) for run in runs)


def check(device: str, quick: bool = False) -> None:
    """Raise ValueError if there is no such device."""
    if device not in ("cpu", *["cuda"] * torch.cuda.is_available()):
        raise ValueError(f"There is no device '{device}' here.")


def measure(device: str, quick: bool) -> Entry:
    """All timings on a device."""
    place, few = torch.device(device), 3 if quick else 10
    widths = [] if quick else [70]  # p = 10221
    names = PROBLEMS[:3] if quick else PROBLEMS
    return {
        "processor": torch.cuda.get_device_name() if place.type == "cuda" else "cpu",
        "rounds": [e for name in names for e in compared(name, place, few, few)],
        "wide": [wide(width, place) for width in widths],
        "jacobians": jacobians(place, quick),
        "import_seconds": import_seconds(),
    }


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Ways to a Jacobian, phases of a round, and rounds beside Gauss-Newton."""
    (result,) = entries[-1:]
    ways: list[list[Cell]] = [
        [e["way"], time_of(e["seconds"]), f"{e['ratio']:.3g}", f"{e['difference']:.0e}"]
        for e in result["jacobians"]
    ]
    phases: list[list[Cell]] = [
        [e[k] for k in ("problem", "parameters", "rows", "clients")]
        + [f"{min(e['ranks'])} to {max(e['ranks'])}"]
        + [time_of(e[k]) for k in (*PHASES, "mean", "seconds")]
        for e in result["rounds"] + result["wide"]
        if e["clients"] > 1
    ]
    beside: list[list[Cell]] = []
    for name, found in grouped(result["rounds"], "problem").items():
        least = {e["clients"]: e["seconds"] for e in found}
        ratios = (f"{least[1] / least[m]:.2g}" for m in (2, 8))
        beside.append([name, *(time_of(least[m]) for m in (1, 2, 8)), *ratios])
    captions = (
        "Residual with Jacobian, 2-32-32-1 (p = 1185), 900 rows, 2-D Laplacian:",
        "A round of FIPA: mean of each phase, of the round, and the least:",
        "Beside a step of centralised Gauss-Newton by full SVD, the least; `import "
        f"fedsciml` takes {time_of(result['import_seconds'])} beyond torch:",
    )
    heads = (
        ["way", "time", "times ours", "difference"],
        ["problem", "p", "rows", "clients", "ranks", *PHASES, "round", "least"],
        ["problem", "Gauss-Newton", "2 clients", "8 clients", "ratio, 2", "ratio, 8"],
    )
    parts = zip(captions, heads, (ways, phases, beside), strict=True)
    return [Table("speed", *part) for part in parts]


EXPERIMENT = Experiment(
    "speed",
    __doc__,
    ("device", "quick"),
    [("cpu", False)],
    measure,
    tables,
    page="docs/results.md",
    check=check,
)
