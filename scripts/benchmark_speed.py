"""How fast it is: Jacobians beside other ways to get them; where a round's time goes.

Four tables. The formulations of the first are checked to give the same numbers before
they are timed, in the same process, one after the other in turn; the second to fourth
time rounds of FIPA as ``run`` does them:

1. residual with Jacobian of a 2-D Laplacian: this library, three formulations in
   torch.func, and nested autograd row by row, as DeepXDE gets derivatives;
2. a round of FIPA, phase by phase, from the state after some warm-up rounds;
3. rounds with 2 and 8 clients beside a step of centralised Gauss-Newton by full SVD;
4. wide networks.

On a busy machine the least of several timings says more than the median; both are
recorded, and the tables show the least.

    python scripts/benchmark_speed.py                     # minutes
    python scripts/benchmark_speed.py --quick             # half a minute, rougher
    python scripts/benchmark_speed.py --device cuda       # up to 1e5 parameters
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import _common  # noqa: F401 - before torch, see there
import torch
from torch import Generator, Tensor
from torch.func import grad_and_value, hessian, jvp, vmap
from tqdm import tqdm

import problems
from fedsciml import MLP, Problem, Term, methods
from fedsciml.collocation import strips, uniform
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.record import environment, replace_file
from fedsciml.methods import Info, Method, Record, conclude
from fedsciml.methods.fipa import Probe
from fedsciml.residual import JetBlock, Linearisation, System

OUT = Path(__file__).parents[1] / "figures" / "data" / "speed.json"
PROBLEMS = ("poisson1d", "allen_cahn", "poisson2d", "poisson3d")
PHASES = ("linearise", "jacobian", "sketch", "solve", "probe")
BUDGET = 5.0
"""Seconds after which a timing is not repeated any more."""

Entry = dict[str, Any]
"""A row of a table."""


class Clock:
    """Wall-clock seconds that count what the device still has to do."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        """Now."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


# --- 1. Residual with Jacobian --------------------------------------------------------


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


# --- 2. to 4. Rounds ------------------------------------------------------------------


@contextmanager
def added(
    owner: type, name: str, clock: Callable[[], float], seconds: Entry, key: str
) -> Iterator[None]:
    """Add what a method of a class takes to ``seconds[key]``."""
    original = getattr(owner, name)

    def timed(*arguments: object) -> object:
        begin = clock()
        result = original(*arguments)
        seconds[key] = seconds.get(key, 0.0) + clock() - begin
        return result

    with patch.object(owner, name, timed):
        yield


