"""The benchmark: every problem of a suite, every method, several starts.

Each run makes --rounds rounds; methods with cheap rounds go on until they have computed
for --budget seconds, so that they are seen at as many bytes and seconds as the others.
Finished runs are kept in the record and not made again, also not when their options
would now be others (--fresh): an interrupted benchmark goes on where it stopped.
Methods with options take those that tune_baselines.py found. The tables
(docs/benchmark.md, figures/tables/*.tex) and the figures are drawn from the record.

    python scripts/benchmark.py fipa-1d --jobs 2              # an hour of two cores
    python scripts/benchmark.py fipa --problems sine2 --methods fipa fedavg --seeds 5
    python scripts/benchmark.py fipa --table                  # only write the tables
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import _common  # before torch, see there
import _tables
import torch
from _common import SUITE, Entry, short
from _tables import Runs, Table

import problems
from fedsciml import methods, run
from fedsciml.problem import Problem
from fedsciml.record import Line, replace_file

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "suite.json"
AUTHORS = ROOT / "figures" / "data" / "published.json"
"""Best errors of the authors' own program, run on two cores."""

RIVALS = (
    "fedprox",
    "scaffold",
    "fedadam",
    "feddyn",
    "fedpm",
    "fedpm_foof",
    "fedfisher_kfac",
    "fedfisher_diagonal",
    "fedfisher_oneshot",
    "gradient_only",
)
"""Federated methods beside FIPA, as published and not, and FedAvg."""

SUITES = {
    "fipa": SUITE,
    "fipa-1d": tuple(n for n in SUITE if n[-2:] not in ("2d", "3d", "5d")),
}
KEY = ("problem", "method", "seed", "rounds", "budget")


@dataclass(frozen=True)
class Row:
    """A method as the benchmark runs it.

    Attributes:
        method: Its name in ``fedsciml.methods``; empty for DeepXDE's own training.
        options: What it is made with, whatever the search found.
        tuned: Name under which the search has its options; empty if it was not
            searched for.
        rounds: If the method has a fixed number of them.
        budget: Seconds until which it goes on unless told otherwise.
    """

    method: str
    options: dict[str, object] = field(default_factory=dict)
    tuned: str = ""
    rounds: int = 0
    budget: float = 0.0


ONE_SHOT: dict[str, object] = {"fisher": "kfac", "tau": 3000, "server_steps": 2000}
"""Each client to its optimum, or nearly; the server's steps as in the paper."""

ROWS: dict[str, Row] = {
    "fipa": Row("fipa"),
    "gauss_newton": Row("gauss_newton", {"sketch": "range"}),
    "fipa_paper": Row("fipa_paper"),
    "fedavg": Row("fedavg", tuned="fedavg"),
    "fedprox": Row("fedprox", tuned="fedprox"),
    "scaffold": Row("scaffold", tuned="scaffold"),
    "fedadam": Row("fedadam", tuned="fedadam"),
    "feddyn": Row("feddyn", tuned="feddyn"),
    "fedpm": Row("fedpm", tuned="fedpm"),
    "fedpm_foof": Row("fedpm", {"preconditioner": "foof"}),
    "fedfisher_kfac": Row("fedfisher", {"fisher": "kfac"}, tuned="fedfisher"),
    "fedfisher_diagonal": Row("fedfisher", {"fisher": "diagonal"}, tuned="fedfisher"),
    "fedfisher_oneshot": Row("fedfisher", ONE_SHOT, tuned="fedfisher", rounds=1),
    "gradient_only": Row("gradient_only", budget=20.0),
    "local_only": Row("gauss_newton", {"sketch": "range"}),
    "deepxde": Row("", budget=60.0),
    "deepxde_nncg": Row("", budget=60.0),
    "adam": Row("adam", {"learning_rate": 3e-3}),
    "lbfgs": Row("lbfgs"),
}
"""Full SVD is as accurate for gauss_newton, and takes minutes a step in 3-D. Adam has
the best rate of 1e-3, 3e-3 and 1e-2 on sine2 and allen_cahn."""

