"""Error against the number of clients, and against how much their points differ.

More and more strips; and four clients whose pieces interleave, from one strip each to
hardly any difference. FIPA beside FedAvg with the options of tune_baselines.py, and
beside centralised Gauss-Newton, which knows no clients. The points do not depend on
the partition. The error is the relative L2 error, of a regression the root of the mean
squared one. Finished runs are kept in the record and not run again.

FedAvg costs a gradient for each round, client and local epoch. It makes 50 rounds too,
but with fewer local epochs than were found best where that would be more than 12000
gradients; the record says how many (`options`). On poisson2d a gradient takes 20 ms,
and FedAvg is left out.

    python scripts/benchmark_clients.py                 # 9 minutes of one core
    python scripts/benchmark_clients.py --problems sine4 --methods fipa
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean

import _common  # before torch, see there
import torch
from _common import Entry, short
from experiments._runs import root as error
from experiments._suites import options_of

import problems
from fedsciml import methods, run
from fedsciml.collocation import heterogeneity

RECORD = Path(__file__).parents[1] / "figures" / "data" / "clients.json"
KEY = ("problem", "method", "clients", "partition", "seed", "rounds")
EPOCHS = 12_000
"""The most local epochs of a run of FedAvg, of all rounds and clients together."""

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


def measured(
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
    history = run(made, loaded, rounds, seed, clock=time.process_time).history
    quantity = _common.quantity(made)
    found = [short(error(line, quantity)) for line in history]
    ranks = [rank for line in history for rank in line.ranks]
    last = history[-1]
    points = [shard.rows[0].points for shard in made.shards()]
    return {
        **dict(
            zip(KEY, (problem, method, clients, partition, seed, rounds), strict=True)
        ),
        "heterogeneity": short(heterogeneity(points)),
        "options": options,
        "quantity": quantity,
        "error": found[-1],
        "errors": found,
        "bytes": last.bytes_up + last.bytes_down,
        "mean_rank": short(mean(ranks)) if ranks else None,
        "seconds": short(last.seconds),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names, rivals = (sorted(set(part)) for part in zip(*SWEEPS, strict=True))
    parser.add_argument("--problems", nargs="+", choices=names, default=names)
    parser.add_argument("--methods", nargs="+", choices=rivals, default=rivals)
    _common.add_runs(parser, RECORD)
    todo = parser.parse_args()
    keys = [
        (problem, method, *case, sweep.rounds)
        for (problem, method), sweep in SWEEPS.items()
        if problem in todo.problems and method in todo.methods
        for case in sweep.cases()
    ]
    entries = _common.completed(
        todo.out, KEY, keys, measured, todo.jobs, todo.threads, todo.fresh
    )
    seconds = sum(entry["seconds"] for entry in entries)
    print(f"{todo.out}: {len(entries)} runs, {seconds:.0f} s of computing.")


if __name__ == "__main__":
    main()
