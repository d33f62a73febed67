"""Suite `fipa`: every problem, several methods and starts; records and a table.

Finished runs are kept in the record and not run again, so an interrupted benchmark goes
on where it stopped. FedAvg and its kin take the options that tune_baselines.py found.

    python scripts/benchmark.py                                  # what is missing
    python scripts/benchmark.py --problems sine2 --methods fipa --seeds 5
    python scripts/benchmark.py --table                          # only print
"""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median
from typing import Any

import _common  # before torch, see there
import torch
from tqdm import tqdm

import problems
from fedsciml import methods, run
from fedsciml.record import replace_file

RECORD = Path(__file__).parents[1] / "figures" / "data" / "suite.json"
PROBLEMS = (
    "sine2",
    "sine4",
    "sine8",
    "gaussians2d",
    "poisson1d",
    "allen_cahn",
    "bratu",
    "fisher_kpp",
    "reaction_diffusion",
    "poisson2d",
    "poisson3d",
    "poisson5d",
)
METHODS = ("fipa", "gauss_newton", *_common.TUNED)
CENTRAL: dict[str, dict[str, object]] = {"gauss_newton": {"sketch": "range"}}
"""As accurate as the full SVD, which takes minutes a step in three dimensions."""

Entry = dict[str, Any]
"""A finished run."""


def options_of(problem: str, method: str) -> dict[str, object]:
    """What a method runs with.

    Raises:
        ValueError: If it should be tuned and has not been.
    """
    if method in _common.TUNED:
        return _common.tuned(problem, method)
    return CENTRAL.get(method, {})


def measured(problem: str, method: str, seed: int, rounds: int) -> Entry:
    """One run and what the table needs of it."""
    options = options_of(problem, method)
    made = problems.load(problem)
    result = run(made, methods.load(method, **options), rounds, seed)
    last = result.history[-1]
    ranks = [rank for line in result.history for rank in line["ranks"]]
    relative_l2, mse = result.errors()
    quantity = _common.quantity(made)
    return {
        "problem": problem,
        "method": method,
        "seed": seed,
        "rounds": rounds,
        "options": options,
        "quantity": quantity,
        "relative_l2": relative_l2,
        "mse": mse,
        "errors": [line[quantity] for line in result.history],
        "mean_rank": mean(ranks) if ranks else None,
        "threads": torch.get_num_threads(),
        **{k: last[k] for k in ("bytes_up", "bytes_down", "messages", "seconds")},
    }


def save(entries: list[Entry], path: Path) -> None:
    """Replace the record: one line a run, sorted."""
    lines = sorted(json.dumps(entry) for entry in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, "[\n" + ",\n".join(lines) + "\n]\n")


def table(entries: list[Entry], rounds: int) -> str:
    """Markdown: seed 0 of every method; median and worst over the starts of FIPA."""
    heads = ["problem", "error", *(f"`{m}`" for m in METHODS)]
    heads[3:3] = ["median of starts", "worst", "mean rank", "sent up", "s / round"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for problem in PROBLEMS:
        mine = [e for e in entries if e["problem"] == problem and e["rounds"] == rounds]
        first = {e["method"]: e for e in mine if e["seed"] == 0}
        if "fipa" not in first:
            continue
        fipa, quantity = first["fipa"], first["fipa"]["quantity"]
        starts = [e[quantity] for e in mine if e["method"] == "fipa"]
        cells = [
            problem,
            "MSE" if quantity == "mse" else "relative L2",
            f"**{fipa[quantity]:.1e}**",
            f"{median(starts):.1e} ({len(starts)})",
            f"{max(starts):.1e}",
            f"{fipa['mean_rank']:.0f}",
            _common.size(fipa["bytes_up"]),
            f"{fipa['seconds'] / rounds:.2g}",
        ]
        for method in METHODS[1:]:
            entry = first.get(method)
            cells.append(f"{entry[quantity]:.1e}" if entry else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--seeds", type=int, default=1, help="starts 0, 1, ... of each; default 1"
    )
    parser.add_argument("--rounds", type=int, default=50, help="default 50")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side; default 1"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of each run; default 2"
    )
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    entries: list[Entry] = []
    if todo.out.is_file():
        entries = json.loads(todo.out.read_text())
    keys = [
        (problem, method, seed, todo.rounds)
        for seed in range(todo.seeds)
        for problem in todo.problems
        for method in todo.methods
    ]

    def key(entry: Entry) -> tuple[str, str, int, int]:
        return entry["problem"], entry["method"], entry["seed"], entry["rounds"]

    if todo.fresh:
        entries = [entry for entry in entries if key(entry) not in keys]
    done = {key(entry) for entry in entries}
    missing = []
    for k in keys if not todo.table else ():
        try:
            options_of(*k[:2])
        except ValueError as error:
            print(f"Left out: {error}", file=sys.stderr)
        else:
            missing += [k] if k not in done else []
    pool = ProcessPoolExecutor(
        todo.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(todo.threads,),
    )
    with pool:
        futures = [pool.submit(measured, *k) for k in missing]
        for future in tqdm(as_completed(futures), "runs", len(futures)):
            try:
                entries.append(future.result())
            except FloatingPointError as error:
                print(f"Diverged: {error}", file=sys.stderr)
            else:
                save(entries, todo.out)
    print(table(entries, todo.rounds))


if __name__ == "__main__":
    main()