REGRESSION: dict[str, object] = {"tau": 20, "rank": "20", "step": 0.5}
LINE: dict[str, object] = {"tau": 100, "rank": "20", "step": 0.3}
SPACE: dict[str, object] = {"tau": 300, "rank": "200", "step": 0.5}
PUBLISHED: dict[str, dict[str, object]] = {
    **dict.fromkeys(SUITE, LINE),
    **dict.fromkeys(("sine2", "sine4", "sine8", "gaussians2d"), REGRESSION),
    "poisson2d": {"tau": 300, "rank": "50", "step": 0.3},
    "poisson3d": SPACE,
    "poisson5d": SPACE,
}
"""The settings of arXiv 2601.13608; Adam with 1e-4 throughout."""


def options_of(problem: str, row: str) -> dict[str, object]:
    """What a method is made with.

    Raises:
        ValueError: If it should be tuned and has not been.
    """
    found = ROWS[row]
    options = _common.tuned(problem, found.tuned) if found.tuned else {}
    if row == "fipa_paper":
        options = PUBLISHED[problem]
    return {**options, **found.options}


def measured(problem: str, method: str, seed: int, rounds: int, budget: float) -> Entry:
    """One run and what tables and figures need of it."""
    made = problems.load(problem)
    quantity = _common.quantity(made)
    if method == "local_only":
        parts = [made.alone(client) for client in range(made.clients)]
        history = averaged([trained(p, method, seed, rounds, budget) for p in parts])
    else:
        history = trained(made, method, seed, rounds, budget)
    shown = [history[k] for k in thinned(len(history))]
    return {
        **dict(zip(KEY, (problem, method, seed, rounds, budget), strict=True)),
        "options": options_of(problem, method),
        "quantity": quantity,
        "parameters": made.network.size,
        "clients": made.clients,
        "threads": torch.get_num_threads(),
        "round": [line["round"] for line in shown],
        "error": [short(line[quantity]) for line in shown],
        "bytes": [line["bytes_up"] + line["bytes_down"] for line in shown],
        "seconds": [short(line["seconds"]) for line in shown],
        "epochs": epochs(history, shown),
        "rank": [short(mean(line["ranks"])) for line in shown if line["ranks"]],
    }


def trained(
    problem: Problem, row: str, seed: int, rounds: int, budget: float
) -> list[Line]:
    """The history of a run: so many rounds at least, and so many seconds.

    Of a run that diverges, the rounds before.
    """
    found = ROWS[row]
    if not found.method:
        return yardstick(problem.name, row, seed, budget)
    method = methods.load(found.method, **options_of(problem.name, row))

    def enough(history: list[Line]) -> bool:
        spent = history[-1]["seconds"] >= budget or found.rounds > 0
        return len(history) >= (found.rounds or rounds) and spent

    longest = 10**6 if budget else rounds
    history: list[Line] = []
    try:
        run(
            problem,
            method,
            longest,
            seed,
            stop=enough,
            clock=time.process_time,
            progress=history.append,
        )
    except FloatingPointError as error:
        if not history:
            raise
        print(f"Diverged: {error}", file=sys.stderr)
    return history


def yardstick(problem: str, row: str, seed: int, budget: float) -> list[Line]:
    """DeepXDE's history; an epoch is an iteration, a round a hundred or of NNCG one."""
    from _deepxde_yardstick import trained as by_deepxde  # its import takes seconds

    lines = by_deepxde(problem, seed, budget, nncg=row == "deepxde_nncg")
    before = [0, *(line["iterations"] for line in lines)]
    nothing: Line = {"bytes_up": 0, "bytes_down": 0, "ranks": []}
    return [
        {**line, **nothing, "epochs": line["iterations"] - done}
        for line, done in zip(lines, before, strict=False)
    ]