class Federation:
    """Rounds of a method on a problem, timed phase by phase, by the device's clock."""

    def __init__(
        self,
        problem: Problem,
        method: Method,
        device: torch.device,
        theta: Tensor | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.method, self.clock = method, clock or Clock(device)
        self.clients = InProcess().connect(problem, method, device)
        start = problem.network.init(Generator().manual_seed(0), torch.float64)
        if theta is not None:
            start = theta
        self.state = method.start(start.to(device), 0)

    def round(self) -> tuple[Entry, Info]:
        """Seconds in each phase of one more round, and what it reports."""
        seconds: Entry = {}
        clock = self.clock

        def answered(ask: Record) -> dict[int, Record]:
            begin = clock()
            answers = self.clients.exchange(ask)
            key = "probe" if isinstance(ask, Probe) else "sketch"
            seconds[key] = seconds.get(key, 0.0) + clock() - begin
            return answers

        begin = clock()
        with ExitStack() as stack:
            for owner, name, key in (
                (JetBlock, "linearise", "linearise"),
                (Linearisation, "jacobian", "jacobian"),
            ):
                stack.enter_context(added(owner, name, clock, seconds, key))
            self.state, info = conclude(self.method.round(self.state), answered)
        seconds["total"] = clock() - begin
        clients = seconds["sketch"] + seconds.get("probe", 0.0)
        seconds["solve"] = seconds["total"] - clients
        seconds["sketch"] -= seconds.get("linearise", 0) + seconds.get("jacobian", 0)
        return seconds, info

    def rounds(
        self, most: int, budget: float = float("inf")
    ) -> tuple[list[Entry], Info]:
        """Up to so many rounds, at least one, and no more once the budget is spent."""
        lines: list[Entry] = []
        begin = time.perf_counter()
        while not lines or (len(lines) < most and time.perf_counter() - begin < budget):
            line, info = self.round()
            lines.append(line)
        return lines, info


def summary(name: str, federation: Federation, warm: int, most: int) -> Entry:
    """Timings of ``most`` rounds after ``warm`` rounds: mean of each phase."""
    federation.rounds(warm)
    lines, info = federation.rounds(most)
    systems = federation.clients.systems
    theta = federation.state.theta
    return {
        "problem": name,
        "clients": len(systems),
        "parameters": len(theta),
        "rows": sum(len(system.residual(theta)) for system in systems),
        "ranks": info.ranks,
        "loss": info.loss,
        "warm_rounds": warm,
        "rounds": len(lines),
        **{p: mean(line.get(p, 0.0) for line in lines) for p in PHASES},
        "mean": mean(line["total"] for line in lines),
        "median": median(line["total"] for line in lines),
        "seconds": min(line["total"] for line in lines),
    }


def compared(name: str, device: torch.device, warm: int, most: int) -> list[Entry]:
    """Rows of tables 2 and 3 for a problem."""
    entries = []
    for clients in (2, 8):
        problem = problems.load(name, clients=clients)
        federation = Federation(problem, methods.load("fipa"), device)
        entries.append(summary(name, federation, warm, most))
        if clients == 2:
            theta = federation.state.theta
    central = Federation(problem, methods.load("gauss_newton"), device, theta)
    lines, _ = central.rounds(4, BUDGET)
    times = [line["total"] for line in lines]
    step = {"problem": name, "clients": 1, "mean": mean(times), "median": median(times)}
    return [*entries, {**step, "seconds": min(times), "rounds": len(times)}]


def wide(width: int, sketch: str, device: torch.device) -> Entry:
    """A row of table 4: poisson2d with three wide hidden layers."""
    problem = problems.load("poisson2d", width=width)
    federation = Federation(problem, methods.load("fipa", sketch=sketch), device)
    return summary(f"poisson2d, width {width}, {sketch}", federation, 3, 3)


def import_seconds() -> float:
    """What ``import fedsciml`` takes when torch is there already: least of 5."""
    code = (
        "import torch, time; begin = time.perf_counter(); import fedsciml; "
        "print(time.perf_counter() - begin)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
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


# --- Output ---------------------------------------------------------------------------


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def time_of(seconds: float) -> str:
    """Seconds for people: ``2.1 ms``."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def report(result: Entry) -> str:
    """All tables."""

    def numbers(e: Entry) -> tuple[str, str]:
        return f"{e['ratio']:.3g}", f"{e['difference']:.0e}"

    parts = ["Residual with Jacobian, 2-32-32-1 (p = 1185), 900 rows, 2-D Laplacian:"]
    parts.append(
        table(
            ["way", "time", "times ours", "difference"],
            [
                [e["way"], time_of(e["seconds"]), *numbers(e)]
                for e in result["jacobians"]
            ],
        )
    )
    federated = [e for e in result["rounds"] if e["clients"] > 1] + result["wide"]
    parts.append("A round of FIPA: mean of each phase, of the round, and the least:")
    parts.append(
        table(
            ["problem", "p", "rows", "clients", "ranks", *PHASES, "round", "least"],
            [
                [str(e[k]) for k in ("problem", "parameters", "rows", "clients")]
                + [f"{min(e['ranks'])} to {max(e['ranks'])}"]
                + [time_of(e[k]) for k in (*PHASES, "mean", "seconds")]
                for e in federated
            ],
        )
    )
    parts.append("Beside a step of centralised Gauss-Newton by full SVD, the least:")
    lines = []
    for name in dict.fromkeys(e["problem"] for e in result["rounds"]):
        found = {e["clients"]: e for e in result["rounds"] if e["problem"] == name}
        times = {clients: entry["seconds"] for clients, entry in found.items()}
        lines.append(
            [name, *(time_of(times[c]) for c in (1, 2, 8))]
            + [f"{times[1] / times[c]:.2g}" for c in (2, 8)]
        )
    heads = ["problem", "Gauss-Newton", "2 clients", "8 clients"]
    parts.append(table([*heads, "ratio, 2", "ratio, 8"], lines))
    seconds = result["import_seconds"]
    parts.append(f"`import fedsciml` takes {time_of(seconds)} beyond torch.")
    return "\n\n".join(parts)


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add("--threads", type=int, default=2, help="CPU threads; default 2")
    add("--quick", action="store_true", help="fewer repeats, no 3-D, nothing wide")
    add("--json", action="store_true", help="print the record instead of tables")
    add("--out", type=Path, default=OUT, help=f"the record; default {OUT}")
    todo = parser.parse_args()
    if todo.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; leave out --device")
    if todo.threads < 1:
        parser.error(f"at least 1 thread is needed, got {todo.threads}")
    torch.set_num_threads(todo.threads)
    device = torch.device(todo.device)
    names = PROBLEMS[:3] if todo.quick else PROBLEMS
    warm, most = (3, 3) if todo.quick else (10, 10)
    widths = [] if todo.quick else [(70, "range")]  # p = 10221
    if device.type == "cuda":
        widths += [(222, "range"), (222, "subspace")]  # p = 99901
    result: Entry = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "quick": todo.quick,
        **environment(),
        "rounds": [],
        "wide": [],
    }
    with tqdm(total=2 + len(names) + len(widths), unit="stage") as bar:

        def stage(name: str) -> None:
            bar.set_description(name)

        stage("jacobians")
        result["jacobians"] = jacobians(device, todo.quick)
        bar.update()
        for name in names:
            stage(name)
            result["rounds"] += compared(name, device, warm, most)
            bar.update()
        for width, sketch in widths:
            stage(f"width {width}, {sketch}")
            result["wide"].append(wide(width, sketch, device))
            bar.update()
        stage("import")
        result["import_seconds"] = import_seconds()
        bar.update()
    todo.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(todo.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if todo.json else report(result))


if __name__ == "__main__":
    main()
