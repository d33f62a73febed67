"""Error against the number of clients, and against how much their points differ.

More and more strips; and four clients whose pieces interleave, from one strip each to
hardly any difference. FIPA beside FedAvg with the options of experiment `tuning`, and
beside centralised Gauss-Newton, which knows no clients. The points do not depend on
the partition. The error is the relative L2 error, of a regression the root of the mean
squared one.

FedAvg costs a gradient for each round, client and local epoch. It makes 50 rounds too,
but with fewer local epochs than were found best where that would be more than 12000
gradients; the record says how many (`options`). On poisson2d a gradient takes 20 ms,
and FedAvg is left out.
Nine minutes of one core.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

import torch

from experiments._drawing import Drawing, error_axis, methods_of, styled
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select, short
from experiments._runs import mean_rank, root
from experiments._suites import options_of
from experiments._words import title
from fedsciml import analysis, methods, plot, problems, run
from fedsciml.collocation import heterogeneity
from fedsciml.plot import Curve, Panel

EPOCHS = 12_000
"""The most local epochs of a run of FedAvg, of all rounds and clients together."""

ERRORS = (1e-16, 10.0)
"""What the error axes show."""

INTERLEAVED = 4
"""Clients whose pieces interleave."""


@dataclass(frozen=True)
class Sweep:
    """The runs of a method on a problem.

    Attributes:
        clients: Numbers of strips.
        pieces: Pieces that each of four clients has.
        seeds: Starts.
        rounds: Of each run.
    """

    clients: tuple[int, ...]
    pieces: tuple[int, ...] = ()
    seeds: int = 2
    rounds: int = 50

    def cases(self) -> Iterator[tuple[int, str, int]]:
        """Clients, partition and seed of every run."""
        for seed in range(self.seeds):
            for clients in self.clients:
                yield clients, "strips", seed
            for pieces in self.pieces:
                yield INTERLEAVED, f"pieces:{pieces}", seed


FINE = Sweep((2, 4, 8, 16, 32, 64), (2, 4, 8, 16, 32, 64))
COARSE = Sweep((2, 4, 8, 32), (4, 16, 64), seeds=1)
CENTRAL = Sweep((1,))
SWEEPS = {
    **dict.fromkeys(product(("allen_cahn", "sine4"), ("fipa",)), FINE),
    **dict.fromkeys(product(("allen_cahn", "sine4"), ("fedavg",)), COARSE),
    **dict.fromkeys(product(("allen_cahn", "sine4"), ("gauss_newton",)), CENTRAL),
    ("poisson2d", "fipa"): Sweep((2, 4, 16), (2, 8), seeds=1, rounds=30),
    ("poisson2d", "gauss_newton"): Sweep((1,), seeds=1, rounds=30),
}
"""By problem and method."""


def measure(
    problem: str, method: str, clients: int, partition: str, seed: int, rounds: int
) -> Entry:
    """One run, and what the figure needs of it.

    The heterogeneity is that of the first term's points, those of the equation or the
    data: in 1-D, boundary points are copies of one point and cannot be dealt evenly.
    """
    made = problems.load(problem, clients=clients, partition=partition)
    options = options_of(problem, method)
    if method == "fedavg":
        tau = options["tau"]
        assert isinstance(tau, int)
        options = {**options, "tau": min(tau, EPOCHS // (rounds * clients))}
    loaded = methods.load(method, **options)
    history = run(
        made, loaded, rounds, seed, clock=time.process_time, progress=False
    ).history
    quantity = analysis.quantity(made)
    found = [short(root(line, quantity)) for line in history]
    rank, last = mean_rank(history), history[-1]
    points = [shard.rows[0].points for shard in made.shards()]
    return {
        "heterogeneity": short(heterogeneity(points)),
        "options": options,
        "quantity": quantity,
        "error": found[-1],
        "errors": found,
        "bytes": last.sent,
        "mean_rank": short(rank) if rank else None,
        "seconds": short(last.seconds),
        "threads": torch.get_num_threads(),
    }


def by_clients(entries: Sequence[Entry]) -> plot.Figure:
    """Final error against the clients' number, and against their heterogeneity."""
    above, below = [], []
    for problem, runs in grouped(entries, "problem").items():
        central, strips, mixed = kinds(runs)
        words, error = f"{title(problem)}, {runs[0]['rounds']} rounds", error_axis(runs)
        many = against(strips, "clients", "error", central)
        above.append(Panel(words, "clients", error, many, ylim=ERRORS))
        unlike = against(mixed, "heterogeneity", "error", central)
        label = f"heterogeneity of {mixed[0]['clients']} clients"
        below.append(Panel(words, label, error, unlike, ylim=ERRORS))
    return plot.panels([*above, *below], len(above), height=2.1, legend="below")


def by_bytes(entries: Sequence[Entry]) -> plot.Figure:
    """Bytes of a run against the number of clients."""
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        words = f"{title(problem)}, {runs[0]['rounds']} rounds"
        curves = against(kinds(runs)[1], "clients", "bytes")
        parts.append(Panel(words, "clients", "megabytes, both ways", curves))
    return plot.panels(parts, len(parts), height=2.1, legend="below")


def kinds(runs: Sequence[Entry]) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Runs of one client; of many, a part each; of those whose pieces interleave."""
    central = [e for e in runs if e["clients"] == 1]
    clients = [e for e in runs if e not in central]
    strips = [e for e in clients if e["partition"] in ("strips", "boxes")]
    few = {e["clients"] for e in clients if e not in strips}
    return central, strips, [e for e in clients if e["clients"] in few]


def against(
    entries: Sequence[Entry], x: str, y: str, levels: Sequence[Entry] = ()
) -> list[Curve]:
    """Medians and extremes over the starts of each method; of others a level."""
    unit = 1e-6 if y == "bytes" else 1.0
    curves = []
    for method in methods_of(entries):
        mine = grouped(select(entries, method=method), x)
        values = [[unit * e[y] for e in found] for found in mine.values()]
        ends = [min(v) for v in values], [max(v) for v in values]
        middle = [median(v) for v in values]
        curves.append(styled(method, Curve("", list(mine), middle, band=ends)))
    width = sorted({e[x] for e in entries})
    for method in methods_of(levels):
        level = median(e[y] for e in levels if e["method"] == method)
        curves.append(styled(method, Curve("", [width[0], width[-1]], [level] * 2)))
    return curves


EXPERIMENT = Experiment(
    "clients",
    __doc__,
    ("problem", "method", "clients", "partition", "seed", "rounds"),
    [
        (problem, method, *case, sweep.rounds)
        for (problem, method), sweep in SWEEPS.items()
        for case in sweep.cases()
    ],
    measure,
    drawings={
        "clients-sweep": Drawing(
            by_clients,
            "Final error against the number of clients and against heterogeneity, for "
            "FIPA, FedAvg and centralised Gauss-Newton.",
        ),
        "clients-bytes": Drawing(
            by_bytes,
            "Bytes of the same runs of FIPA and FedAvg against the number of clients.",
        ),
    },
)