def averaged(histories: Sequence[Sequence[Line]]) -> list[Line]:
    """The mean errors and ranks of parties that train alone, and their seconds' sum."""
    shortest = min(len(history) for history in histories)
    result = []
    for lines in zip(*(history[:shortest] for history in histories), strict=True):
        means = {k: mean(line[k] for line in lines) for k in ("relative_l2", "mse")}
        ranks = [rank for line in lines for rank in line["ranks"]]
        seconds = sum(line["seconds"] for line in lines)
        result.append({**lines[0], **means, "ranks": ranks, "seconds": seconds})
    return result


def thinned(rounds: int) -> list[int]:
    """Which of many rounds are kept: the first 60, then one in fifty of those so far.

    And the last, always.
    """
    kept = list(range(min(rounds, 60)))
    while kept[-1] < rounds - 1:
        kept.append(min(rounds - 1, kept[-1] + 1 + kept[-1] // 50))
    return kept


def epochs(history: Sequence[Line], shown: Sequence[Line]) -> list[int]:
    """Local epochs of a client so far, at the rounds shown."""
    total, at = 0, {}
    for line in history:
        total += line["epochs"]
        at[line["round"]] = total
    return [at[line["round"]] for line in shown]


def longest(entries: Sequence[Entry]) -> list[Entry]:
    """Of the runs from the same start, the one that went on longest."""
    found: dict[tuple[Any, ...], Entry] = {}
    for entry in sorted(entries, key=lambda e: (e["round"][-1], e["seconds"][-1])):
        found[tuple(entry[key] for key in KEY[:3])] = entry
    return list(found.values())


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All tables of a record."""
    runs, names = Runs(longest(entries)), list(ROWS)
    authors = json.loads(AUTHORS.read_text())
    found = [
        _tables.overview(runs, RIVALS),
        _tables.matrix(runs, names),
        _tables.against(runs),
        _tables.published(runs, authors),
    ]
    return found + [_tables.detail(runs, name, names) for name in runs.problems]


def publish(found: Sequence[Table]) -> None:
    """Put the tables where README, docs and papers take them from."""
    for table in found:
        place = ROOT / "figures" / "tables" / f"{table.name}.tex"
        place.parent.mkdir(exist_ok=True)
        replace_file(place, table.latex())
        page = "README.md" if table.name == "overview" else "docs/benchmark.md"
        _tables.paste(ROOT / page, table.name, table.markdown())


def main() -> None:
    """Run what is missing, write and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suite", choices=SUITES, metavar="SUITE", help=", ".join(SUITES)
    )
    parser.add_argument("--problems", nargs="+", choices=SUITE, metavar="NAME")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="NAME",
        help=f"default all: {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="starts 0, 1, ... of each; default 3"
    )
    parser.add_argument("--rounds", type=int, default=50, help="default 50")
    parser.add_argument(
        "--budget",
        type=float,
        help="seconds of computing until which a run goes on after its rounds; default "
        "a method's own: 20 of gradient_only, 60 of DeepXDE, of the others 0",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side; default 1"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of each run; default 1"
    )
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    budgets = {
        name: row.budget if todo.budget is None else todo.budget
        for name, row in ROWS.items()
    }
    pairs = []
    wanted = todo.problems or SUITES[todo.suite]
    for problem in () if todo.table else wanted:
        for method in todo.methods:
            try:
                options_of(problem, method)
            except ValueError as error:
                print(f"Left out: {error}", file=sys.stderr)
            else:
                pairs.append((problem, method))
    keys = [
        (problem, method, seed, todo.rounds, budgets[method])
        for seed in range(todo.seeds)  # the first start of everything first
        for problem, method in pairs
    ]
    entries = _common.completed(
        todo.out,
        KEY,
        keys,
        measured,
        todo.jobs,
        todo.threads,
        todo.fresh,
    )
    found = tables(entries)
    if todo.out == RECORD:
        publish(found)
    for table in found[:4]:
        print(f"\n{table.caption}\n\n{table.markdown()}")


if __name__ == "__main__":
    main()
