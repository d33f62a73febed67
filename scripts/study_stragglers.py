"""Clients that are missing: how far FIPA gets without them, and with stand-ins.

Five clients, strips of the domain. Two of them are gone for ten rounds; one is gone for
ever, that in the middle or one at an end, which alone has that end's boundary values;
each is missing at random in a tenth of the rounds. For up to `staleness` rounds
a client's last sketch stands in for it, as if its residual were linear; 0 is the
default, without stand-ins. The error is that on the whole domain, also on the part
whose owner is missing.

The record is `figures/data/stragglers.json`; what is there is not run again. The table
goes to docs/stragglers.md:

    python scripts/study_stragglers.py      # 5 minutes of one core
"""

import argparse
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import _common  # before torch, see there
import torch
from _common import Entry, short
from experiments._table import Table, paste
from torch import Generator

import problems
from fedsciml import methods, run
from fedsciml.federation.inprocess import Local
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.problem import Problem

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "stragglers.json"
DOCS = ROOT / "docs" / "stragglers.md"
KEY = ("problem", "scenario", "staleness", "seed")
PROBLEMS = ("allen_cahn", "heat")
CLIENTS = 5
ROUNDS = 60
SEEDS = (0, 1, 2)
STALENESS = (0, 2, 5, 20)
RATE = 0.1
"""How often a client is missing at random."""

Away = Mapping[int, Container[int]]
"""The rounds in which clients are missing, by client."""


def away(scenario: str, seed: int) -> Away:
    """Who is missing when.

    Raises:
        KeyError: If there is no such scenario.
    """
    generator = Generator().manual_seed(seed)
    missing = torch.rand(CLIENTS, ROUNDS + 1, generator=generator) < RATE
    ever = range(6, ROUNDS + 1)
    return {
        "nobody": {},
        "two for ten rounds": {1: range(6, 16), 3: range(6, 16)},
        "one for ever": {2: ever},
        "an end for ever": {0: ever},
        "at random": {m: row.nonzero()[:, 0].tolist() for m, row in enumerate(missing)},
    }[scenario]


SCENARIOS = (
    "nobody",
    "two for ten rounds",
    "one for ever",
    "an end for ever",
    "at random",
)
"""Who is missing."""

BOUNDS = {
    "nobody": 1e-12,
    "two for ten rounds": 1e-10,
    "one for ever": 1e-9,
    "at random": 1e-10,
}
"""On the last error, as docs/stragglers.md states them."""


class Patchy(Local):
    """Clients of which some are missing in some rounds."""

    def __init__(self, problem: Problem, method: Method, away: Away) -> None:
        super().__init__(problem, method)
        self.away = away

    def here(self, number: int) -> list[int]:
        """Those that are not missing."""
        return [m for m in super().here(number) if number not in self.away.get(m, ())]


@dataclass(frozen=True)
class Connected:
    """A backend of clients that are connected already."""

    clients: Patchy

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Patchy:
        """The clients."""
        del problem, method, device, dtype
        return self.clients


def measured(problem: str, scenario: str, staleness: int, seed: int) -> Entry:
    """One run."""
    made, method = problems.load(problem, clients=CLIENTS), methods.load("fipa")
    history = run(
        made,
        method,
        ROUNDS,
        seed,
        backend=Connected(Patchy(made, method, away(scenario, seed))),
        rules=Rules(min_clients=1, staleness=staleness),
        clock=time.process_time,
    ).history
    errors = [short(line.relative_l2) for line in history]
    return {
        **dict(zip(KEY, (problem, scenario, staleness, seed), strict=True)),
        "missing": sum(len(line.dropped) for line in history),
        "error": errors[-1],
        "errors": errors,
        "seconds": short(history[-1].seconds),
    }


def keys() -> list[tuple[str, str, int, int]]:
    """Of all runs; where nobody is missing, nobody stands in."""
    return [
        (problem, scenario, staleness, seed)
        for seed, problem, scenario in product(SEEDS, PROBLEMS, SCENARIOS)
        for staleness in (STALENESS if scenario != "nobody" else (0,))
    ]


def table(entries: Sequence[Entry]) -> Table:
    """The largest last errors of the starts."""
    heads = ["problem", "missing", "none", *(f"for {s} rounds" for s in STALENESS[1:])]
    rows = [
        [problem, scenario, *(worst(entries, problem, scenario, s) for s in STALENESS)]
        for problem, scenario in product(PROBLEMS, SCENARIOS)
    ]
    return Table("stragglers", "Largest last errors of the starts.", heads, rows)


def worst(
    entries: Sequence[Entry], problem: str, scenario: str, staleness: int
) -> float | None:
    """The largest last error of the starts; None without runs."""
    wanted = (problem, scenario, staleness)
    found = [e["error"] for e in entries if tuple(e[k] for k in KEY[:3]) == wanted]
    return max(found, default=None)


def main() -> None:
    """Run what the record lacks, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    parser.add_argument("--docs", type=Path, default=DOCS, help=f"default {DOCS}")
    todo = parser.parse_args()
    entries = _common.completed(todo.out, KEY, keys(), measured, jobs=1, threads=1)
    paste(todo.docs, "stragglers", table(entries).markdown())


if __name__ == "__main__":
    main()
