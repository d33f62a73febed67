"""Peak memory of whole rounds, beside what the process has before.

Two clients and the server in one process, which is a new one for each case. What it
holds when the problem and the clients are made is not counted: the interpreter, torch,
all points. What is counted is the most that it ever holds in some rounds beyond that,
as Linux tells it; elsewhere by ``ru_maxrss``, which also knows peaks of before.

The library states how many bytes of Jacobian it holds at once, ``bound``. A quarter of
an hour of one core: most of it are the million rows.
"""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments._experiment import Experiment
from experiments._record import Entry
from experiments._rounds import Rounds
from experiments._table import Cell, Table, time_of
from fedsciml import methods, problems
from fedsciml.methods._sketching import LARGEST_JACOBIAN

CASES = [
    ("poisson2d", 1.0, 32, "own", 10),
    ("poisson2d", 1.0, 32, "shared", 10),
    ("poisson2d", 2.0, 222, "own", 3),
    ("poisson2d", 2.0, 222, "shared", 3),
    ("poisson2d", 192.31, 32, "own", 2),
    ("poisson2d", 192.31, 32, "shared", 2),
]
"""Problem, factor of the published points, width, basis, rounds: p = 2241 with 5200
rows, p = 99,901 with 10,400, and p = 2241 with 1e6."""


class Peak:
    """The most memory that this process holds from now on, beyond what it holds now."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            self._kept = True
        except OSError:
            self._kept = False
        self._before = self._bytes("VmRSS")

    def bytes(self) -> int:
        """So far."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, field: str) -> int:
        if self._kept:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(
                1024 * int(line.split()[1]) for line in lines if line.startswith(field)
            )
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def measure(problem: str, points: float, width: int, basis: str, rounds: int) -> Entry:
    """Bytes of some rounds, from the start of a run."""
    made, cpu = problems.load(problem, points=points, width=width), torch.device("cpu")
    method = methods.load("fipa", basis=basis).bound(made)
    run = Rounds(made, method, cpu, clock=time.process_time)
    peak = Peak()
    lines, info = run.several(rounds)
    p, n = made.network.size, made.pooled().points
    return {
        "parameters": p,
        "rows": n,
        "clients": made.clients,
        "ranks": info.ranks,
        "jacobian": 8 * n * p,
        "peak": peak.bytes(),
        "bound": LARGEST_JACOBIAN,
        "seconds": max(line["total"] for line in lines),
    }


def tables(entries: Sequence[Entry]) -> list[Table]:
    """A line for each case."""
    lines: list[list[Cell]] = [
        [e["problem"], e["parameters"], e["rows"], e["basis"], e["rounds"]]
        + [f"{min(e['ranks'])} to {max(e['ranks'])}"]
        + [mebibytes(e[k]) for k in ("jacobian", "bound", "peak")]
        + [time_of(e["seconds"])]
        for e in sorted(entries, key=lambda e: (e["jacobian"], e["basis"]))
    ]
    caption = (
        "Peak memory of rounds beside the process, MiB: the Jacobian of all rows, the "
        "bound that the library states, and what was held; longest round, CPU time:"
    )
    heads = ["problem", "p", "rows", "basis", "rounds", "ranks", "Jacobian", "bound"]
    heads += ["peak", "round"]
    return [Table("memory", caption, heads, lines, page="docs/results.md")]


def mebibytes(number: int) -> str:
    """Of bytes."""
    return f"{number / 2**20:.0f}"


EXPERIMENT = Experiment(
    "memory",
    __doc__,
    ("problem", "points", "width", "basis", "rounds"),
    CASES,
    measure,
    tables,
    page="docs/results.md",
    apart=True,
)
