"""What the parts of a round of FIPA cost, against parameters p, rows n and clients M.

One of the three is changed at a time, on two problems, by the width of the hidden
layers, the factor of the published points, or the number of strips. CPU seconds of
everybody together: those of all clients, one after the other, and of the server. Each
is the median of some rounds after a few first ones. `n` counts the rows of all clients.

Jacobian          residual and Jacobian of the clients
range finder      their sketches of it
merge and solve   the server's decomposition of the merged sketch, and its steps
probe             the clients' losses and targets at the steps
total             the whole round
centralised SVD   a whole step of Gauss-Newton by the full SVD of the pooled Jacobian,
                  from where FIPA stands; against M it is there once, for M = 1, as it
                  knows no clients; left out where it would take minutes

    python scripts/benchmark_cost.py              # 5 minutes of one core
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import _common  # before torch, see there
import torch
from _common import Entry, short
from benchmark_speed import Federation

import problems
from fedsciml import methods
from fedsciml.problem import Problem

RECORD = Path(__file__).parents[1] / "figures" / "data" / "cost.json"
PARAMETER = {"p": "width", "n": "points", "M": "clients"}
"""Of a problem: what changes p, n or M."""

AXES: dict[str, dict[str, tuple[float, ...]]] = {
    "allen_cahn": {
        "p": (8, 16, 32, 64, 128),
        "n": (0.25, 0.5, 1, 2, 4, 8, 16),
        "M": (1, 2, 4, 8, 16, 32, 64),
    },
    "poisson2d": {
        "p": (8, 16, 32, 64),
        "n": (0.25, 0.5, 1, 2, 4),
        "M": (1, 2, 4, 8, 16),
    },
}
"""Values of the parameters; 32, 1 and 2 are the published ones."""

PHASES = {
    "Jacobian": ("linearise", "jacobian"),
    "range finder": ("sketch",),
    "merge and solve": ("solve",),
    "probe": ("probe",),
    "total": ("total",),
}
"""Parts of a round, of the phases that a ``Federation`` tells apart."""

CENTRAL = "centralised SVD"
LARGEST = 1.2e11
"""Beyond n p min(n, p) of this size no full SVD: minutes."""

WARM = 5
REPEATS = 5
BUDGET = 5.0
"""Seconds after which nothing is repeated any more."""


def parts(problem: Problem, central: bool) -> dict[str, float]:
    """Seconds of each part of a round; with the centralised step where asked for."""
    cpu = torch.device("cpu")
    clock = time.process_time
    federation = Federation(problem, methods.load("fipa"), cpu, clock=clock)
    federation.rounds(WARM)
    theta = federation.state.theta
    lines, _ = federation.rounds(REPEATS, BUDGET)
    seconds = {
        part: median(sum(line.get(phase, 0.0) for phase in phases) for line in lines)
        for part, phases in PHASES.items()
    }
    if central:
        method = methods.load("gauss_newton")
        steps, _ = Federation(problem, method, cpu, theta, clock).rounds(3, BUDGET)
        seconds[CENTRAL] = median(line["total"] for line in steps)
    return seconds


def measured(name: str, axis: str, value: float) -> list[Entry]:
    """The parts of a round for one value of p, n or M, an entry each."""
    problem = problems.load(name, **{PARAMETER[axis]: value})
    p, n = problem.network.size, problem.pooled().points
    feasible = n * p * min(n, p) <= LARGEST
    central = feasible and (axis != "M" or problem.clients == 1)
    sizes = {"p": p, "n": n, "M": problem.clients}
    return [
        {"problem": name, "axis": axis, "value": value, **sizes}
        | {"part": part, "seconds": short(seconds)}
        for part, seconds in parts(problem, central).items()
    ]


def main() -> None:
    """Measure what is missing, one value after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=[*AXES], default=[*AXES])
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--fresh", action="store_true", help="measure again")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    torch.set_num_threads(todo.threads)
    cases = [
        (problem, axis, value)
        for problem in todo.problems
        for axis, values in AXES[problem].items()
        for value in values
    ]
    entries: list[Entry] = (
        json.loads(todo.out.read_text()) if todo.out.is_file() else []
    )

    def key(entry: Entry) -> tuple[str, str, float]:
        return entry["problem"], entry["axis"], entry["value"]

    if todo.fresh:
        entries = [entry for entry in entries if key(entry) not in cases]
    done = {key(entry) for entry in entries}
    for case in cases:
        if case not in done:
            entries += measured(*case)
            _common.keep(todo.out, entries)
    print(f"{todo.out}: {len(entries)} timings.")


if __name__ == "__main__":
    main()
