"""The benchmark: every problem of a suite, every method, several starts.

Each run makes --rounds rounds; methods with cheap rounds go on until they have computed
for --budget seconds, so that they are seen at as many bytes and seconds as the others.
Finished runs are kept in the record and not made again, also not when their options
would now be others (--fresh): an interrupted benchmark goes on where it stopped.
Methods with options take those that tune_baselines.py found. The tables
(docs/benchmark.md, figures/tables/*.tex) and the figures are drawn from the record.

    python scripts/benchmark.py fipa-1d --jobs 2              # an hour of two cores
    python scripts/benchmark.py fedpinn --jobs 2              # an hour or two
    python scripts/benchmark.py fipa --problems sine2 --methods fipa fedavg --seeds 5
    python scripts/benchmark.py fipa --table                  # only write the tables
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import _common  # before torch, see there
import _tables
import torch
from _common import Entry, short
from _suites import (
    ASKED,
    FEDAVG,
    RIVALS,
    ROWS,
    SOUGHT,
    SUITES,
    load,
    options_of,
    rounds_of,
)
from _tables import Runs, Table
from _tables_suites import reached

import problems
from fedsciml import methods, run
from fedsciml.federation.history import Round
from fedsciml.federation.record import replace_file
from fedsciml.problem import Problem

ROOT = Path(__file__).parents[1]
AUTHORS = ROOT / "figures" / "data" / "published.json"
"""Best errors of the authors' own program, run on two cores."""

PAGES = {
    "overview": "README.md",
    "fedpinn": "docs/problems.md",
    "extra": "docs/problems.md",
    "deepxde": "docs/deepxde.md",
    "deepxde-unknowns": "docs/deepxde.md",
}
"""Where a table is shown, if not in docs/benchmark.md."""

ERRORS = ("relative_l2", "mse")

KEY = ("problem", "method", "seed", "rounds", "budget")


def measured(problem: str, method: str, seed: int, rounds: int, budget: float) -> Entry:
    """One run and what tables and figures need of it."""
    made = load(problem)
    ours = problem.partition(":")[0] in FEDAVG  # those suites know one measure
    quantity = "relative_l2" if ours else _common.quantity(made)
    if method == "local_only":
        parts = [made.alone(client) for client in range(made.clients)]
        history = averaged(
            [trained(p, method, seed, rounds, budget, problem) for p in parts]
        )
    else:
        history = trained(made, method, seed, rounds, budget, problem)
    shown = [history[k] for k in thinned(len(history))]
    each = history[-1].errors

    def found(line: Round) -> float:
        sought = SOUGHT.get(made.name)
        return float(line.errors[sought] if sought else getattr(line, quantity))

    return {
        **dict(zip(KEY, (problem, method, seed, rounds, budget), strict=True)),
        "options": options_of(problem, method),
        "quantity": quantity,
        "parameters": made.network.size,
        "clients": made.clients,
        "threads": torch.get_num_threads(),
        "round": [line.round for line in shown],
        "error": [short(found(line)) for line in shown],
        "bytes": [line.bytes_up + line.bytes_down for line in shown],
        "seconds": [short(line.seconds) for line in shown],
        "epochs": epochs(history, shown),
        "rank": [short(mean(line.ranks)) for line in shown if line.ranks],
        "each": {k: short(v) for k, v in each.items() if math.isfinite(v)},
    }


def trained(
    problem: Problem, row: str, seed: int, rounds: int, budget: float, name: str
) -> list[Round]:
    """The history of a run: so many rounds at least, and so many seconds.

    Of a run that diverges, the rounds before.
    """
    found, least = ROWS[row], rounds_of(name, row, rounds)
    if not found.method:
        return yardstick(name, row, seed, budget)
    method = methods.load(found.method, **options_of(name, row))

    def enough(history: list[Round]) -> bool:
        spent = history[-1].seconds >= budget or found.rounds > 0
        return len(history) >= least and spent

    longest = 10**6 if budget else least
    history: list[Round] = []
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


def yardstick(problem: str, row: str, seed: int, budget: float) -> list[Round]:
    """DeepXDE's history; an epoch is an iteration, a round a hundred or of NNCG one."""
    from _deepxde_yardstick import trained as by_deepxde  # its import takes seconds

    lines = by_deepxde(problem, seed, budget, nncg=row == "deepxde_nncg")
    before = [0, *(line["iterations"] for line in lines)]
    return [
        Round(
            line["round"],
            line["loss"],
            epochs=line["iterations"] - done,
            relative_l2=line["relative_l2"],
            mse=line["mse"],
            seconds=line["seconds"],
        )
        for line, done in zip(lines, before, strict=False)
    ]


def averaged(histories: Sequence[Sequence[Round]]) -> list[Round]:
    """The mean errors and ranks of parties that train alone, and their seconds' sum."""
    shortest = min(len(history) for history in histories)
    result = []
    for lines in zip(*(history[:shortest] for history in histories), strict=True):
        each = [line.errors for line in lines if line.errors]
        result.append(
            replace(
                lines[0],
                **{k: mean(getattr(line, k) for line in lines) for k in ERRORS},
                errors={k: mean(e[k] for e in each) for k in (each[0] if each else ())},
                ranks=tuple(rank for line in lines for rank in line.ranks),
                seconds=sum(line.seconds for line in lines),
            )
        )
    return result


def thinned(rounds: int) -> list[int]:
    """Which of many rounds are kept: the first 60, then one in fifty of those so far.

    And the last, always.
    """
    kept = list(range(min(rounds, 60)))
    while kept[-1] < rounds - 1:
        kept.append(min(rounds - 1, kept[-1] + 1 + kept[-1] // 50))
    return kept


def epochs(history: Sequence[Round], shown: Sequence[Round]) -> list[int]:
    """Local epochs of a client so far, at the rounds shown."""
    total, at = 0, {}
    for line in history:
        total += line.epochs
        at[line.round] = total
    return [at[line.round] for line in shown]


def longest(entries: Sequence[Entry]) -> list[Entry]:
    """Of the runs from the same start, the one that went on longest."""
    found: dict[tuple[Any, ...], Entry] = {}
    for entry in sorted(entries, key=lambda e: (e["round"][-1], e["seconds"][-1])):
        found[tuple(entry[key] for key in KEY[:3])] = entry
    return list(found.values())


def tables(entries: Sequence[Entry], suite: str = "fipa") -> list[Table]:
    """All tables of a record."""
    if suite not in ("fipa", "fipa-1d"):
        problems, rounds = SUITES[suite].problems, SUITES[suite].rounds
        return [reached(suite, problems, longest(entries), ASKED, rounds)]
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
        page = PAGES.get(table.name, "docs/benchmark.md")
        _tables.paste(ROOT / page, table.name, table.markdown())


def main() -> None:
    """Run what is missing, write and print the tables."""
    todo = arguments()
    suite = SUITES[todo.suite]
    rounds, methods = todo.rounds or suite.rounds, todo.methods or suite.methods
    record = todo.out or suite.record
    budgets = {
        name: row.budget if todo.budget is None else todo.budget
        for name, row in ROWS.items()
    }
    pairs = []
    for problem in () if todo.table else todo.problems or suite.problems:
        for method in methods:
            try:
                options_of(problem, method)
            except ValueError as error:
                print(f"Left out: {error}", file=sys.stderr)
            else:
                pairs.append((problem, method))
    keys = [
        (problem, method, seed, rounds, budgets[method])
        for seed in range(todo.seeds)  # the first start of everything first
        for problem, method in pairs
    ]
    entries = _common.completed(
        record,
        KEY,
        keys,
        measured,
        todo.jobs,
        todo.threads,
        todo.fresh,
    )
    found = tables(entries, todo.suite)
    if record == suite.record:
        publish(found)
    for table in found[:4]:
        print(f"\n{table.caption}\n\n{table.markdown()}")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("suite", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    add(
        "--problems",
        nargs="+",
        metavar="NAME",
        help="default those of the suite; NAME:KEY=VALUE,... sets arguments of make()",
    )
    add(
        "--methods",
        nargs="+",
        choices=ROWS,
        metavar="NAME",
        help=f"of {', '.join(ROWS)}; default all for suite fipa, for the others fipa, "
        "gauss_newton and fedavg with its published setting",
    )
    add("--seeds", type=int, default=3, help="starts 0, 1, ... of each; default 3")
    add("--rounds", type=int, help="default 50 for suite fipa, 100 for the others")
    add(
        "--budget",
        type=float,
        help="seconds of computing until which a run goes on after its rounds; default "
        "a method's own: 20 of gradient_only, 60 of DeepXDE, of the others 0",
    )
    add("--jobs", type=int, default=1, help="runs side by side; default 1")
    add("--threads", type=int, default=1, help="threads of each run; default 1")
    add("--fresh", action="store_true", help="run again what is there")
    add("--table", action="store_true", help="only write the tables")
    add("--out", type=Path, help="the record; default the suite's in figures/data")
    todo = parser.parse_args()
    for problem in todo.problems or ():
        try:
            problems.summary(problem.partition(":")[0])
        except ValueError as error:
            parser.error(str(error))
    return todo


if __name__ == "__main__":
    main()
